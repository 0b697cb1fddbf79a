// Makes an interface's addresses, routes and rules be what is wanted: read, plan, note what will be ours, apply, look again.
// It can be killed at any point and begun anew. A refused step costs the others nothing and is named. Fails if the interface
// is not there, or if the system can't be asked.
import { LonglineError } from '../../core/errors.ts';
import { type LinkRecord, type LinkStep, type Route, stepKey, type WantedLink } from './link.ts';
import { planLink, recordAfter } from './link-plan.ts';
import type { LinkDriver } from './ports.ts';

/** Where the record of one network's interface is kept. A write is on disk when its promise resolves. */
export interface LinkLedger {
  read(): Promise<LinkRecord>;
  write(record: LinkRecord): Promise<void>;
}

/** What came of it. */
export interface ReconciledLink {
  /** Steps taken, refused ones too; empty if all was as wanted. */
  readonly steps: readonly LinkStep[];
  /** Why, by the key of each step that is still to be taken. */
  readonly refused: ReadonlyMap<string, LonglineError>;
  /** What somebody else has set on the interface; it stays. */
  readonly foreign: { readonly addresses: readonly string[]; readonly routes: readonly Route[] };
}

/** What a step changes may take something else along, such as routes that go with an address: it is then put back. */
const MAX_PASSES = 5;
/** A step that was refused may succeed once the others are taken. */
const MAX_TRIES = 2;

/** Reconciles once. */
export async function reconcileLink(
  driver: LinkDriver,
  ledger: LinkLedger,
  wanted: WantedLink,
  signal?: AbortSignal,
): Promise<ReconciledLink> {
  const taken: LinkStep[] = [];
  const tries = new Map<string, number>();
  const errors = new Map<string, LonglineError>();
  let record = await ledger.read();
  const note = async (next: LinkRecord) => {
    if (JSON.stringify(next) !== JSON.stringify(record)) await ledger.write(next);
    record = next;
  };
  for (let pass = 1; ; pass++) {
    const found = await driver.read(wanted.interface, signal);
    if (found.state === 'absent' && wanted.up) {
      throw new LonglineError('not_found', `there is no interface "${wanted.interface}"`);
    }
    const { steps, foreign } = planLink(wanted, found, record);
    const todo = steps.filter((step) => (tries.get(stepKey(step)) ?? 0) < MAX_TRIES);
    if (todo.length === 0 || pass === MAX_PASSES) {
      await note(recordAfter(record, found, [], driver.marksRoutes));
      return { steps: taken, refused: refusals(steps, errors), foreign };
    }
    await note(recordAfter(record, found, todo, driver.marksRoutes));
    for (const { step, error } of await driver.apply(wanted.interface, todo, signal)) {
      const key = stepKey(step);
      tries.set(key, (tries.get(key) ?? 0) + 1);
      errors.set(key, error);
    }
    taken.push(...todo);
  }
}

/** Takes away all that is ours of an interface, and leaves it as it is otherwise. */
export function undoLink(
  driver: LinkDriver,
  ledger: LinkLedger,
  name: string,
  signal?: AbortSignal,
): Promise<ReconciledLink> {
  const nothing = { interface: name, mtu: undefined, up: false, addresses: [], routes: [], rules: [] };
  return reconcileLink(driver, ledger, nothing, signal);
}

function refusals(
  left: readonly LinkStep[],
  errors: ReadonlyMap<string, LonglineError>,
): ReadonlyMap<string, LonglineError> {
  const unsettled = new LonglineError('wrong_state', 'somebody else undoes it: it was taken, and is gone again');
  return new Map(left.map(stepKey).map((key) => [key, errors.get(key) ?? unsettled]));
}
