// Runs one outside command to its end. For deploy tools and benches; the product has its own process code in src/platform.
// It never goes through a shell, always has a time limit, and keeps a bounded amount of output. A command that can't be
// found or runs too long gives a result that says so: only the caller knows whether that is a failure.
import { spawn } from 'node:child_process';

/** How to run a command. */
export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Bytes for standard input; empty if absent. */
  readonly input?: string | Uint8Array;
  /** Killed after this; default 60 s. */
  readonly timeoutMs?: number;
  /** Most bytes kept of each stream; default 8 MiB. What is past it is dropped. */
  readonly maxOutputBytes?: number;
  /** Sees output as it comes, before any limit. */
  readonly onStdout?: (data: Buffer) => void;
  readonly onStderr?: (data: Buffer) => void;
  /** Sends SIGINT when it aborts, as Ctrl-C would. */
  readonly interrupt?: AbortSignal;
}

/** How a command ended. */
export interface CommandResult {
  /** Exit code; 127 if the program wasn't found, 124 after the time limit, 128 + n after another signal. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
  readonly timedOut: boolean;
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };

class BoundedOutput {
  readonly #chunks: Buffer[] = [];
  readonly #limitBytes: number;
  #sizeBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(data: Buffer): void {
    const kept = data.subarray(0, this.#limitBytes - this.#sizeBytes);
    if (kept.length === 0) return;
    this.#sizeBytes += kept.length;
    this.#chunks.push(kept);
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

/** Runs `argv` and resolves when it has ended and its output is read. Never rejects. */
export function runCommand(argv: readonly [string, ...string[]], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  const startedMs = performance.now();
  const limitBytes = options.maxOutputBytes ?? 8 * 1024 * 1024;
  const stdout = new BoundedOutput(limitBytes);
  const stderr = new BoundedOutput(limitBytes);
  const { promise, resolve } = Promise.withResolvers<CommandResult>();
  const child = spawn(program, args, { cwd: options.cwd, env: { ...process.env, ...options.env }, stdio: 'pipe' });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, options.timeoutMs ?? 60_000);
  const interrupt = () => child.kill('SIGINT');
  options.interrupt?.addEventListener('abort', interrupt, { once: true });
  const finish = (code: number, note = '') => {
    clearTimeout(timer);
    options.interrupt?.removeEventListener('abort', interrupt);
    const durationMs = performance.now() - startedMs;
    resolve({ code, stdout: stdout.text(), stderr: stderr.text() + note, durationMs, timedOut });
  };
  child.stdout.on('data', (data: Buffer) => {
    options.onStdout?.(data);
    stdout.add(data);
  });
  child.stderr.on('data', (data: Buffer) => {
    options.onStderr?.(data);
    stderr.add(data);
  });
  child.on('error', (error) => finish(127, `${program}: ${error.message}\n`));
  child.on('close', (code, signal) => {
    if (timedOut) finish(124, `${program}: killed after ${options.timeoutMs ?? 60_000} ms\n`);
    else finish(code ?? 128 + (SIGNAL_NUMBERS[signal ?? ''] ?? 0));
  });
  // A command that doesn't read its input closes the pipe early; its exit code says whether that matters.
  child.stdin.on('error', () => child.stdin.destroy());
  child.stdin.end(options.input ?? '');
  return promise;
}
