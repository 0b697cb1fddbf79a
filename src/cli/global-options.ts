// Options that every command takes. They may stand before or after the command's name; the nearest one counts.
import { type Command, Option } from 'commander';
import { parseDuration } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { CliIo } from './io.ts';

/** What the global options say. */
export interface GlobalOptions {
  /** Context file given by flag or environment; undefined for the default place. */
  readonly contextPath: string | undefined;
  readonly json: boolean;
  readonly color: boolean;
  /** Limit of one call to the controller. */
  readonly timeoutMs: number;
}

const GROUP = 'Global options:';
const DEFAULT_TIMEOUT_MS = 30_000;
const ours = new WeakSet<Option>();

/** Adds the global options to a command and all below it; an option of the command's own of that name stays. */
export function addGlobalOptions(command: Command): void {
  const options = [
    new Option('--context <path>', 'context file of the controller to talk to (env LONGLINE_CONTEXT)'),
    new Option('--json', 'machine-readable output'),
    new Option('--no-color', 'no colours (env NO_COLOR)'),
    new Option('--timeout <duration>', 'limit of a call to the controller (env LONGLINE_TIMEOUT, default 30s)'),
  ];
  for (const option of options) {
    if (command.options.some((own) => own.long === option.long)) continue;
    ours.add(option);
    command.addOption(option.helpGroup(GROUP));
  }
  for (const child of command.commands) addGlobalOptions(child);
}

/** Reads the global options as they hold for a command that is being run. */
export function globalOptions(command: Command, io: CliIo): GlobalOptions {
  const timeout = given(command, 'timeout') ?? nonEmpty(io.env['LONGLINE_TIMEOUT']);
  const timeoutMs = timeout === undefined ? DEFAULT_TIMEOUT_MS : parseDuration(String(timeout));
  if (timeoutMs === undefined || timeoutMs < 1 || timeoutMs > 3_600_000) {
    throw new LonglineError(
      'invalid',
      `--timeout: ${JSON.stringify(timeout)} is not a duration of 1ms to 1h, like "30s"`,
    );
  }
  const contextPath = given(command, 'context') ?? nonEmpty(io.env['LONGLINE_CONTEXT']);
  return {
    contextPath: contextPath === undefined ? undefined : String(contextPath),
    json: given(command, 'json') === true,
    color: given(command, 'color') !== false,
    timeoutMs,
  };
}

function given(command: Command, attribute: string): unknown {
  for (let at: Command | null = command; at !== null; at = at.parent) {
    const option = at.options.find((one) => one.attributeName() === attribute);
    if (option !== undefined && ours.has(option) && at.getOptionValueSource(attribute) === 'cli') {
      return at.getOptionValue(attribute);
    }
  }
  return undefined;
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
