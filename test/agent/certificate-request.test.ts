// The request is made by hand; the library that the controller reads requests with must take it for a good one.
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { Pkcs10CertificateRequest } from '@peculiar/x509';
import { makeKeyAndRequest } from '../../src/agent/identity/certificate-request.ts';

test('a request names the agent, holds the public key and proves possession of the private one', async () => {
  // Subjects below and above 127 bytes have lengths of one and of two bytes.
  for (const agentId of ['a', 'web-1.example', 'x'.repeat(128)]) {
    const { privateKey, request } = makeKeyAndRequest(agentId);
    const read = new Pkcs10CertificateRequest(request);
    assert.equal(read.subject, `CN=${agentId}`);
    assert.ok(await read.verify(webcrypto as Crypto));
    const own = createPublicKey(createPrivateKey(privateKey)).export({ type: 'spki', format: 'der' });
    assert.deepEqual(Buffer.from(read.publicKey.rawData), own);
    assert.equal(read.attributes.length, 0);
  }
});
