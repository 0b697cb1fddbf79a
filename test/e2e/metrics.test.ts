// A real Prometheus scrapes a real controller, a real agent that does all it can do, and a replica of it that stands by; and then every
// expression of every dashboard and alert gives something.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AGENT_METRICS } from '../../src/telemetry/metrics/agent-names.ts';
import { CONTROLLER_METRICS } from '../../src/telemetry/metrics/controller-names.ts';
import { dockerMissing, startDocker } from '../fixtures/engines.ts';
import { wireguardMissing } from '../fixtures/netns.ts';
import { bpfMissing } from '../fixtures/private-bpffs.ts';
import { ProgramHost } from '../fixtures/program-host.ts';
import { Prometheus, prometheusMissing, promtool } from '../fixtures/prometheus.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';
import { Flow } from '../fixtures/traffic.ts';

const GRAFANA = join(import.meta.dirname, '../../deploy/grafana');
const AGENT = 'edge';
/** Spans, figures and log lines are sent to where nobody is, which is counted. */
const DEAF_COLLECTOR = {
  OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9',
  OTEL_LOGS_EXPORTER: 'otlp',
  OTEL_METRIC_EXPORT_INTERVAL: '1000',
};
const MISSING = prometheusMissing() ?? wireguardMissing() ?? bpfMissing() ?? dockerMissing() ?? testImageMissing();

/** Figures that a host and a fleet in good order don't have, and why not. Each is in the list of names, and tested where it is made. */
const ONLY_IN_TROUBLE: ReadonlyMap<string, string> = new Map([
  ['longline_metrics_overflows_total', 'more series than a family may have'],
  ['longline_controller_oldest_key_rotation_start_timestamp_seconds', 'a rotation that goes on'],
  [
    'longline_controller_oldest_unsent_command_timestamp_seconds',
    'a command that is not sent to an agent that is online',
  ],
  ['longline_watchdog_beats_total', 'a service manager with a watchdog'],
]);

interface Panel {
  readonly title: string;
  readonly targets: readonly { readonly expr: string }[];
}

interface Expression {
  readonly where: string;
  readonly text: string;
}

/** As Grafana would send them. */
async function dashboardExpressions(): Promise<readonly Expression[]> {
  const folder = join(GRAFANA, 'dashboards');
  const found: Expression[] = [];
  for (const file of (await readdir(folder)).sort()) {
    const { panels } = JSON.parse(await readFile(join(folder, file), 'utf8')) as { panels: readonly Panel[] };
    for (const { title, targets } of panels) {
      for (const { expr } of targets) {
        const text = expr.replaceAll('$__rate_interval', '20s').replaceAll('$instance', '.*');
        found.push({ where: `${file}: ${title}`, text });
      }
    }
  }
  return found;
}

