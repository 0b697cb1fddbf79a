// Bundles the command line, for what runs as a service: an agent from source holds the text of all its packages, and of
// Node's type stripping, in memory. What packages load only for things we never ask of them is left out; reaching it says so.
import { join } from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';

/** A module that is left out of the bundle. */
export interface LeftOut {
  /** End of its path below node_modules. */
  readonly path: string;
  /** What it would do, for the error of whoever reaches it. */
  readonly what: string;
}

/** Each is replaced by a function that throws. A path that no package has any more fails the build. */
export const LEFT_OUT: readonly LeftOut[] = [
  { path: 'docker-modem/lib/ssh.js', what: 'reaching a container engine over ssh:// (use unix:// or tcp://)' },
  { path: 'dockerode/lib/session.js', what: 'BuildKit sessions' },
  { path: 'dockerode/lib/buildkit.js', what: 'BuildKit build progress' },
  { path: 'tar-fs/index.js', what: 'packing folders for image builds' },
  { path: '@balena/dockerignore/ignore.js', what: '.dockerignore files of image builds' },
  { path: '@grpc/proto-loader/build/src/index.js', what: 'the channelz service of grpc-js' },
];

/** Node's own module under the name of its older copy; the copy offers the same switch, as an environment variable. */
const NODE_STREAM = /^readable-stream$/;

/**
 * As a module it fetches grpc-js at run time, by a way that no bundler sees, and then has another copy than the rest; the same
 * package in its older form asks for it plainly.
 */
const OTLP_GRPC = '@opentelemetry/otlp-grpc-exporter-base';

/**
 * Modules of Node that have parts which load much when they are first looked at: an import looks at all of them, a require at
 * none. `http` has a WebSocket that brings all of fetch with it, 2 MiB of an idle agent's heap; `crypto` has WebCrypto.
 */
const LAZY_PARTS = /^(node:)?(crypto|http)$/;

/** Text of the module that stands in for one that is left out. */
export function stubOf({ path, what }: LeftOut): string {
  const message = `${what}: not part of this bundle (${path}); run it from source to have it`;
  return `module.exports = () => { throw new Error(${JSON.stringify(message)}); };`;
}

function leaveOut(root: string, found: Set<LeftOut>): Plugin {
  return {
    name: 'leave-out',
    setup: ({ onLoad, onResolve }) => {
      onResolve({ filter: new RegExp(`^${OTLP_GRPC}$`) }, () => ({
        path: join(root, 'node_modules', OTLP_GRPC, 'dist/index.cjs'),
      }));
      onResolve({ filter: NODE_STREAM }, () => ({ path: 'node:stream', external: true }));
      onResolve({ filter: LAZY_PARTS }, ({ kind, path }) =>
        kind === 'import-statement' ? { path, namespace: 'required' } : { path, external: true },
      );
      onLoad({ filter: /./, namespace: 'required' }, ({ path }) => ({
        contents: `module.exports = require(${JSON.stringify(path)});`,
        loader: 'js',
      }));
      onLoad({ filter: /node_modules/ }, ({ path }) => {
        const left = LEFT_OUT.find((one) => path.replaceAll('\\', '/').endsWith(`node_modules/${one.path}`));
        if (left === undefined) return undefined;
        found.add(left);
        return { contents: stubOf(left), loader: 'js' };
      });
    },
  };
}

/**
 * Modules that are imported on demand and would give nothing but a default: in a bundle, names of a CommonJS package are to be had
 * by a plain import only. Node gives them in both ways, so that whoever runs from source sees nothing of it.
 */
function nameless({ outputs }: Metafile): readonly string[] {
  return Object.values(outputs).flatMap(({ entryPoint = '', exports }) =>
    /^(node_modules\/|required:)/.test(entryPoint) && exports.every((name) => name === 'default') ? [entryPoint] : [],
  );
}

/** Writes the bundle of `root` into `folder`; gives the paths of all that went into it, relative to the root. */
export async function writeBundle(root: string, folder: string): Promise<readonly string[]> {
  const found = new Set<LeftOut>();
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['src/cli/main.ts'],
    outbase: 'src',
    outdir: folder,
    bundle: true,
    // Commands stay files of their own that are loaded when they are used.
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    plugins: [leaveOut(root, found)],
    // The text of a program stays in memory as long as it runs. The maps beside it tell what stands in a stack trace.
    minify: true,
    sourcemap: 'external',
    sourcesContent: false,
    legalComments: 'none',
    banner: {
      js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
    },
    metafile: true,
    logLevel: 'warning',
  });
  const unusable = nameless(metafile);
  if (unusable.length > 0)
    throw new Error(
      `a bundle gives no names of ${unusable.join(', ')}; import it plainly, in a file that is imported on demand`,
    );
  const gone = LEFT_OUT.filter((one) => !found.has(one)).map((one) => one.path);
  if (gone.length > 0)
    throw new Error(`deploy/build/bundle.ts leaves out what is not there any more: ${gone.join(', ')}`);
  return Object.keys(metafile.inputs);
}
