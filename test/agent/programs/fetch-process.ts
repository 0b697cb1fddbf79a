// Fetches one artifact into a folder, as a process that a test can kill: FOLDER, URL of a registry, DIGEST.
import { ArtifactCache } from '../../../src/agent/programs/artifact-cache.ts';
import { encodeSpec } from '../../../src/agent/programs/registry-access.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { HttpRegistry } from '../../../src/platform/registry/http-registry.ts';

const [folder, baseUrl, digest] = process.argv.slice(2) as [string, string, string];
const access = async () => ({ baseUrl, headers: {}, tls: {} });
const registry = new HttpRegistry({ dialect: 'longline', hostId: 'host-1', access, encode: encodeSpec });
const cache = new ArtifactCache({ folder, sources: { registry }, log: silentLogger });
await cache.get(digest, 'registry', new AbortController().signal);
registry[Symbol.dispose]();
