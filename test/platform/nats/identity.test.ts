// Who the agent is to NATS, and who NATS is to the agent.
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, before, describe, it } from 'node:test';
import { systemClock } from '../../../src/core/clock.ts';
import { Secret } from '../../../src/core/config/secret.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { NatsAnnouncer } from '../../../src/platform/nats/announcer.ts';
import type { NatsCredentials } from '../../../src/platform/nats/connection.ts';
import { missingNats, NatsServer } from '../../fixtures/nats-server.ts';
import { makePki, type TestPki } from '../../link/certificates.ts';
import { announcer, closeAll, told, until } from './nats-fixture.ts';
import { userWithJwt } from './user-jwt.ts';

async function file(server: NatsServer, name: string, text: string): Promise<string> {
  const path = join(server.folder, name);
  await writeFile(path, text, { mode: 0o600 });
  return path;
}

/** Tries until it is taken: a server hangs up on who is slow to say who it is, as a process that is held up is. */
async function taken(url: string, credentials: NatsCredentials): Promise<void> {
  const { announcer: made, log } = announcer(url, { credentials });
  await until(`taken by ${url}`, () => made.connected);
  await made[Symbol.asyncDispose]();
  assert.doesNotMatch(JSON.stringify(log.lines), /s3cret/);
}

/** Tries until it is refused like this. */
async function refused(url: string, credentials: NatsCredentials, how: RegExp): Promise<void> {
  const { announcer: made, log } = announcer(url, { credentials });
  await until(`refused by ${url} with ${how}`, () => log.find(how));
  assert.equal(made.connected, false);
  await made[Symbol.asyncDispose]();
  assert.doesNotMatch(JSON.stringify(log.lines), /s3cret/);
}

describe('identity on NATS', { skip: missingNats }, () => {
  afterEach(closeAll);

  it('is a user, from the URL or from settings', async () => {
    await using server = await NatsServer.start('authorization { user: agent, password: "s3cret" }');
    await taken(`nats://agent:s3cret@${server.address}`, {});
    await taken(server.url, { user: 'agent', password: new Secret('s3cret') });
    await refused(server.url, {}, /authorization violation/i);
    const wrong = { user: 'agent', password: new Secret('s3cret-not') };
    await refused(server.url, wrong, /authorization violation/i);
  });

  it('is a token, from the URL or from settings', async () => {
    await using server = await NatsServer.start('authorization { token: "s3cret" }');
    await taken(`nats://s3cret@${server.address}`, {});
    await taken(server.url, { token: new Secret('s3cret') });
    await refused(server.url, { token: new Secret('other') }, /authorization violation/i);
  });

  it('is a credentials file, which is read anew each time and which nobody else may read', async () => {
    const user = userWithJwt();
    await using server = await NatsServer.start(user.config);
    const path = await file(server, 'agent.creds', user.credentials);
    await taken(server.url, { credentialsFile: path });
    await chmod(path, 0o644);
    await refused(server.url, { credentialsFile: path }, /others can read credentials in .*chmod 600/);
    await chmod(path, 0o600);
    await writeFile(path, userWithJwt().credentials);
    const { announcer: made, log } = announcer(server.url, { credentials: { credentialsFile: path } });
    await until('refused', () => log.find(/authorization violation/i));
    await writeFile(path, user.credentials);
    await until('taken with the new file', () => made.connected);
    await made[Symbol.asyncDispose]();
    await refused(server.url, { credentialsFile: `${path}.gone` }, /can't read credentials: ENOENT/);
  });

  it('may not be allowed to publish or to listen, which is said', async () => {
    const permissions = '{ publish: { deny: "agent.>" }, subscribe: { deny: "orchestrator.>" } }';
    await using server = await NatsServer.start(
      `authorization { users: [{ user: agent, password: pw, permissions: ${permissions} }] }`,
    );
    const { announcer: made, log } = announcer(`nats://agent:pw@${server.address}`);
    made.measured([told()]);
    await until('said of publishing', () => log.find(/refused.*publish/i));
    assert.ok(log.find(/rollbacks can not be asked for.*orchestrator/i));
    assert.equal(made.connected, true, 'it is not hung up on');
    await made[Symbol.asyncDispose]();
  });
});

describe('TLS to NATS', { skip: missingNats }, () => {
  afterEach(closeAll);
  let pki: TestPki;
  before(async () => {
    pki = await makePki();
  });

  it('checks the server by its CA, and shows a certificate where it is asked for one', async () => {
    await using server = await NatsServer.start();
    const caFile = await file(server, 'ca.pem', pki.authority);
    const own = await file(server, 'host.pem', pki.server.certificate);
    const ownKey = await file(server, 'host.key', pki.server.privateKey);
    const tls = `tls { cert_file: "${own}", key_file: "${ownKey}", ca_file: "${caFile}", verify: true }`;
    await server.kill();
    await server.configure(tls);
    await server.resume();
    const certificateFile = await file(server, 'agent.pem', pki.agent.certificate);
    const keyFile = await file(server, 'agent.key', pki.agent.privateKey);
    const url = `tls://localhost:${server.port}`;
    await taken(url, { caFile, certificateFile, keyFile });
    // Without a certificate.
    await refused(url, { caFile }, /NATS is not there/);
    await refused(url, { certificateFile, keyFile }, /self.signed|unable to (get|verify)/i);
    await chmod(keyFile, 0o640);
    await refused(url, { caFile, certificateFile, keyFile }, /others can read the key/);
  });

  it('is never left out where it was asked for', async () => {
    await using server = await NatsServer.start();
    await refused(`tls://${server.address}`, {}, /does not support 'tls'/);
  });
});

describe('settings of NATS', () => {
  it('that can not be right are refused before anything is connected to', () => {
    const options = {
      urls: ['nats://localhost'],
      credentials: {},
      telemetrySubject: 'agent.telemetry',
      hostId: 'host-001',
      agentVersion: '1.0.0',
      clock: systemClock,
      log: silentLogger,
    };
    const refused = (more: object, message: RegExp) =>
      assert.throws(() => new NatsAnnouncer({ ...options, ...more }), { reason: 'invalid', message });
    refused({ urls: ['http://localhost'] }, /nats_url/);
    refused({ hostId: 'a b' }, /host id "a b".*blank/);
    refused({ telemetrySubject: '' }, /telemetry subject/);
    refused({ credentials: { certificateFile: 'x' } }, /both, or neither/);
  });
});
