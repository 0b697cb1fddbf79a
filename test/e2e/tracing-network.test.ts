// The trace of a network that is asked for: from the call to the interface that is there, and of one that can't be brought about.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { startFleet } from '../fixtures/fleet.ts';
import { NetworkLab, wireguardMissing } from '../fixtures/netns.ts';
import { OtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { type SpanPlace, traceOf } from '../fixtures/seen-trace.ts';

const PUT = 'longline.fleet.v1.NetworkService/PutNetwork';
const STATE: SpanPlace = ['agent', 'desired state'];
const APPLY: SpanPlace = ['agent', 'apply'];

it('tells a network from the call to its interface, and of one that can not be', {
  skip: wireguardMissing() ?? false,
}, async () => {
  await using lab = await NetworkLab.create(1);
  const [host] = lab.hosts;
  await using receiver = await OtlpReceiver.startAt(host!.address, host!.within);
  const environment = { ...receiver.environment('http/protobuf'), OTEL_LOGS_EXPORTER: 'otlp' };
  await using fleet = await startFleet({ environment, at: { address: host!.address, within: host!.within } });
  await fleet.enrolled('a', [], fleet.url, host!.alone);
  const apply = async (name: string, onInterface: string) => {
    const file = join(fleet.folder, `${name}.toml`);
    await writeFile(
      file,
      `[network.${name}]\nenable_wireguard = true\ninterface = "${onInterface}"\naddresses = ["10.1.0.1/24"]\n`,
    );
    return await fleet.longline('network', 'apply', '--agent', 'a', '--file', file, '--wait');
  };
  const applied = await apply('good', host!.tunnel);
  assert.equal(applied.code, 0, applied.stderr);
  const trace = await traceOf(receiver, PUT, [APPLY]);
  trace.chain(['cli', 'longline network apply'], ['cli', PUT], ['controller', PUT], ['controller', 'store']);
  trace.chain(['controller', PUT], ['controller', 'dispatch'], STATE, ['agent', 'verify']);
  trace.chain(STATE, APPLY);
  assert.deepEqual(
    [trace.get(...STATE).attributes['longline.state.kind'], trace.get(...APPLY).attributes['longline.state.item']],
    ['network', 'good'],
  );
  assert.equal(trace.get(...APPLY).status, 'STATUS_CODE_UNSET');
  assert.equal(trace.spans.filter(({ name }) => name === 'apply').length, 1);

  const from = receiver.spans.length;
  // The host has one of that name, which is nobody's to take.
  assert.notEqual((await apply('bad', host!.link)).code, 0);
  const failed = await traceOf(receiver, PUT, [APPLY], from);
  failed.chain(['controller', PUT], ['controller', 'dispatch'], STATE, APPLY);
  // Of what was there before nothing changes.
  assert.equal(failed.spans.filter(({ name }) => name === 'apply').length, 1);
  const { attributes, events, status, statusMessage } = failed.get(...APPLY);
  assert.deepEqual([status, attributes['longline.state.item']], ['STATUS_CODE_ERROR', 'bad']);
  assert.match(statusMessage, /eth0/);
  assert.equal(events[0]!.attributes['exception.message'], statusMessage);
});
