// Which log lines are written, as asked for over the local API: what the settings say holds again once they are read anew.
import type { SetLogLevelRequest } from '#gen/longline/local/v1/local_pb.js';
import { invalid } from '../core/errors.ts';
import { LOG_LEVELS, type LogLevel, type LogLevels } from '../telemetry/logger.ts';
import type { AgentConfig } from './config.ts';

/** Levels that can be asked for. */
const ASKABLE = LOG_LEVELS.filter((level) => level !== 'silent');
/** What names of parts look like. */
const PART = /^[a-z][a-z ]{0,40}$/;

/** Puts what the settings say in force, in the place of whatever was asked for since. */
export function applyLevels(levels: LogLevels, { level, parts }: AgentConfig['log']): void {
  for (const part of [...levels.parts.keys()]) levels.setPart(part, undefined);
  levels.setLevel(level);
  for (const [part, one] of Object.entries(parts)) levels.setPart(part, one as LogLevel);
}

/** Sets a level. Throws `invalid` for one that there isn't. */
export function setLogLevel(levels: LogLevels, { level, part }: Pick<SetLogLevelRequest, 'level' | 'part'>) {
  const known = ASKABLE.find((one) => one === level);
  if (known === undefined && (level !== '' || part === '')) {
    throw invalid([
      { field: 'level', description: `is ${JSON.stringify(level)}; it must be one of ${ASKABLE.join(', ')}` },
    ]);
  }
  if (part !== '' && !PART.test(part)) {
    throw invalid([
      { field: 'part', description: `is ${JSON.stringify(part)}; it must be a word as in "part" of log lines` },
    ]);
  }
  if (part !== '') levels.setPart(part, known);
  else if (known !== undefined) levels.setLevel(known);
  return { level: levels.level, parts: Object.fromEntries(levels.parts) as Record<string, LogLevel> };
}
