// Checks of this host: runtime, user, container engine, control groups, data folder, disk, warm pool's init.
import { access, constants, readFile, stat, statfs } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { dirname } from 'node:path';
import { type CheckResult, resultsOf } from './check.ts';

const OLDEST_NODE = 24;
const ENGINE_LIMIT_MS = 5_000;
const LARGEST_ENGINE_ANSWER = 1024 * 1024;
const LOW_DISK_BYTES = 256 * 1024 ** 2;
const SCARCE_DISK_BYTES = 2 * 1024 ** 3;

/** The Node version. */
export function checkNode(version: string): CheckResult {
  const result = resultsOf('node');
  const major = Number(version.split('.')[0]);
  if (major >= OLDEST_NODE) return result.ok(`Node ${version}`);
  return result.fail(
    `Node ${version} is older than ${OLDEST_NODE}`,
    'start it through deploy/bin/longline after `npm ci`',
  );
}

/** Root or not. */
export function checkUser(uid: number | undefined): CheckResult {
  const result = resultsOf('user');
  if (uid === undefined || uid === 0) return result.ok(uid === 0 ? 'root' : 'no user ids on this system');
  return result.warn(
    `user id ${uid} is not root`,
    'jobs need only access to the engine socket, but networks and eBPF programs need root; run the agent as root or with the unit in deploy/',
  );
}

/** Whether the engine answers, and its version. */
export async function checkEngine(dockerHost: string): Promise<CheckResult> {
  const result = resultsOf('engine');
  const mend =
    'install and start Docker or Podman (apt install docker.io), or name its socket with --docker-host or DOCKER_HOST';
  try {
    await engineGet(dockerHost, '/_ping');
    const version: unknown = JSON.parse((await engineGet(dockerHost, '/version')).toString('utf8'));
    const facts = version as { Version?: string; Components?: { Name?: string }[]; ApiVersion?: string };
    const isPodman = facts.Components?.some((component) => component.Name?.startsWith('Podman')) === true;
    return result.ok(`${isPodman ? 'Podman' : 'Docker'} ${facts.Version}, API ${facts.ApiVersion}, at ${dockerHost}`);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EACCES') {
      return result.fail(
        `${dockerHost} may not be opened by this user`,
        'run as root, or add the user to the group of the socket',
      );
    }
    return result.fail(`no engine answers at ${dockerHost}: ${message}`, mend);
  }
}

async function engineGet(dockerHost: string, path: string): Promise<Buffer> {
  const url = new URL(dockerHost.replace(/^tcp:/, 'http:'));
  if (url.protocol !== 'unix:' && url.protocol !== 'http:') throw new Error(`${url.protocol}// is not checked here`);
  const place = url.protocol === 'unix:' ? { socketPath: url.pathname } : { host: url.hostname, port: url.port };
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const call = request({ ...place, path, timeout: ENGINE_LIMIT_MS, agent: false }, (response) => {
    readAll(response).then(resolve, reject);
  });
  call.on('timeout', () => call.destroy(new Error(`no answer within ${ENGINE_LIMIT_MS / 1000} s`)));
  call.on('error', reject);
  call.end();
  return await promise;
}

async function readAll(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += (chunk as Buffer).length;
    if (size > LARGEST_ENGINE_ANSWER) throw new Error('its answer is too large to be that of an engine');
    chunks.push(chunk as Buffer);
  }
  if (response.statusCode !== 200) throw new Error(`it answered with status ${response.statusCode}`);
  return Buffer.concat(chunks);
}

