import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { canonicalJson } from '../../../src/core/canonical-json.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { generateArtifactKey, readPublicKey } from '../../../src/core/programs/artifact-key.ts';
import { VaultClient, type VaultLogin } from '../../../src/platform/vault/vault-client.ts';
import { type KeyCopyFile, type VaultKeyPlaces, VaultKeys } from '../../../src/platform/vault/vault-keys.ts';
import { FakeVault, type VaultFault } from '../../fixtures/vault.ts';
import { makePki } from '../../link/certificates.ts';

const ed25519 = generateArtifactKey('ed25519').publicPem;
const second = generateArtifactKey('ed25519').publicPem;
const ecdsa = generateArtifactKey('ecdsa-p256').publicPem;
const rsa = generateArtifactKey('rsa-pss').publicPem;
const { signal } = new AbortController();

class Copy implements KeyCopyFile {
  text: string | undefined;
  saves = 0;
  broken = false;

  load(): Promise<string | undefined> {
    return this.broken ? Promise.reject(new Error('it can be written by others')) : Promise.resolve(this.text);
  }

  save(text: string): Promise<void> {
    if (this.broken) return Promise.reject(new Error('no space left'));
    this.text = text;
    this.saves++;
    return Promise.resolve();
  }
}

const TRANSIT: VaultKeyPlaces = { transit: { mount: 'transit', names: ['longline'] }, kv: [] };
const BOTH: VaultKeyPlaces = { ...TRANSIT, kv: [{ mount: 'secret', path: 'longline/artifact-keys', version: 2 }] };
const TOKEN: VaultLogin = { kind: 'token', token: 'hvs.given' };
const ROLE: VaultLogin = { kind: 'approle', roleId: 'role', secretId: 'secret', mount: 'approle' };

class Setting implements AsyncDisposable {
  readonly vault: FakeVault;
  readonly copy = new Copy();
  readonly log: string[] = [];
  nowMs = 0;
  /** Of each request. Short only where it is waited for: the machine may stand still for a moment. */
  timeoutMs = 60_000;

  constructor(vault: FakeVault) {
    this.vault = vault;
    vault.tokens.set('hvs.given', { ttl: 0, renewable: false, renewals: 0 });
    vault.roles.set('role', 'secret');
    vault.transit.set('longline', { type: 'ed25519', least: 1, versions: new Map([[1, ed25519]]) });
    vault.kv2.set('longline/artifact-keys', {
      ops: ecdsa,
      old: { public_key: rsa, not_after: '2030-01-31T12:00:00Z' },
    });
  }

