// Runs programs of the system. The environment is fixed: nothing of the agent's own reaches them, and they answer in English.
// Input is a file that has no name any more when the program starts: through a pipe a killed agent would leave half of it,
// and half of "route del 10.1.0.0/16" is another command. Fails as core/command.ts says.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Command, CommandResult, RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** A routing table of a million entries as JSON. */
const MAX_OUTPUT_BYTES = 128 * 1024 * 1024;
const UNIX_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Runs commands with their input in files below `scratchFolder`, which has to be writable. */
export function childCommands(scratchFolder: string = tmpdir(), maxOutputBytes = MAX_OUTPUT_BYTES): RunCommand {
  return async (command, signal) => {
    const input = command.stdin === undefined ? undefined : await inputFile(scratchFolder, command.stdin);
    try {
      return await runChild(command, input, maxOutputBytes, signal);
    } finally {
      await input?.close();
    }
  };
}

async function inputFile(folder: string, text: string): Promise<FileHandle> {
  const path = join(folder, `longline-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600).catch((error: Error) => {
    throw new LonglineError('unavailable', `${folder} can't take the input of a program: ${error.message}`, {
      cause: error,
    });
  });
  try {
    await rm(path);
    let at = 0;
    const bytes = Buffer.from(text);
    // Written by position, so that the program reads from the start.
    while (at < bytes.length) at += (await file.write(bytes, at, bytes.length - at, at)).bytesWritten;
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

function environment(): NodeJS.ProcessEnv {
  if (process.platform !== 'win32') return { PATH: UNIX_PATH, LC_ALL: 'C' };
  const root = 'C:\\Windows';
  return { SystemRoot: root, PATH: `${root}\\System32;${root}` };
}

async function runChild(
  command: Command,
  input: FileHandle | undefined,
  maxOutputBytes: number,
  signal: AbortSignal | undefined,
): Promise<CommandResult> {
  const [program, ...args] = command.argv;
  const timeoutMs = command.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  if (signal?.aborted) throw cancelled(program, signal);
  const child = spawn(program, args, {
    env: environment(),
    stdio: [input?.fd ?? 'ignore', 'pipe', 'pipe'],
    windowsHide: true,
  });
  const stop = (error: LonglineError) => {
    reject(error);
    child.kill('SIGKILL');
  };
  const limit = setTimeout(() => {
    stop(new LonglineError('late', `${program} didn't end within ${timeoutMs / 1000} s`, { retryable: true }));
  }, timeoutMs);
  const onAbort = () => stop(cancelled(program, signal));
  signal?.addEventListener('abort', onAbort, { once: true });
  const tooMuch = () => stop(new LonglineError('limit', `${program} wrote more than ${maxOutputBytes} bytes`));
  const stdout = collect(child.stdout!, maxOutputBytes, tooMuch);
  const stderr = collect(child.stderr!, maxOutputBytes, tooMuch);
  child.on('error', (error: NodeJS.ErrnoException) => {
    const absent = error.code === 'ENOENT' || error.code === 'EACCES';
    const why = absent ? `there is no program "${program}" on this host` : `${program} can't be started`;
    reject(new LonglineError(absent ? 'unsupported' : 'unavailable', why, { cause: error }));
  });
  child.on('close', (code, killedBy) => {
    if (code === null) reject(new LonglineError('unavailable', `${program} was ended by ${killedBy}`));
    else resolve({ code, stdout: stdout(), stderr: stderr() });
  });
  try {
    return await promise;
  } finally {
    clearTimeout(limit);
    signal?.removeEventListener('abort', onAbort);
  }
}

function cancelled(program: string, signal: AbortSignal | undefined): LonglineError {
  return new LonglineError('cancelled', `${program} was cancelled`, { cause: signal?.reason });
}

/** Keeps what a stream says; the function gives it as text. */
function collect(stream: Readable, maxBytes: number, tooMuch: () => void): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > maxBytes) tooMuch();
    else chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString();
}