/** Which version of control groups there is, and whether memory can be limited. */
export async function checkCgroups(root = '/sys/fs/cgroup'): Promise<CheckResult> {
  const result = resultsOf('cgroup');
  const controllers = await readFile(`${root}/cgroup.controllers`, 'utf8').catch(() => undefined);
  if (controllers !== undefined) {
    const missing = ['cpu', 'memory', 'pids'].filter((name) => !controllers.split(/\s+/).includes(name));
    if (missing.length === 0) return result.ok('version 2 with cpu, memory and pids');
    return result.warn(
      `version 2 without ${missing.join(', ')}`,
      'enable the controllers at boot, or jobs run without those limits',
    );
  }
  const missing: string[] = [];
  for (const name of ['cpu', 'memory', 'pids']) await access(`${root}/${name}`).catch(() => missing.push(name));
  if (missing.length === 0) return result.ok('version 1 with cpu, memory and pids');
  return result.warn(
    `no control groups for ${missing.join(', ')} under ${root}`,
    'mount them, or jobs run without those limits',
  );
}

/** Whether the data folder can be written and is private. */
export async function checkDataFolder(path: string): Promise<CheckResult> {
  const result = resultsOf('data folder');
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    if (found.code !== 'ENOENT') return result.fail(`${path}: ${found.message}`, 'let the agent’s user reach it');
    const parent = await existingParent(path);
    const writable = await access(parent, constants.W_OK).then(
      () => true,
      () => false,
    );
    if (writable) return result.ok(`${path} does not exist yet and can be made`);
    return result.fail(
      `${path} does not exist and ${parent} can't be written`,
      `as root: mkdir -m 700 -p ${path}, and give it to the agent's user`,
    );
  }
  if (!found.isDirectory()) return result.fail(`${path} is no folder`, 'name another with --data-dir');
  const refused = await access(path, constants.W_OK | constants.X_OK).then(
    () => undefined,
    (error: Error) => error.message,
  );
  if (refused !== undefined) {
    return result.fail(
      `${path} can't be written: ${refused}`,
      'mount it writable and let the agent’s user write to it',
    );
  }
  const loose = found.mode & 0o077;
  if (loose !== 0) return result.warn(`${path} can be reached by others`, `chmod 700 ${path}`);
  return result.ok(`${path} is writable and private`);
}

/** Free disk below the data folder. */
export async function checkDisk(path: string): Promise<CheckResult> {
  const result = resultsOf('disk');
  const { bavail, bsize } = await statfs(await existingParent(path));
  const freeBytes = bavail * bsize;
  const shown = `${(freeBytes / 1024 ** 3).toFixed(1)} GiB free for ${path}`;
  if (freeBytes < LOW_DISK_BYTES) return result.fail(shown, 'make room: with less than 256 MiB no new jobs are taken');
  if (freeBytes < SCARCE_DISK_BYTES)
    return result.warn(shown, 'the output spool may take 2 GiB; make room or lower spool.max_bytes');
  return result.ok(shown);
}

async function existingParent(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    if (at === dirname(at)) return at;
    const exists = await stat(at).then(
      () => true,
      () => false,
    );
    if (exists) return at;
  }
}

const ELF_MAGIC = '7f454c46';
const ELF_INTERPRETER_SEGMENT = 3;

/** Whether there is a static busybox, which warm containers wait in. */
export async function checkBusybox(path: string): Promise<CheckResult> {
  const result = resultsOf('warm pool');
  const mend = `only warm pools need it: apt install busybox-static, or name another with jobs.warm_init`;
  const head = await readFile(path).catch(() => undefined);
  if (head === undefined) return result.warn(`${path} is not there`, mend);
  if (head.length < 64 || head.toString('hex', 0, 4) !== ELF_MAGIC) return result.warn(`${path} is no program`, mend);
  if (isDynamic(head)) return result.warn(`${path} needs shared libraries, which images need not have`, mend);
  return result.ok(`${path} is a static program`);
}

/** True if a 64-bit little-endian ELF file names an interpreter. */
function isDynamic(elf: Buffer): boolean {
  const tableAt = Number(elf.readBigUInt64LE(32));
  const entrySize = elf.readUInt16LE(54);
  const entries = elf.readUInt16LE(56);
  for (let index = 0; index < entries; index++) {
    const at = tableAt + index * entrySize;
    if (at + 4 > elf.length) return false;
    if (elf.readUInt32LE(at) === ELF_INTERPRETER_SEGMENT) return true;
  }
  return false;
}
