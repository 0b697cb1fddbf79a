// Gets one program what its next revision is loaded from: the artifact, the verdict on it, and a place among the programs of the host. All
// of it before anything is done, and given up at once when something else is asked for.
import { LonglineError } from '../../core/errors.ts';
import { Progress } from '../../core/progress.ts';
import { SPAN } from '../../core/span-names.ts';
import { traced } from '../../core/tracer.ts';
import { ProgramFault } from './fault.ts';
import type { HeldRecord } from './held-record.ts';
import { orderOf, type ProgramOrder } from './order.ts';
import { FETCH_LIMIT_MS, PASS_LIMIT_MS } from './pauses.ts';
import type { ArtifactOrigin, FoundProgram } from './ports.ts';
import type { Prepared } from './preparation.ts';
import { movedRevision, newRevision } from './revision.ts';
import type { RevisionRecord } from './revision-record.ts';
import type { ProgramServices } from './services.ts';
import { decodeSpec } from './wire.ts';

/** One per program. */
export class Provision {
  /** Of the program: what is fetched may take longer than all else. */
  readonly progress: Progress;
  readonly #name: string;
  readonly #services: ProgramServices;
  readonly #record: HeldRecord;
  #had: { readonly key: string; readonly prepared: Prepared } | undefined;

  constructor(name: string, services: ProgramServices, record: HeldRecord) {
    this.#name = name;
    this.#services = services;
    this.progress = new Progress(`program ${name}`, services.clock);
    this.#record = record;
  }

  /** The revision that an order makes, with room for it. Throws a ProgramFault. */
  async nextRevision(
    order: ProgramOrder,
    found: FoundProgram | undefined,
    signal: AbortSignal,
  ): Promise<RevisionRecord> {
    const { preparation, support, clock, tracer } = this.#services;
    const record = this.#record;
    const prepared = await traced(tracer, SPAN.prepare, {}, async () => {
      const bytes = await this.#fetch(order.spec.artifact, order.source, signal);
      if (!record.isRunning) record.reached('fetched');
      return await preparation.verify(bytes, order.spec, signal);
    });
    if (!record.isRunning) record.reached('verified');
    await this.#claimRoom(signal);
    signal.throwIfAborted();
    const { current, lastNumber } = record.now;
    const parts = { order, prepared, types: support().types, nowMs: clock.now() };
    const loaded = found?.revisions.find(({ place }) => place.revision === current?.number);
    const moved = current === undefined ? undefined : movedRevision(current, loaded, parts);
    const next = moved ?? newRevision({ ...parts, number: lastNumber + 1 });
    this.#had = { key: keyOf(next), prepared };
    return next;
  }

  /** What a revision is loaded from, once more. Throws a ProgramFault. */
  async prepared(revision: RevisionRecord, signal: AbortSignal): Promise<Prepared> {
    const had = this.#had;
    this.#had = undefined;
    if (had?.key === keyOf(revision)) return had.prepared;
    const { preparation, tracer } = this.#services;
    const { source } = this.#record.now;
    const { spec } = orderOf(source, decodeSpec(Buffer.from(revision.spec, 'base64')));
    return await traced(tracer, SPAN.prepare, {}, async () => {
      const bytes = await this.#fetch(revision.artifact, source, signal);
      return await preparation.verify(bytes, spec, signal);
    });
  }

  /** Objects may be large, and are not needed any more. */
  forget(): void {
    this.#had = undefined;
  }

  async #fetch(artifact: string, source: ArtifactOrigin, signal: AbortSignal): Promise<Uint8Array> {
    this.progress.expect(FETCH_LIMIT_MS, 'the fetch of an artifact');
    const bytes = await this.#services.preparation.fetch(artifact, source, signal);
    this.progress.expect(PASS_LIMIT_MS, 'a pass');
    return bytes;
  }

  async #claimRoom(signal: AbortSignal): Promise<void> {
    const { room, makeRoom, config } = this.#services;
    for (;;) {
      const claim = room.claim(this.#name);
      if (claim.kind === 'given') return;
      if (claim.kind === 'refused') {
        const message = `${room.size} programs are loaded, and at most ${config.maxPrograms} may be; unload one, or allow more`;
        throw new ProgramFault('room', 'max_programs', new LonglineError('limit', message));
      }
      await makeRoom(claim.oldest, this.#name, signal);
      signal.throwIfAborted();
    }
  }
}

function keyOf({ number, whole }: RevisionRecord): string {
  return `${number}/${whole}`;
}
