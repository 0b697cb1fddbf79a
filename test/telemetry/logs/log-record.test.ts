import assert from 'node:assert/strict';
import { it } from 'node:test';
import { SeverityNumber } from '@opentelemetry/api';
import { LOG_LEVELS } from '../../../src/telemetry/logger.ts';
import { recordOf } from '../../../src/telemetry/logs/log-record.ts';

it('has the severity that its level means, for every level that is written', () => {
  const levels = LOG_LEVELS.filter((level) => level !== 'silent');
  const severities = levels.map((level) => {
    const { severityNumber, severityText } = recordOf({ level, timeMs: 0, message: '', fields: {} });
    assert.equal(severityText, level.toUpperCase());
    return severityNumber;
  });
  const { DEBUG, INFO, WARN, ERROR } = SeverityNumber;
  assert.deepEqual(severities, [DEBUG, INFO, WARN, ERROR]);
});

it('leaves to the resource what is of the process, and out what is no value', () => {
  const fields = { name: 'agent', pid: 1, part: 'link', none: undefined, call: () => undefined, nothing: null };
  const { attributes } = recordOf({ level: 'info', timeMs: 0, message: 'm', fields });
  assert.deepEqual(attributes, { part: 'link', nothing: null });
});
