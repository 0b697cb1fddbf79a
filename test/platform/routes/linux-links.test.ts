import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MAIN_TABLE, type Route, stepKey, type WantedLink } from '../../../src/capabilities/network/link.ts';
import { reconcileLink, undoLink } from '../../../src/capabilities/network/link-reconcile.ts';
import type { RunCommand } from '../../../src/core/command.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { LinuxLinks } from '../../../src/platform/routes/linux-links.ts';
import { NftFirewall } from '../../../src/platform/routes/nft-firewall.ts';
import { LinkModel, MemoryLedger } from '../../capabilities/network/link-model.ts';
import { commandRecorder } from '../../fixtures/command-recorder.ts';
import { labCommands, labSysctls } from '../../fixtures/lab-system.ts';
import { type LabHost, NetworkLab, netnsMissing, programMissing } from '../../fixtures/netns.ts';
import { declareLinkContract, type OpenLink } from './link-contract.ts';

const VALID_MARK = 'net/ipv4/conf/all/src_valid_mark';

describe('links, model', () =>
  declareLinkContract(async (): Promise<OpenLink> => {
    const model = new LinkModel();
    return {
      driver: model,
      name: 'wg0',
      setAddress: async (address) => void model.addAddress(address),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }, 1));

interface LinuxLink extends OpenLink {
  readonly host: LabHost;
  readonly commands: readonly (readonly string[])[];
}

async function open(): Promise<LinuxLink> {
  const lab = await NetworkLab.create(1);
  const [host] = lab.hosts as [LabHost];
  // Up has to mean that packets pass, so one end of a pair, and the other is up.
  await ip(host, 'link add wg0 type veth peer name far0');
  await ip(host, 'link set far0 up');
  const commands: (readonly string[])[] = [];
  return {
    host,
    commands,
    driver: new LinuxLinks(labCommands(host, commands), labSysctls(host)),
    name: 'wg0',
    setAddress: async (address) => void (await ip(host, `address add ${address} dev wg0`)),
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
}

function ip(host: LabHost, words: string): Promise<string> {
  return host.ip(...words.split(' '));
}

function manyRoutes(count: number, first = 0): readonly Route[] {
  return Array.from({ length: count }, (_, index) => {
    const n = first + index;
    const prefix = `10.${100 + (n >> 14)}.${(n >> 6) & 255}.${(n & 63) * 4}/30`;
    return { prefix, table: MAIN_TABLE };
  });
}

const skip = netnsMissing() ?? programMissing('nft', 'nftables') ?? programMissing('setpriv', 'util-linux');

describe('links, Linux', { skip }, () => {
  declareLinkContract(open, 4);

  it('sets 10,000 routes by one process, and changes 200 of them without touching the others', async () => {
    await using link = await open();
    const ledger = new MemoryLedger();
    const wanted: WantedLink = {
      interface: 'wg0',
      mtu: undefined,
      up: true,
      addresses: ['192.0.2.1/32'],
      routes: manyRoutes(10_000),
      rules: [],
    };
    const batches = () => link.commands.filter((argv) => argv.includes('-force')).length;
    assert.deepEqual([...(await reconcileLink(link.driver, ledger, wanted)).refused], []);
    assert.equal(batches(), 1);
    const changed = { ...wanted, routes: [...wanted.routes.slice(200), ...manyRoutes(200, 20_000)] };
    const { steps } = await reconcileLink(link.driver, ledger, changed);
    assert.deepEqual([steps.length, batches()], [400, 2]);
    assert.deepEqual((await reconcileLink(link.driver, ledger, changed)).steps, []);
    assert.equal((await link.driver.read('wg0')).routes.filter(({ origin }) => origin === 'ours').length, 10_000);
  });

  it('leaves routes without our protocol number alone, and does without those that do the same', async () => {
    await using link = await open();
    await ip(link.host, 'link set wg0 up');
    await ip(link.host, 'route add 10.1.0.0/16 dev wg0');
    await ip(link.host, 'route add 10.2.0.0/16 dev wg0 protocol static');
    const routes = [{ prefix: '10.1.0.0/16', table: MAIN_TABLE }];
    const wanted = { interface: 'wg0', mtu: undefined, up: true, addresses: [], routes, rules: [] };
    const { foreign, steps } = await reconcileLink(link.driver, new MemoryLedger(), wanted);
    assert.deepEqual(steps, []);
    assert.deepEqual(foreign.routes, [{ prefix: '10.2.0.0/16', table: MAIN_TABLE }]);
  });

  it('names the route that another interface has, and sets the rest', async () => {
    await using link = await open();
    await ip(link.host, 'route add 10.1.0.0/16 dev far0');
    const routes = ['10.1.0.0/16', '10.2.0.0/16'].map((prefix) => ({ prefix, table: MAIN_TABLE }));
    const wanted = { interface: 'wg0', mtu: undefined, up: true, addresses: ['fd00::1/64'], routes, rules: [] };
    const { refused } = await reconcileLink(link.driver, new MemoryLedger(), wanted);
    assert.deepEqual([...refused.keys()], ['add_route 10.1.0.0/16 table 254']);
    assert.match(
      refused.get('add_route 10.1.0.0/16 table 254')!.message,
      /File exists.*somebody else has set the same/,
    );
    assert.match(await ip(link.host, 'route show 10.2.0.0/16'), /proto 76/);
  });

  it('sends marked packets the way the main table knows, and all others into the tunnel', async () => {
    await using link = await open();
    await ip(link.host, 'link add out0 type veth peer name out1');
    for (const one of ['out0', 'out1']) await ip(link.host, `link set ${one} up`);
    await ip(link.host, 'address add 198.51.100.2/24 dev out0');
    await ip(link.host, 'route add default via 198.51.100.1');
    const rules = [
      { kind: 'unmarked', family: 4, priority: 32_001, mark: 8192, table: 8192 },
      { kind: 'main_but_default', family: 4, priority: 32_000 },
    ] as const;
    const routes = [{ prefix: '0.0.0.0/0', table: 8192 }];
    const wanted = { interface: 'wg0', mtu: undefined, up: true, addresses: ['10.0.0.2/32'], routes, rules };
    assert.deepEqual([...(await reconcileLink(link.driver, new MemoryLedger(), wanted)).refused], []);
    assert.match(await ip(link.host, 'route get 203.0.113.5'), /dev wg0 table 8192/);
    assert.match(await ip(link.host, 'route get 203.0.113.5 mark 8192'), /via 198\.51\.100\.1 dev out0/);
    assert.match(await ip(link.host, 'route get 198.51.100.7'), /dev out0/);
    assert.equal(await labSysctls(link.host).read(VALID_MARK), '1');
  });

  it('needs nothing but CAP_NET_ADMIN', async () => {
    await using link = await open();
    const caps = '-all,+net_admin';
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', `--inh-caps=${caps}`] as const;
    const run = labCommands(link.host);
    // nft opens its input once more, by its path: the user must own it, as an agent does what it writes.
    const own = ['sh', '-c', 'cat | "$@"', 'sh'];
    const bare: RunCommand = (command, signal) => {
      const argv = [...nobody, `--ambient-caps=${caps}`, '--no-new-privs', ...own, ...command.argv] as const;
      return run({ ...command, argv }, signal);
    };
    const rules = [{ kind: 'unmarked', family: 4, priority: 32_001, mark: 8192, table: 8192 }] as const;
    const routes = [{ prefix: '0.0.0.0/0', table: 8192 }];
    const wanted = { interface: 'wg0', mtu: 1380, up: true, addresses: ['10.0.0.2/32', 'fd00::2/64'], routes, rules };
    const links = new LinuxLinks(bare, labSysctls(link.host, bare));
    const { refused, steps } = await reconcileLink(links, new MemoryLedger(), wanted);
    assert.deepEqual([...refused], []);
    assert.deepEqual([steps.length, await labSysctls(link.host).read(VALID_MARK)], [6, '1']);
    const firewall = new NftFirewall(bare, []);
    assert.equal(await firewall.apply('wg0', { masquerade: ['10.0.0.0/8'], replyMark: 8192 }), true);
    assert.equal(await firewall.othersForward(), false);
    assert.equal(await firewall.apply('wg0', undefined), true);
  });

  it('says so where IPv6 is switched off, and sets the rest', async () => {
    await using link = await open();
    await labSysctls(link.host).ensure('net/ipv6/conf/wg0/disable_ipv6', '1');
    const addresses = ['fd00::1/64', '10.0.0.1/24'];
    const wanted = { interface: 'wg0', mtu: undefined, up: true, addresses, routes: [], rules: [] };
    const { refused } = await reconcileLink(link.driver, new MemoryLedger(), wanted);
    assert.deepEqual([...refused.keys()], ['add_address fd00::1/64']);
    assert.match(refused.get('add_address fd00::1/64')!.message, /set net\.ipv6\.conf\.wg0\.disable_ipv6 to 0/);
    assert.match(await ip(link.host, 'address show dev wg0'), /10\.0\.0\.1\/24/);
  });

  it('takes away the rules of an interface that is gone', async () => {
    await using link = await open();
    const ledger = new MemoryLedger();
    const rules = [{ kind: 'unmarked', family: 6, priority: 32_001, mark: 8192, table: 8192 }] as const;
    const wanted = { interface: 'wg0', mtu: undefined, up: true, addresses: [], routes: [], rules };
    await reconcileLink(link.driver, ledger, wanted);
    await ip(link.host, 'link delete wg0');
    assert.deepEqual(await link.driver.read('wg0').then(({ rules: left, state }) => [left, state]), [rules, 'absent']);
    await undoLink(link.driver, ledger, 'wg0');
    assert.deepEqual((await link.driver.read('wg0')).rules, []);
  });
});

describe('links, Linux, to the byte', () => {
  const sysctls = { read: async () => '1', ensure: async () => false };

  it('says each step as ip wants it', async () => {
    const { run, said } = commandRecorder();
    const rule = { kind: 'unmarked', priority: 32_001, mark: 8192, table: 8192 } as const;
    await new LinuxLinks(run, sysctls).apply('wg0', [
      { kind: 'mtu', mtu: 1420 },
      { kind: 'up' },
      { kind: 'add_address', address: '10.0.0.1/24' },
      { kind: 'add_rule', rule: { ...rule, family: 6 } },
      { kind: 'remove_rule', rule: { kind: 'main_but_default', family: 4, priority: 32_000 } },
      { kind: 'remove_route', route: { prefix: 'fd00::/8', table: 77 } },
    ]);
    assert.deepEqual(said, [
      'ip -force -batch - < link set dev wg0 mtu 1420|link set dev wg0 up|address add 10.0.0.1/24 dev wg0|' +
        'rule del priority 32000 lookup 254 suppress_prefixlength 0 protocol 76|' +
        'route del fd00::/8 dev wg0 table 77 protocol 76|',
      'ip -6 -force -batch - < rule add priority 32001 not fwmark 8192 lookup 8192 protocol 76|',
    ]);
  });

  it('tells what it has no right to, and what `ip` fails at as a whole', async () => {
    const step = { kind: 'up' } as const;
    const answer =
      (stderr: string): RunCommand =>
      async () => ({ code: 1, stdout: '', stderr });
    const denied = new LinuxLinks(answer('RTNETLINK answers: Operation not permitted\nCommand failed -:1\n'), sysctls);
    const [refusal] = await denied.apply('wg0', [step]);
    assert.equal(stepKey(refusal!.step), 'up');
    assert.match(refusal!.error.message, /CAP_NET_ADMIN is needed/);
    const broken = new LinuxLinks(answer('Cannot open netlink socket: Permission denied'), sysctls);
    await assert.rejects(broken.apply('wg0', [step]), (error) => {
      return error instanceof LonglineError && error.reason === 'unavailable' && /netlink socket/.test(error.message);
    });
    await assert.rejects(broken.read('wg0'), /ip can't read "wg0": Cannot open netlink/);
  });
});
