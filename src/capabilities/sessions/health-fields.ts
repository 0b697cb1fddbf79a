// The health check of a session spec. Pure; refuses into a collector like all fields.
import type { Refuse } from '../../core/container-fields.ts';
import type { FieldReader } from './field-reader.ts';
import type { HealthCheck, Probe } from './health-check.ts';
import { argumentsOf, checkPort } from './spec-fields.ts';
import type { SessionSpecMessage } from './wire.ts';

/** Parses a health check. */
export function healthOf(
  message: SessionSpecMessage['healthCheck'],
  read: FieldReader,
  refuse: Refuse,
): HealthCheck | null {
  if (message === undefined) return null;
  const field = 'health_check';
  const retries = message.retries === 0 ? 3 : read.number(`${field}.retries`, message.retries, 3, 1, 1000);
  const { restartAfter } = message;
  if (restartAfter > 0 && restartAfter < retries) {
    refuse(`${field}.restart_after`, `${restartAfter} is less than retries, ${retries}; it must be 0 or at least that`);
  }
  return {
    probe: probeOf(message, refuse),
    intervalMs: read.duration(`${field}.interval`, message.interval, 10_000, 1000, 3_600_000),
    timeoutMs: read.duration(`${field}.timeout`, message.timeout, 5000, 100, 600_000),
    retries,
    startPeriodMs: read.duration(`${field}.start_period`, message.startPeriod, 0, 0, 3_600_000),
    restartAfter,
  };
}

function probeOf(message: NonNullable<SessionSpecMessage['healthCheck']>, refuse: Refuse): Probe {
  const { probe } = message;
  switch (probe.case) {
    case 'command': {
      if (probe.value.argv.length === 0) refuse('health_check.command.argv', 'is empty; it must name a program');
      return { kind: 'command', argv: argumentsOf('health_check.command.argv', probe.value.argv, refuse) };
    }
    case 'tcp':
      checkPort('health_check.tcp.port', probe.value.port, refuse);
      return { kind: 'tcp', port: probe.value.port };
    case 'http': {
      const path = probe.value.path === '' ? '/' : probe.value.path;
      checkPort('health_check.http.port', probe.value.port, refuse);
      if (!/^\/[\x21-\x7e]{0,1023}$/.test(path)) {
        refuse('health_check.http.path', `${JSON.stringify(path.slice(0, 80))} is not a path that begins with "/"`);
      }
      return { kind: 'http', port: probe.value.port, path };
    }
    default:
      refuse('health_check', 'names no probe; give one of command, tcp and http');
      return { kind: 'command', argv: ['true'] };
  }
}