  open(
    places = TRANSIT,
    login = TOKEN,
    more: { readonly url?: string; readonly ca?: string; readonly identity?: string; readonly namespace?: string } = {},
  ): VaultKeys {
    const note = (message: string, fields?: object) => void this.log.push(`${message} ${canonicalJson(fields ?? {})}`);
    const { url = this.vault.url, ca, identity = 'here', namespace } = more;
    const monotonic = () => this.nowMs;
    const setting = this;
    const client = new VaultClient({
      ...{ url, namespace, ca, login, monotonic },
      get timeoutMs() {
        return setting.timeoutMs;
      },
    });
    return new VaultKeys({
      client,
      places,
      identity,
      copy: this.copy,
      clock: { now: () => this.nowMs, monotonic, sleep: () => Promise.reject(new Error('nobody sleeps here')) },
      log: { ...silentLogger, warn: note, error: note },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vault[Symbol.asyncDispose]();
    assert.deepEqual(this.vault.violations, []);
    assert.doesNotMatch(this.log.join(), /hvs\.|secret"/);
  }
}

const setUp = async (options?: Parameters<typeof FakeVault.start>[0]) => new Setting(await FakeVault.start(options));
const ids = async (keys: VaultKeys) => (await keys.keys(signal)).map(({ keyId }) => keyId).sort();

describe('keys in Vault', () => {
  it('are those of transit, by name and version and by themselves', async () => {
    await using here = await setUp();
    const transit = here.vault.transit.get('longline')!;
    transit.versions.set(2, second);
    transit.versions.set(3, generateArtifactKey('ed25519').publicPem);
    transit.least = 2;
    const found = await here.open().keys(signal);
    assert.equal(found.length, 4);
    const version2 = found.find(({ keyId }) => keyId === 'vault:longline:v2')!;
    assert.deepEqual(version2.publicKey, readPublicKey(second).publicKey);
    assert.ok(found.some(({ keyId }) => keyId === readPublicKey(second).keyId));
    assert.ok(!found.some(({ keyId }) => keyId === 'vault:longline:v1'));
  });

  it('are those of all types that sign, and of no others', async () => {
    await using here = await setUp();
    const types = { 'ecdsa-p256': ecdsa, 'rsa-3072': rsa, ed25519 };
    for (const [type, pem] of Object.entries(types)) {
      here.vault.transit.set(type, { type, least: 1, versions: new Map([[1, pem]]) });
    }
    here.vault.transit.set('aes', { type: 'aes256-gcm96', least: 1, versions: new Map([[1, ed25519]]) });
    const names = [...Object.keys(types), 'aes', 'absent'];
    const found = await here.open({ transit: { mount: 'transit', names }, kv: [] }).keys(signal);
    const algorithms = new Set(found.map(({ algorithm }) => algorithm));
    assert.deepEqual([...algorithms].sort(), ['ecdsa-p256', 'ed25519', 'rsa-pss']);
    assert.match(here.log.join('\n'), /aes in Vault is of type aes256-gcm96; must be one of ed25519, ecdsa-p256/);
    assert.match(here.log.join('\n'), /there is nothing at transit\/keys\/absent/);
  });

  it('are those of KV entries of either version, with their ends, and what is no key is told of', async () => {
    await using here = await setUp();
    here.vault.kv2.set('longline/artifact-keys', {
      ops: ecdsa,
      old: { public_key: rsa, not_after: '2030-01-31T12:00:00Z' },
      'not an id': ecdsa,
      private: generateArtifactKey('ed25519').privatePem,
      number: 7,
      local: { public_key: ecdsa, not_after: '2030-01-31' },
    });
    here.vault.kv1.set('keys', { first: ed25519 });
    const kv = [...BOTH.kv, { mount: 'kv', path: 'keys', version: 1 as const }];
    const found = await here.open({ transit: { mount: 'transit', names: [] }, kv }).keys(signal);
    const ends = Object.fromEntries(found.map(({ keyId, expiresAtMs }) => [keyId, expiresAtMs]));
    assert.deepEqual(ends, { ops: undefined, old: Date.parse('2030-01-31T12:00:00Z'), first: undefined });
    assert.equal(here.log.length, 4);
    assert.match(here.log.join('\n'), /it is a private key.*field private"/);
  });

  it('are asked for over TLS, with its own authority and in its namespace', async () => {
    const { authority, server } = await makePki();
    const tls = { key: server.privateKey, cert: server.certificate };
    await using here = await setUp({ namespace: 'teams/edge', tls });
    assert.equal((await ids(here.open(TRANSIT, TOKEN, { ca: authority, namespace: 'teams/edge' }))).length, 2);
    const keys = here.open(TRANSIT, TOKEN, { namespace: 'teams/edge', identity: 'other' });
    await assert.rejects(keys.keys(signal), /can't be reached: unable to verify the first certificate/);
  });
});

describe('a way into Vault', () => {
  it('is a role, whose token is used again, renewed in time, and had anew once it is over', async () => {
    await using here = await setUp();
    const keys = here.open(TRANSIT, ROLE);
    const at = async (seconds: number) => {
      here.nowMs = seconds * 1000;
      await keys.keys(signal);
      return [here.vault.count('auth/approle/login'), here.vault.count('auth/token/renew-self')];
    };
    assert.deepEqual(await at(0), [1, 0]);
    assert.deepEqual(await at(2000), [1, 0]);
    assert.deepEqual(await at(2401), [1, 1]);
    assert.deepEqual(await at(4000), [1, 1]);
    // Renewed no further: past its longest time.
    for (const token of here.vault.tokens.values()) token.renewable = false;
    assert.deepEqual(await at(4900), [2, 2]);
    assert.deepEqual(await at(4900 + 3601), [3, 2]);
    // Revoked.
    here.vault.tokens.clear();
    assert.deepEqual(await at(8600), [4, 2]);
    assert.deepEqual(here.log, []);
  });

  it('is a token that is renewed if it can be', async () => {
    await using here = await setUp();
    const token = { ttl: 3600, renewable: true, renewals: 0 };
    here.vault.tokens.set('hvs.given', token);
    const keys = here.open();
    for (const seconds of [0, 1000, 2500, 3000, 5000]) {
      here.nowMs = seconds * 1000;
      await keys.keys(signal);
    }
    assert.equal(token.renewals, 2);
    assert.equal(here.vault.count('auth/token/lookup-self'), 1);
  });

  it('is refused with what Vault says, and without what is secret', async () => {
    await using here = await setUp();
    const refused = async (login: VaultLogin, message: RegExp) =>
      await assert.rejects(here.open(BOTH, login).keys(signal), (error: unknown) => {
        assert.ok(error instanceof LonglineError && error.reason === 'unavailable', String(error));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /hvs|wrong-secret/);
        return true;
      });
    await refused(
      { ...ROLE, secretId: 'wrong-secret' },
      /answered 400: the role id or secret id is wrong.*invalid role/,
    );
    await refused({ kind: 'token', token: 'hvs.unknown' }, /answered 403: it may not read transit\/keys\/longline/);
    here.vault.tokens.set('hvs.given', { ttl: 0, renewable: false, renewals: 0, paths: ['transit/'] });
    await refused(
      TOKEN,
      /it may not read secret\/data\/longline\/artifact-keys: a policy has to allow it.*permission denied/,
    );
    assert.equal(here.copy.saves, 0);
  });
});

const FAULTS: readonly (readonly [VaultFault, RegExp])[] = [
  [{ kind: 'silent' }, /no answer within 200 ms/],
  [{ kind: 'sealed' }, /answered 503: it is sealed.*Vault is sealed/],
  [{ kind: 'status', status: 500 }, /answered 500: it can not answer.*internal error/],
  [{ kind: 'status', status: 403 }, /answered 403/],
  [{ kind: 'status', status: 429 }, /answered 429/],
  [{ kind: 'html' }, /none of Vault's: it is no JSON object/],
  [{ kind: 'foreign404' }, /answered 404: it can not answer/],
  [{ kind: 'list' }, /it is no JSON object/],
  [{ kind: 'empty' }, /there is no field data/],
  [{ kind: 'huge' }, /more than 1048576 bytes/],
  [{ kind: 'cut' }, /can't be reached: aborted/],
  [
    { kind: 'redirect', location: 'https://elsewhere.example/v1/?token=x' },
    /redirects to https:\/\/elsewhere\.example\/v1\/, which/,
  ],
  [{ kind: 'lie', data: { keys: 'all' } }, /not what it is documented to say/],
  [{ kind: 'lie', data: { type: 'ed25519', min_decryption_version: 1, keys: { 1: 7 } } }, /not what it is documented/],
];

describe('a Vault with a fault', () => {
  for (const [fault, message] of FAULTS) {
    it(`that is ${JSON.stringify(fault).slice(0, 60)} gives no keys, and takes none away`, async () => {
      await using here = await setUp();
      here.vault.faultPath = '/v1/transit';
      here.vault.fault = fault;
      const patience = fault.kind === 'silent' ? 200 : 60_000;
      here.timeoutMs = patience;
      const keys = here.open();
      await assert.rejects(keys.keys(signal), (error: unknown) => {
        assert.ok(error instanceof LonglineError && error.reason === 'unavailable', String(error));
        assert.match(error.message, /^no keys from Vault, and none from before: /);
        assert.match(error.message, message);
        return true;
      });
      assert.equal(here.copy.text, undefined);
      // It mends itself, and is hit again with keys at hand.
      here.vault.fault = undefined;
      here.timeoutMs = 60_000;
      const before = await ids(keys);
      here.vault.fault = fault;
      here.timeoutMs = patience;
      here.nowMs += 60_000;
      const { version } = keys;
      assert.deepEqual(await ids(keys), before);
      assert.equal(keys.version, version);
      assert.match(here.log.at(-1)!, message);
      // A process that comes later has them too.
      assert.deepEqual(await ids(here.open()), before);
    });
  }

  it('is left alone for a while once there are keys, and asked again then', async () => {
    await using here = await setUp();
    const keys = here.open();
    await keys.keys(signal);
    here.vault.fault = { kind: 'sealed' };
    here.nowMs = 11_000;
    await keys.keys(signal);
    const asked = here.vault.asked.length;
    here.nowMs = 40_000;
    await keys.keys(signal);
    assert.equal(here.vault.asked.length, asked);
    here.vault.fault = undefined;
    here.nowMs = 42_000;
    await keys.keys(signal);
    assert.equal(here.vault.asked.length, asked + 1);
  });

  it('that is gone is no reason to wait, with keys from before', async () => {
    await using here = await setUp();
    const before = await ids(here.open());
    await here.vault[Symbol.asyncDispose]();
    assert.deepEqual(await ids(here.open(TRANSIT, TOKEN, { url: 'http://127.0.0.1:1' })), before);
    const other = here.open(TRANSIT, TOKEN, { url: 'http://127.0.0.1:1', identity: 'another Vault' });
    await assert.rejects(other.keys(signal), /none from before: Vault at http:\/\/127\.0\.0\.1:1 can't be reached/);
  });
});

describe('the copy of what Vault gave', () => {
  it('is written when the keys are others, and says what was said last', async () => {
    await using here = await setUp();
    const keys = here.open(BOTH);
    await keys.keys(signal);
    const { version } = keys;
    here.nowMs = 20_000;
    await keys.keys(signal);
    assert.equal(here.copy.saves, 1);
    assert.equal(keys.version, version);
    // A key is taken away for good: that is no fault.
    here.vault.kv2.delete('longline/artifact-keys');
    here.nowMs = 40_000;
    assert.deepEqual((await ids(keys)).length, 2);
    assert.notEqual(keys.version, version);
    assert.equal(here.copy.saves, 2);
    here.vault.fault = { kind: 'sealed' };
    assert.equal((await ids(here.open(BOTH))).length, 2);
  });

  it('gives the ends of keys back', async () => {
    await using here = await setUp();
    const before = await here.open(BOTH).keys(signal);
    here.vault.fault = { kind: 'sealed' };
    assert.deepEqual(await here.open(BOTH).keys(signal), before);
  });

  it('is not believed if it is damaged or loose, and not missed if it can not be written', async () => {
    await using here = await setUp();
    here.copy.text = '{"format":1,"identity":"here","keys":[{"keyId":"x","publicKey":"AAAA"}]}';
    here.vault.fault = { kind: 'sealed' };
    await assert.rejects(here.open().keys(signal), { reason: 'unavailable' });
    assert.match(here.log.join(), /it is damaged/);
    here.copy.broken = true;
    await assert.rejects(here.open().keys(signal), { reason: 'unavailable' });
    here.vault.fault = undefined;
    const keys = here.open();
    assert.equal((await ids(keys)).length, 2);
    assert.match(here.log.join(), /can't be written.*no space left/);
    here.copy.broken = false;
    here.nowMs = 20_000;
    await keys.keys(signal);
    assert.equal(here.copy.saves, 1);
  });

  it('is read and Vault asked once, however many ask', async () => {
    await using here = await setUp();
    const keys = here.open();
    const gone = new AbortController();
    const left = keys.keys(gone.signal);
    const others = [keys.keys(signal), keys.keys(signal)];
    gone.abort(new Error('gone'));
    await assert.rejects(left, /gone/);
    assert.equal((await Promise.all(others)).length, 2);
    assert.equal(here.vault.count('transit/keys/longline'), 1);
    keys[Symbol.dispose]();
    here.nowMs = 60_000;
    assert.equal((await keys.keys(signal)).length, 2);
    assert.equal(here.vault.count('transit/keys/longline'), 1);
  });
});
