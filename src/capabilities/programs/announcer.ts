// Tells what becomes of programs: as events of the host, and to whoever else wants to hear of it. The same trouble is told once, however
// often it is met with again.
import type { LonglineError } from '../../core/errors.ts';
import type { HostEvents } from '../../core/host-events.ts';
import type { AnnouncedProgram, AnnouncedRollback, Announcements } from './ports.ts';
import type { Quarantined } from './quarantine.ts';
import type { RememberedRevision } from './revision-record.ts';
import type { RollbackRecord } from './rollback.ts';
import type { ProgramView } from './status.ts';

/** One per capability. */
export class Announcer {
  readonly #events: HostEvents;
  readonly #announcements: Announcements;
  readonly #troubles = new Map<string, string>();

  constructor(events: HostEvents, announcements: Announcements) {
    this.#events = events;
    this.#announcements = announcements;
  }

  /** A revision runs that did not before. */
  loaded(view: ProgramView): void {
    this.#troubles.delete(view.name);
    const { artifact, version, number } = view.current!;
    const message = `program ${view.name} runs ${artifact} (version ${version}, revision ${number})`;
    this.#events.tell('loaded', view.name, message, { artifact, version, revision: String(number) });
    this.#announcements.changed({ what: 'loaded', ...announced(view) });
  }

  /** Nothing of it is loaded any more. */
  unloaded(view: ProgramView, was: RememberedRevision, why: string): void {
    const { artifact, version, number } = was;
    const type = view.life.kind === 'expired' ? 'expired' : 'unloaded';
    this.#events.tell(type, view.name, `program ${view.name} was unloaded: ${why}`, {
      artifact,
      revision: String(number),
    });
    this.#announcements.changed({ what: 'unloaded', ...announced(view), artifact, version, revision: number });
  }

  /** Something is not as wanted. */
  failed(view: ProgramView, field: string, error: LonglineError): void {
    const told = `${field}: ${error.message}`;
    if (this.#troubles.get(view.name) === told) return;
    this.#troubles.set(view.name, told);
    const more = { field, reason: error.reason, artifact: view.wantedArtifact };
    this.#events.tell('error', view.name, `program ${view.name}: ${told}`, more);
    this.#announcements.changed({ what: 'error', ...announced(view), error: told });
  }

  /** All is well again. */
  recovered(name: string): void {
    this.#troubles.delete(name);
  }

  /** It went back, or nothing was left to go back to. */
  rolledBack(view: ProgramView, record: RollbackRecord): void {
    const { from, to, reason, trigger, id } = record;
    const where = to === undefined ? 'and was unloaded' : `to revision ${to.number} (${to.artifact})`;
    const message = `program ${view.name} was rolled back from revision ${from.number} ${where}: ${reason}`;
    const more = { trigger, from: from.artifact, to: to?.artifact ?? '', rollback_id: id };
    this.#events.tell('rolled_back', view.name, message, more);
    const left = { artifact: from.artifact, version: from.version, revision: from.number };
    this.#announcements.changed({
      what: 'rolled_back',
      ...announced(view),
      ...left,
      rollback: announcedRollback(record),
    });
  }

  quarantined({ program, artifact, reason }: Quarantined): void {
    const message = `artifact ${artifact} is quarantined on this host: ${reason}`;
    this.#events.tell('quarantined', program, message, { artifact });
  }
}

/** A rollback as others hear of it. */
export function announcedRollback(record: RollbackRecord): AnnouncedRollback {
  const { id, trigger, threshold, value, reason, requestedBy, atMs, to, figures, error } = record;
  return {
    ...{ id, trigger, threshold, value, reason, requestedBy, timeMs: atMs, toArtifact: to?.artifact },
    ...{ figures, error: error?.message },
  };
}

/** A program as others hear of it. */
export function announced({ name, current, life }: ProgramView): AnnouncedProgram {
  const { artifact = '', version = '', number = 0 } = current ?? {};
  return { program: name, artifact, version, revision: number, state: life.kind };
}
