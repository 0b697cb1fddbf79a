// The agent's end of desired states against the controller's, over real connections: whatever is cut, killed or started anew
// on the way, in the end the host holds what is wanted of it, and the controller knows.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { create } from '@bufbuild/protobuf';
import { type NetworkDesiredState, NetworkDesiredStateSchema } from '#gen/longline/v1/network_pb.js';
import type { AuditEntry } from '../../src/agent/audit/audit-log.ts';
import { DesiredStateAdmission } from '../../src/agent/state-admission.ts';
import { StateRegistry } from '../../src/agent/state-registry.ts';
import { NETWORK_STATE } from '../../src/controller/states/network-state-body.ts';
import { bodyDigest } from '../../src/controller/states/state-body.ts';
import type { Availability } from '../../src/core/capability.ts';
import { systemClock } from '../../src/core/clock.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { evaluatePolicy } from '../../src/core/policy/evaluation.ts';
import { DEFAULT_POLICY } from '../../src/core/policy/policy.ts';
import { ed25519VerificationKey } from '../../src/core/signing/signature.ts';
import { FleetUnderTest, until } from '../controller/link/fleet-fixture.ts';
import { type FakeDisk, FakeNetwork } from '../fixtures/fake-network.ts';
import { faultSeeds, seededRandom } from '../fixtures/seeded-random.ts';
import { AgentSide } from '../link/agent-side.ts';
import { scratchFolder } from '../link/scratch.ts';

const AGENT = 'agent-under-test';
const STEPS = 40;

