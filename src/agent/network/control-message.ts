// Control messages of applications on this host, in JSON: connect, disconnect, status. Strict: an unknown key or a wrong type is an
// error that names the field. Fields are named as the message names them. Pure.
import type { NetworkSpecMessage } from '../../capabilities/network/wire.ts';
import { specMessage } from '../../capabilities/network/wire.ts';
import { type FieldViolation, invalid, type LonglineError } from '../../core/errors.ts';
import { BACKENDS } from '../../core/network/network-spec.ts';
import { readValues, type TomlTable } from '../../core/toml/toml-table.ts';

/** What an application asks for. */
export type ControlRequest =
  | { readonly action: 'connect'; readonly spec: NetworkSpecMessage }
  /** The network of this name or interface. */
  | { readonly action: 'disconnect'; readonly which: string }
  /** That network, or all. */
  | { readonly action: 'status'; readonly which: string | undefined };

const ACTIONS = ['connect', 'disconnect', 'status'] as const;
const MAX_UINT32 = 0xffff_ffff;

/** Reads one message. Throws `invalid` with everything that is wrong. */
export function readControlMessage(text: string): ControlRequest {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw invalid([{ field: 'message', description: `not JSON: ${(error as Error).message.slice(0, 200)}` }]);
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw invalid([{ field: 'message', description: 'must be an object such as {"action":"status"}' }]);
  }
  return readValues(values as Readonly<Record<string, unknown>>, readRequest);
}

function readRequest(root: TomlTable): ControlRequest {
  const form = ACTIONS.map((action) => `"${action}"`).join(', ');
  const action = root.requiredString('action', new RegExp(`^(${ACTIONS.join('|')})$`), `one of ${form}`);
  const name = root.string('name');
  const interfaceName = root.string('interface');
  const which = name ?? interfaceName;
  if (action === 'connect') return { action, spec: readSpec(root, name, interfaceName) };
  if (action === 'disconnect') {
    if (which === undefined) root.fail('interface', 'missing; must be the name or interface of a network');
    return { action, which: which ?? '' };
  }
  return { action: 'status', which };
}

function readSpec(root: TomlTable, name: string | undefined, interfaceName = ''): NetworkSpecMessage {
  const backend = root.string('backend', new RegExp(`^(auto|${BACKENDS.join('|')})$`), `auto, ${BACKENDS.join(', ')}`);
  return specMessage({
    name: name ?? interfaceName,
    interface: interfaceName,
    privateKeyPath: root.secretString('privateKeyPath') ?? '',
    addresses: [...(root.strings('addresses') ?? [])],
    listenPort: root.number('listenPort', 1, 65_535, true) ?? 0,
    mtu: root.number('mtu', 1, MAX_UINT32, true) ?? 0,
    dnsServers: [...(root.strings('dns') ?? [])],
    dnsDomains: [...(root.strings('dnsDomains') ?? [])],
    routes: [...(root.strings('routes') ?? [])],
    table: root.stringOrWhole('table') ?? '',
    fwmark: root.number('fwmark', 0, MAX_UINT32, true) ?? 0,
    forward: root.boolean('forward') ?? false,
    natSubnets: [...(root.strings('natSubnets') ?? [])],
    backend: (BACKENDS as readonly (string | undefined)[]).indexOf(backend) + 1,
    adoptInterface: root.boolean('adoptInterface') ?? false,
    peers: root.tables('peers').map(readPeer),
  });
}

function readPeer(table: TomlTable) {
  return {
    name: table.string('name') ?? '',
    publicKey: table.requiredString('publicKey') ?? '',
    endpoint: table.string('endpoint') ?? '',
    allowedIps: [...(table.strings('allowedIps') ?? [])],
    persistentKeepaliveSecs: table.number('keepaliveSecs', 0, 65_535, true) ?? 0,
    presharedKeyPath: table.secretString('presharedKeyPath') ?? '',
  };
}

/** The error as an application reads it, with the name that the message gives to the field. */
export function controlError(error: LonglineError) {
  const [first] = error.violations;
  const { message, reason } = error;
  if (first === undefined) {
    const [, field = '', rest = message] = /^(name|interface): (.*)$/s.exec(message) ?? [];
    return { reason, field, message: rest };
  }
  return { reason, ...inWords(first), violations: error.violations.map(inWords) };
}

function inWords({ description, field }: FieldViolation): { readonly field: string; readonly message: string } {
  const camel = field.replaceAll(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase());
  return { field: camel.replace('persistentKeepaliveSecs', 'keepaliveSecs'), message: description };
}
