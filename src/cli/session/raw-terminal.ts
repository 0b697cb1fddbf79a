// The user's own terminal while a remote one is shown in it: raw mode, given back in any case.
import type { CliIo } from '../io.ts';

/** Sets raw mode if standard input is a terminal; disposing sets it back, as does any end of the process but KILL. */
export function rawTerminal(io: CliIo): Disposable {
  const { stdin } = io;
  if (stdin.isTTY !== true || stdin.setRawMode === undefined) return { [Symbol.dispose]: () => undefined };
  stdin.setRawMode(true);
  const restore = () => {
    stdin.setRawMode?.(false);
  };
  process.once('exit', restore);
  return {
    [Symbol.dispose]: () => {
      process.off('exit', restore);
      restore();
    },
  };
}