/** A port that stays while the controller behind it comes and goes, and connections that can be cut. */
async function openGate() {
  let target = '';
  const sockets = new Set<Socket>();
  const server = createServer((inner) => {
    const [host, port] = target.split(':');
    const outer = connect(Number(port), host);
    for (const [one, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy()).on('close', () => other.destroy() && sockets.delete(one));
      one.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    lead: (address: string) => {
      target = address;
    },
    cut,
    [Symbol.asyncDispose]: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Everything is checked: networks have to be signed here. */
function strictAdmission(publicKey: Uint8Array, entries: AuditEntry[]) {
  const policy = { ...DEFAULT_POLICY, signatures: { ...DEFAULT_POLICY.signatures, require: ['network'] } };
  const host = { paths: { resolve: () => undefined, protectedPaths: [] }, defaultUser: '', defaultRuntime: '' };
  const trusted = {
    keyId: 'test-key',
    verification: ed25519VerificationKey(publicKey),
    controllers: ['test-controller'],
    capabilities: ['network'],
    selectors: [],
    scopes: [],
    notAfterMs: undefined,
    source: 'trust.toml',
  };
  return new DesiredStateAdmission({
    trust: { find: (id: string) => (id === 'test-key' ? trusted : undefined) } as never,
    policy: { policy, evaluate: (request: never) => evaluatePolicy(policy, request, host as never) } as never,
    audit: {
      append: async (...added: AuditEntry[]) => void entries.push(...added),
      note: (...added: AuditEntry[]) => void entries.push(...added),
    } as never,
    clock: systemClock,
    nameplate: () => ({ agentId: AGENT, labels: {} }),
    allowedControllers: () => undefined,
    maxSkewMs: 60_000,
  });
}

function changed(random: () => number): (current: NetworkDesiredState) => NetworkDesiredState {
  const pick = (most: number) => Math.floor(random() * most);
  const name = `n${pick(3)}`;
  const kind = pick(4);
  const publicKey = Buffer.alloc(32, pick(20)).toString('base64');
  const keepalive = pick(100);
  return ({ networks }) => {
    const others = networks.filter((network) => network.name !== name);
    const network = networks.find((one) => one.name === name);
    if (kind === 0 && network !== undefined) return create(NetworkDesiredStateSchema, { networks: others });
    const peers = (network?.peers ?? []).filter((peer) => peer.publicKey !== publicKey);
    const peer = { publicKey, persistentKeepaliveSecs: keepalive };
    const next = { name, mtu: kind === 1 ? 1280 + keepalive : (network?.mtu ?? 0), peers: [...peers, peer] };
    return create(NetworkDesiredStateSchema, { networks: [...others, next as never] });
  };
}

/** One run: a host, its agent, and a controller, each of which may end and begin anew. */
class Run implements AsyncDisposable {
  readonly #random: () => number;
  readonly #gate: Awaited<ReturnType<typeof openGate>>;
  readonly #folder: string;
  readonly #entries: AuditEntry[] = [];
  readonly #disk: FakeDisk = {};
  #fleet: FleetUnderTest;
  #agent: AgentSide | undefined;
  #network = new FakeNetwork(this.#disk);
  #availability = new Map<string, Availability>();

  private constructor(seed: number, gate: Awaited<ReturnType<typeof openGate>>, folder: string, fleet: FleetUnderTest) {
    this.#random = seededRandom(seed);
    this.#gate = gate;
    this.#folder = folder;
    this.#fleet = fleet;
    gate.lead(fleet.grpcAddress);
  }

  static async start(seed: number, gate: Awaited<ReturnType<typeof openGate>>, folder: string): Promise<Run> {
    const run = new Run(seed, gate, folder, await FleetUnderTest.start());
    await run.#startAgent();
    await until('the agent is known', async () => await run.#fleet.store.agents.get(AGENT));
    return run;
  }

  async change(): Promise<void> {
    await this.#fleet.desiredStates.put(AGENT, NETWORK_STATE, changed(this.#random));
  }

  /** Something happens. */
  async step(): Promise<void> {
    const what = this.#random();
    if (what < 0.6) await this.change();
    else if (what < 0.7) this.#gate.cut();
    else if (what < 0.78) await this.mend();
    else if (what < 0.88) {
      await this.#agent?.[Symbol.asyncDispose]();
      await this.#startAgent();
    } else if (what < 0.95) await this.#restartController();
    else if (this.#disk.state !== undefined) {
      // Another controller was here, or a backup of this one was put back.
      this.#disk.state = { ...this.#disk.state, generation: this.#disk.state.generation + 3n };
    }
    if (this.#random() < 0.4) await new Promise((resolve) => setTimeout(resolve, 3));
  }

  /** The capability becomes available, if it isn't. */
  async mend(): Promise<void> {
    this.#availability.set('network', await this.#network.open());
    this.#agent?.link.factsChanged();
  }

  async converged(): Promise<boolean> {
    const { desiredStates } = this.#fleet;
    const { state, generation, refusal } = await desiredStates.get(AGENT, NETWORK_STATE);
    const report = (await desiredStates.latestReport(AGENT, NETWORK_STATE))?.report;
    const body = NETWORK_STATE.encode(state);
    const same = (digest: Uint8Array | undefined) =>
      digest !== undefined && bodyDigest(body).every((byte, at) => byte === digest[at]);
    const held = this.#network.held();
    return (
      refusal === undefined &&
      held?.generation === generation &&
      report?.generation === generation &&
      same(held.digest) &&
      same(report.digest) &&
      Buffer.compare(this.#disk.state!.body, body) === 0
    );
  }

  /** Where all stand, for a run that doesn't come to its end. */
  async standing(): Promise<string> {
    const { generation, refusal } = await this.#fleet.desiredStates.get(AGENT, NETWORK_STATE);
    const report = (await this.#fleet.desiredStates.latestReport(AGENT, NETWORK_STATE))?.report;
    const link = this.#agent?.link.status().state;
    const held = this.#network.held()?.generation;
    const known = { wanted: generation, refusal, reported: report?.generation, error: report?.error?.message };
    return inspect(
      { ...known, held, onDisk: this.#disk.state?.generation, link, lines: this.#agent?.log.lines.slice(-8) },
      { depth: 5 },
    );
  }

  /** What was refused for what it is. */
  refusals(): readonly AuditEntry[] {
    return this.#entries.filter(({ outcome }) => outcome === 'policy' || outcome === 'identity');
  }

  async #startAgent(): Promise<void> {
    const network = new FakeNetwork(this.#disk);
    network.beforeDurable = async () => {
      if (this.#random() < 0.2) await new Promise((resolve) => setTimeout(resolve, 2));
    };
    const availability = new Map<string, Availability>();
    const refusal = () => new LonglineError('unavailable', 'not yet');
    const host = new StateRegistry([network], { availability, refusal });
    const states = { host, admission: strictAdmission(this.#fleet.publicKey, this.#entries) };
    const agent = await AgentSide.open(this.#folder, () => this.#gate.port, { states });
    [this.#network, this.#availability, this.#agent] = [network, availability, agent];
    if (this.#random() < 0.3) availability.set('network', { available: false, reason: 'not yet', mend: 'wait' });
    else availability.set('network', await network.open());
    await agent.start();
  }

  async #restartController(): Promise<void> {
    const { folder, signing } = this.#fleet;
    await this.#fleet.stop();
    this.#fleet = await FleetUnderTest.start({ folder, signing });
    this.#gate.lead(this.#fleet.grpcAddress);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
    await this.#fleet[Symbol.asyncDispose]();
  }
}

describe('desired states, from controller to host', () => {
  for (const seed of faultSeeds(4)) {
    it(`arrive whatever happens on the way (seed ${seed})`, async () => {
      await using gate = await openGate();
      await using folder = await scratchFolder();
      await using run = await Run.start(seed, gate, folder.path);
      for (let step = 0; step < STEPS; step++) await run.step();
      await run.mend();
      await run.change();
      await until('the host holds what is wanted, and the controller knows', () => run.converged()).catch(
        async (error: unknown) => assert.fail(`${(error as Error).message}: ${await run.standing()}`),
      );
      assert.deepEqual(run.refusals(), []);
    });
  }
});
