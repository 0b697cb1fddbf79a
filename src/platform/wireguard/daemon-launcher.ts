// Becomes a WireGuard daemon: a program that is started with the daemon's descriptors, waits until its pid is on disk, gives up
// all that the daemon doesn't need, and is then replaced by it. Its one argument is a DaemonPlan as JSON. It has no other way
// to fail than to say why in the log and exit with 70; if whoever started it is gone before "go", it ends without a word.
import { closeSync, openSync, readSync } from 'node:fs';
import { type DaemonPlan, mtuFilter } from './daemon-plan.ts';
import { addressOf, libc } from './libc.ts';

const F_SETFD = 2;
/** The same on all machines. */
const SYS_CLOSE_RANGE = 436;
const CLOSE_RANGE_CLOEXEC = 4;
const RLIMIT_FSIZE = 1;
const SIGPIPE = 13;
const SIGXFSZ = 25;
const SIG_DFL = 0;
const SIG_IGN = 1;
const PR_SET_KEEPCAPS = 8;
const PR_SET_SECCOMP = 22;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
const SECCOMP_MODE_FILTER = 2;
const LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
const CAP_SETPCAP = 8;
const LAST_CAP_READ = 63;

const call = libc();

function waitForGo(): boolean {
  const buffer = Buffer.alloc(3);
  let size = 0;
  while (size < buffer.length) {
    const got = readSync(0, buffer, size, buffer.length - size, null);
    if (got === 0) return false;
    size += got;
  }
  return buffer.toString() === 'go\n';
}

function keepDescriptors(handedOver: readonly number[]): void {
  closeSync(0);
  // The lowest free number is the one just closed.
  openSync('/dev/null', 'r+');
  // Node marks the first that it inherits to be closed; of the others, whatever they are, none is to be kept open for good.
  for (const fd of [0, 1, 2, ...handedOver]) call('fcntl', fd, F_SETFD, 'int', 0);
  const first = 3 + handedOver.length;
  call('syscall', SYS_CLOSE_RANGE, 'uint', first, 'uint', 0xffff_ffff, 'uint', CLOSE_RANGE_CLOEXEC);
}

/** A log can't fill the disk while nobody is there to cut it: writes past the limit fail, and the daemon goes on. */
function boundFiles(bytes: number): void {
  const limit = Buffer.alloc(16);
  limit.writeBigUInt64LE(BigInt(bytes), 0);
  limit.writeBigUInt64LE(BigInt(bytes), 8);
  call('setrlimit', RLIMIT_FSIZE, limit);
  call('signal', SIGXFSZ, SIG_IGN);
  call('signal', SIGPIPE, SIG_DFL);
}

function dropPrivileges({ capabilities, user }: DaemonPlan): void {
  const isRoot = process.geteuid?.() === 0;
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
  if (isRoot) dropBounding(capabilities);
  prctl(PR_SET_KEEPCAPS, 1);
  if (user !== undefined) {
    call('setgroups', 0, null);
    call('setresgid', user.gid, user.gid, user.gid);
    call('setresuid', user.uid, user.uid, user.uid);
  }
  setCapabilities(capabilities);
  for (const capability of capabilities) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability);
  prctl(PR_SET_NO_NEW_PRIVS, 1);
}

/** What was dropped from the bounding set can't be had by any program that it runs. The right to drop goes last. */
function dropBounding(kept: readonly number[]): void {
  const dropped = Array.from({ length: LAST_CAP_READ + 1 }, (_, capability) => capability).filter(
    (capability) => !kept.includes(capability) && capability !== CAP_SETPCAP,
  );
  for (const capability of [...dropped, CAP_SETPCAP]) {
    try {
      prctl(PR_CAPBSET_DROP, capability);
    } catch {
      // The kernel knows fewer than fit into the mask.
    }
  }
}

function setCapabilities(kept: readonly number[]): void {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(LINUX_CAPABILITY_VERSION_3, 0);
  let mask = 0n;
  for (const capability of kept) mask |= 1n << BigInt(capability);
  const data = Buffer.alloc(24);
  for (const set of [0, 1, 2]) {
    data.writeUInt32LE(Number(mask & 0xffff_ffffn), set * 4);
    data.writeUInt32LE(Number(mask >> 32n), 12 + set * 4);
  }
  call('capset', header, data);
}

function prctl(option: number, ...args: readonly number[]): void {
  const all = [0, 0, 0, 0].map((zero, place) => args[place] ?? zero);
  call('prctl', option, ...all.flatMap((value) => ['ulong', value]));
}

function feignMtu(): void {
  const filter = mtuFilter(process.arch);
  if (filter === undefined) throw new Error(`no filter of system calls is known for ${process.arch}`);
  const program = Buffer.alloc(16);
  program.writeUInt16LE(filter.length / 8, 0);
  program.writeBigUInt64LE(addressOf(filter), 8);
  call('prctl', PR_SET_SECCOMP, 'ulong', SECCOMP_MODE_FILTER, 'void *', program, 'ulong', 0, 'ulong', 0);
}

const plan = JSON.parse(process.argv[2]!) as DaemonPlan;
if (waitForGo()) {
  try {
    process.chdir('/');
    keepDescriptors(plan.descriptors);
    boundFiles(plan.logLimitBytes);
    dropPrivileges(plan);
    if (plan.feignMtu) feignMtu();
    call('execve', plan.program, [plan.program, ...plan.args, null], [...plan.environment, null]);
  } catch (error) {
    process.stderr.write(`the daemon could not be started: ${(error as Error).message}\n`);
    process.exitCode = 70;
  }
}
