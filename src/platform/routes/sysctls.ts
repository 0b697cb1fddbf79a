// Settings of the kernel's network below /proc/sys. They are read before they are written: in most containers they are
// read-only, which is no fault where the value is right already.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Sysctls } from '../../capabilities/network/ports.ts';
import { LonglineError } from '../../core/errors.ts';

/** The kernel's settings as files. A key is a path such as "net/ipv4/ip_forward". */
export class SysctlFiles implements Sysctls {
  readonly #root: string;

  constructor(root = '/proc/sys') {
    this.#root = root;
  }

  async read(key: string): Promise<string | undefined> {
    try {
      return (await readFile(join(this.#root, key), 'utf8')).trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new LonglineError('unavailable', `${dotted(key)} can't be read`, { cause: error });
    }
  }

  async ensure(key: string, value: string): Promise<boolean> {
    const before = await this.read(key);
    if (before === value) return false;
    try {
      await writeFile(join(this.#root, key), value, { flag: 'r+' });
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const why = code === 'EROFS' || code === 'EACCES' ? 'it is read-only here' : `the kernel says ${code}`;
      const mend = `set it where it can be: "sysctl ${dotted(key)}=${value}" on the host, or --sysctl ${dotted(key)}=${value} for a container`;
      const message = `${dotted(key)} is ${before ?? 'not there'} and must be ${value}, but ${why}; ${mend}`;
      throw new LonglineError('wrong_state', message, { cause: error });
    }
  }
}

/** The name that people know a key by. A dot of an interface's name is a slash there. */
function dotted(key: string): string {
  return key
    .split('/')
    .map((part) => part.replaceAll('.', '/'))
    .join('.');
}
