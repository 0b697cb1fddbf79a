// The HTTP servers that a file of networks asks for, one a network. One whose address stays stays open.
import type { NetworkCapability } from '../../capabilities/network/capability.ts';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { FiledNetwork } from '../../core/network/network-file.ts';
import { HttpServer } from '../http/http-server.ts';
import { statusRoutes } from './status-routes.ts';

/** All of them. Dispose to close them. */
export class StatusServers implements AsyncDisposable {
  readonly #networks: NetworkCapability;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #servers = new Map<string, HttpServer>();

  constructor(networks: NetworkCapability, clock: Clock, log: Logger) {
    this.#networks = networks;
    this.#clock = clock;
    this.#log = log;
  }

  /** Opens what is asked for and closes the rest. Throws `unavailable` if a port can't be had; the others are served. */
  async serve(filed: readonly FiledNetwork[]): Promise<void> {
    const wanted = new Map(filed.flatMap((network) => (network.http === undefined ? [] : [[keyOf(network), network]])));
    for (const [key, server] of this.#servers) {
      if (wanted.has(key)) continue;
      this.#servers.delete(key);
      await server[Symbol.asyncDispose]();
    }
    const failures: unknown[] = [];
    for (const [key, network] of wanted) {
      if (this.#servers.has(key)) continue;
      await this.#open(key, network).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.serve([]);
  }

  async #open(key: string, { http, spec: { name } }: FiledNetwork): Promise<void> {
    const look = async () => (await this.#networks.look()).find((view) => view.name === name);
    const server = new HttpServer({ ...http!, routes: statusRoutes(look, this.#clock), log: this.#log });
    await server.open();
    this.#servers.set(key, server);
    this.#log.info('health and figures are served', { network: name, ...http });
  }
}

function keyOf({ http, spec }: FiledNetwork): string {
  return `${spec.name} ${http?.bindAddress} ${http?.bindPort}`;
}
