import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import type { HttpRequest } from '../../../src/controller/front/http-handlers.ts';
import { readBody } from '../../../src/controller/registry/upload-body.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const is = (reason: string) => (error: unknown) => error instanceof LonglineError && error.reason === reason;

describe('the body of an upload', () => {
  const request = (stream: PassThrough) => stream as unknown as HttpRequest;

  it('is taken in order, to its end', async () => {
    const stream = new PassThrough();
    const taken: string[] = [];
    const reading = readBody(request(stream), (piece) => taken.push(String(piece)), systemClock);
    stream.write('a');
    stream.end('b');
    await reading;
    assert.equal(taken.join(''), 'ab');
  });

  it('is given up when it ends early, is not taken, or nothing more comes', async () => {
    const torn = new PassThrough();
    const reading = readBody(request(torn), () => undefined, systemClock);
    torn.destroy();
    await assert.rejects(reading, is('cancelled'));
    await assert.rejects(
      readBody(request(torn), () => undefined, systemClock),
      is('cancelled'),
      'or had ended before',
    );
    const large = new PassThrough();
    const taking = readBody(
      request(large),
      () => {
        throw new LonglineError('limit', 'too much');
      },
      systemClock,
    );
    large.write('a');
    await assert.rejects(taking, is('limit'));
    assert.equal(large.destroyed, false, 'its answer can still be given');
    const silent = new PassThrough();
    silent.write('a');
    await assert.rejects(
      readBody(request(silent), () => undefined, fastClock(10_000)),
      is('late'),
    );
  });
});
