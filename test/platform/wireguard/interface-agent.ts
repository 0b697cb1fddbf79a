// Runs interface-child.ts on a host of a lab, and speaks to it.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { InterfaceRequest } from '../../../src/capabilities/network/ports.ts';
import type { LabHost } from '../../fixtures/netns.ts';
import type { ChildCall, ChildOptions } from './interface-child.ts';

/** What opening an interface gave. */
export interface Opened {
  readonly adopted: boolean;
  readonly foreign: boolean;
  readonly kind: string;
  readonly realName: string;
  /** How many effects it took. */
  readonly effects: number;
}

/** A refusal, as an error that can be matched. */
export class Refusal extends Error {
  readonly reason: string;
  constructor({ message, reason }: { readonly message: string; readonly reason: string }) {
    super(message);
    this.reason = reason;
  }
}

/** A part of an agent in a process of its own. Dispose it; what it made stays, as it would after an agent. */
export class InterfaceAgent implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;

  /** `through` is a program that runs it, with its arguments. */
  constructor(
    host: LabHost,
    options: Partial<ChildOptions> & Pick<ChildOptions, 'folder'>,
    through: readonly string[] = [],
  ) {
    const path = join(import.meta.dirname, 'interface-child.ts');
    const whole = JSON.stringify({ instance: 'one', dieAt: 0, ...options } satisfies ChildOptions);
    // Compiled once for all of a test: it starts many.
    const env = { ...process.env, NODE_COMPILE_CACHE: join(options.folder, 'compiled') };
    this.#process = host.spawn([...through, process.execPath, path, whole], {
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#ended = once(this.#process, 'exit');
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]();
    // It may be dead already.
    this.#process.stdin!.on('error', () => undefined);
  }

  /** Gives the answer. Throws `Refusal`, or an error if it died. */
  async call<Value>(call: ChildCall): Promise<Value> {
    this.#process.stdin!.write(`${JSON.stringify(call)}\n`);
    const { done, value: line } = await this.#lines.next();
    if (done === true) throw new Error('the agent died');
    const { error, value } = JSON.parse(line) as { error?: ConstructorParameters<typeof Refusal>[0]; value: Value };
    if (error !== undefined) throw new Refusal(error);
    return value;
  }

  async open(name: string, more: Partial<InterfaceRequest> = {}): Promise<Opened> {
    const rest = { backend: 'auto', mtu: 1380, fwmark: 0, listenPort: undefined, adoptForeign: false } as const;
    return await this.call<Opened>({ kind: 'open', request: { name, ...rest, ...more } });
  }

  /** As an agent that crashes. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin!.end();
    const limit = setTimeout(() => this.#process.kill('SIGKILL'), 20_000);
    await this.#ended;
    clearTimeout(limit);
  }
}