describe('figures that Prometheus scrapes', { skip: MISSING ?? false }, () => {
  let stack: AsyncDisposableStack;
  let host: ProgramHost;
  let prometheus: Prometheus;

  before(async () => {
    stack = new AsyncDisposableStack();
    const engine = stack.adopt(await startDocker(), (one) => one.dispose());
    await loadTestImages(engine);
    const folder = stack.adopt(
      await mkdtemp(join(tmpdir(), 'll-replicas-')),
      async (path) => await rm(path, { recursive: true, force: true }),
    );
    const replicated = ['--enable-ha', '--lock-file-path', join(folder, 'edge.lock')];
    const args = ['--docker-host', engine.host, '--http-port', '8080', ...replicated];
    host = stack.use(await ProgramHost.start(AGENT, args, { serviceEnvironment: DEAF_COLLECTOR }));
    // Ended before the one that leads, so that it never does.
    const standby = stack.use(
      host.fleet.agent(AGENT, ['--http-port', '8083', ...replicated], host.fleet.url, host.edge.within),
    );
    standby.start();
    const { token, ca } = JSON.parse(await readFile(host.fleet.context, 'utf8')) as { token: string; ca: string };
    assert.ok(token.length > 0);
    const viewer = await host.fleet.longline(
      'token',
      'api',
      'create',
      '--name',
      'prometheus',
      '--role',
      'viewer',
      '--json',
    );
    prometheus = stack.use(
      await Prometheus.start(
        {
          'prometheus.yaml': configuration(new URL(host.fleet.url).host),
          'alerts.yaml': await readFile(join(GRAFANA, 'alerts.yaml'), 'utf8'),
          'longline-token': viewer.json<{ token: string }>().token,
          'longline-ca.pem': ca,
        },
        host.edge.within,
      ),
    );
    await work();
  });
  after(async () => await stack?.disposeAsync());

  const done = async (...args: readonly string[]) => {
    const outcome = await host.fleet.longline(...args);
    assert.equal(outcome.code, 0, `${args.join(' ')}: ${outcome.stderr}`);
  };

  /** A bit of everything. */
  async function work(): Promise<void> {
    const { fleet, home, edge } = host;
    await fleet.job(AGENT, [], ['true']);
    await fleet.job(AGENT, [], ['sh', '-c', 'echo output; exit 3']);
    const session = ['--agent', AGENT, '--image', TEST_IMAGE, '--stop-grace', '1s'];
    await done(
      'session',
      'start',
      '--id',
      'desk',
      ...session,
      '--',
      'sh',
      '-c',
      'trap "exit 0" TERM; while true; do sleep 0.2; done',
    );
    await done('session', 'hibernate', 'desk', '--tier', 'pause');
    await done('session', 'wake', 'desk');
    await done('session', 'start', '--id', 'brief', ...session, '--', 'sh', '-c', 'sleep 1; exit 3');
    await fleet.enrolled('home', [], fleet.url, home.alone);
    const members = ['--member', `${AGENT}=${edge.address}`, '--member', `home=${home.address}`];
    await done(
      'network',
      'mesh',
      'create',
      'office',
      '--pool',
      '10.77.0.0/24',
      '--interface',
      edge.tunnel,
      ...members,
      '--wait',
    );
    const file = await host.artifact('xdp-counter');
    await done('program', 'load', '--agent', AGENT, '--artifact', file, '--attach', 'xdp:eth0', '--param', 'limit=0');
    await using flow = await Flow.start(home, edge, '10.77.0.1');
    await flow.passed(20);
    await flow.stop();
    await host.until('packets counted', 'counter', ({ figures }) => (figures?.packets ?? 0) > 0);
  }

  /** Asks until each gives something; gives those that don't. */
  async function without(expressions: readonly Expression[]): Promise<readonly string[]> {
    const endsAt = performance.now() + 60_000;
    let left = expressions;
    for (;;) {
      const answers = await prometheus.query(left.map(({ text }) => text));
      const wrong = left.flatMap(({ where, text }, at) => {
        const { error } = answers[at]!;
        return error === undefined ? [] : [`${where}: ${text}: ${error}`];
      });
      assert.deepEqual(wrong, []);
      left = left.filter((_, at) => answers[at]!.series.length === 0);
      if (left.length === 0 || performance.now() > endsAt) return left.map(({ where, text }) => `${where}: ${text}`);
    }
  }

  it('all are up, and all names that come are in the lists of names', async () => {
    const up = await without([
      { where: 'controller', text: 'up{job="longline-controller"} == 1' },
      { where: 'agents', text: 'sum(up{job="longline-agent"}) == 2' },
      { where: 'the replicas', text: `sum(longline_election_leading{agent="${AGENT}"}) == 1` },
      { where: 'the standby', text: 'longline_ready{instance="127.0.0.1:8083"} == 1' },
    ]);
    assert.deepEqual(up, []);
    const names = (await prometheus.api('label/__name__/values')) as readonly string[];
    const known = new Set([...AGENT_METRICS, ...CONTROLLER_METRICS].map(({ name }) => name));
    const bare = (name: string) => name.replace(/_(bucket|sum|count)$/, '');
    const unknown = names.filter(
      (name) => /^(longline|process)_/.test(name) && !known.has(name) && !known.has(bare(name)),
    );
    assert.deepEqual(unknown, []);
    const { activeTargets } = (await prometheus.api('targets')) as {
      activeTargets: readonly { scrapePool: string; lastError: string }[];
    };
    const errors = activeTargets.filter(({ scrapePool }) => scrapePool !== 'early').map(({ lastError }) => lastError);
    assert.deepEqual(errors, ['', '', '']);
  });

  it('every expression of every dashboard gives something', async () => {
    const expressions = await dashboardExpressions();
    assert.ok(expressions.length > 100);
    assert.deepEqual(await without(expressions), []);
  });

  it('every alert rule is evaluated, and knows of figures that are there', async () => {
    const { groups } = (await prometheus.api('rules')) as {
      groups: readonly { rules: readonly { name: string; query: string; health: string; lastError?: string }[] }[];
    };
    const rules = groups.flatMap((group) => group.rules);
    assert.ok(rules.length > 30);
    for (const { name, health, lastError = '' } of rules) {
      assert.notEqual(health, 'err', `${name}: ${lastError}`);
    }
    const listed = new Set([...AGENT_METRICS, ...CONTROLLER_METRICS].map(({ name }) => name));
    const used = rules.flatMap(({ name, query }) =>
      [...query.matchAll(/\b(?:longline|process)_[a-z_]+/g)].map(([text]) => ({ where: name, text })),
    );
    for (const [name] of ONLY_IN_TROUBLE) assert.ok(listed.has(name), name);
    assert.deepEqual(await without(used.filter(({ text }) => !ONLY_IN_TROUBLE.has(text))), []);
  });

  it('an agent that is scraped while it starts comes up, and each part tells its figures from the first scrape on', async () => {
    const { fleet, edge } = host;
    assert.deepEqual(await without([{ where: 'not there yet', text: 'up{job="early"} == 0' }]), []);
    const early = fleet.agent('early', ['--http-port', '8082'], fleet.url, edge.within);
    early.start(['--token', await fleet.token()]);
    const up = { where: 'early', text: 'up{job="early"} == 1 and on (job) longline_link_state{state="open"} == 1' };
    assert.deepEqual(await without([up]), []);
    const [failures] = await prometheus.query(['sum(longline_metrics_collector_failures_total{job="early"})']);
    assert.equal(failures!.series[0]!.value[1], '0');
    assert.doesNotMatch(early.command.stderr, /figures can not be had/);
  });

  it('promtool finds nothing wrong with rules, configuration and exposition', async () => {
    const rules = promtool('check', 'rules', join(GRAFANA, 'alerts.yaml'));
    assert.equal(rules.code, 0, rules.output);
    const config = promtool('check', 'config', '--syntax-only', join(GRAFANA, 'prometheus.yaml'));
    assert.equal(config.code, 0, config.output);
  });
});

function configuration(controller: string): string {
  return JSON.stringify({
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: ['alerts.yaml'],
    scrape_configs: [
      {
        job_name: 'longline-controller',
        scheme: 'https',
        authorization: { credentials_file: 'longline-token' },
        tls_config: { ca_file: 'longline-ca.pem' },
        static_configs: [{ targets: [controller] }],
      },
      { job_name: 'early', static_configs: [{ targets: ['127.0.0.1:8082'] }] },
      { job_name: 'longline-agent', static_configs: [{ targets: ['127.0.0.1:8080', '127.0.0.1:8083'] }] },
    ],
  });
}
