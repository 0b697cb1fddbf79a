// Interfaces by name and by index, in the network namespace of this process.
import { LonglineError } from '../../core/errors.ts';
import { cCall } from './c-library.ts';

const NAME_SIZE = 16;

/** Its index. Throws `not_found` naming it. */
export function interfaceIndex(name: string): number {
  const index = cCall('if_nametoindex', name).result;
  if (index > 0) return index;
  throw new LonglineError('not_found', `there is no interface ${name} on this host`);
}

/** Its name now. Undefined if there is none with this index any more. */
export function interfaceName(index: number): string | undefined {
  const name = Buffer.alloc(NAME_SIZE);
  if (cCall('if_indextoname', index, name).result === 0) return undefined;
  return name.toString('latin1', 0, name.indexOf(0));
}
