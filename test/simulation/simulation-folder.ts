// Where simulations keep their databases, and the running of many seeds.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeDatabase } from './controller-process.ts';
import { Simulation, type Tally } from './simulation.ts';
import { Violation } from './world.ts';

const SHARED_MEMORY = '/dev/shm';
/** Lines of what happened that are shown for a run that failed. */
const TRACE_LINES = 60;

/** A folder, in memory where there is such a one. Dispose removes it. */
export class SimulationFolder implements Disposable {
  readonly #path: string;
  /** What happened in all runs. */
  readonly tally: Tally = {
    orders: 0,
    agentKills: 0,
    powerLosses: 0,
    controllerKills: 0,
    cuts: 0,
    partitions: 0,
    diskFaults: 0,
    indeterminate: 0,
    events: 0,
  };

  private constructor(path: string) {
    this.#path = path;
  }

  static async make(): Promise<SimulationFolder> {
    const path = mkdtempSync(join(existsSync(SHARED_MEMORY) ? SHARED_MEMORY : tmpdir(), 'longline-simulation-'));
    await makeDatabase(join(path, 'empty.db'));
    return new SimulationFolder(path);
  }

  /** Runs a seed; if it breaks a promise, gives which and what happened before. Undefined if all went well. */
  async failureOf(seed: number): Promise<string | undefined> {
    const simulation = new Simulation(seed, this.#path);
    try {
      await simulation.run();
      return undefined;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const trace = await this.traceOf(seed);
      const again = `LONGLINE_FAULT_SEEDS=${seed} npm test -- test/simulation`;
      return `${error.message} (again: ${again})\n${trace.slice(-TRACE_LINES).join('\n')}`;
    } finally {
      for (const key of Object.keys(this.tally) as (keyof Tally)[]) this.tally[key] += simulation.tally[key];
    }
  }

  /** What happens in the run of a seed. */
  async traceOf(seed: number): Promise<string[]> {
    const simulation = new Simulation(seed, this.#path, true);
    await simulation.run().catch((error: unknown) => {
      if (!(error instanceof Violation)) throw error;
    });
    return simulation.trace;
  }

  [Symbol.dispose](): void {
    rmSync(this.#path, { recursive: true, force: true });
  }
}
