// The end of this process, now: what an exit of Node's waits for, as file operations that hang, is not waited for. Nothing is flushed and
// nobody is told, but for listeners of 'exit', which can't wait: one gives a terminal back. Where libc can't be had it is an ordinary exit.
import { createRequire } from 'node:module';

/** Ends the process with this code. */
export function endNow(code: number): never {
  try {
    process.emit('exit', code);
  } catch {
    // A listener that fails must not keep it.
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    koffi.load(null).func('void _exit(int code)')(code);
  } catch {
    // Windows, and platforms that koffi isn't built for.
  }
  process.exit(code);
}
