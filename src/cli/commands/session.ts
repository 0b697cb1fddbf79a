// `longline session`: starting, ending and putting to sleep. Following and showing are in ../session/; this file is the
// command line.
import { type Duration, durationFromMs } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { HibernationTier, type Session, type SessionSpec } from '#gen/longline/v1/session_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { durationValue, wordValue } from '../option-values.ts';
import { stateText } from '../session/columns.ts';
import { concludeAction, followAction } from '../session/follow.ts';
import { addSigningOptions, type SigningOptions, signedAction, signStart } from '../session/signing.ts';
import {
  addSessionSpecOptions,
  type SessionSpecOptions,
  sessionSpecOf,
  sessionTargetOf,
} from '../session/spec-options.ts';
import { sessionView } from '../session/views.ts';
import { plainText } from '../table.ts';
import { registerSessionExplain } from './session-explain.ts';
import { registerSessionReading } from './session-reading.ts';
import { registerSessionTunnels } from './session-tunnel.ts';

interface StartOptions extends SessionSpecOptions, SigningOptions {
  readonly template?: string;
  readonly id?: string;
  readonly detach?: boolean;
  readonly requestId?: string;
  readonly ttl?: number;
}

interface ActionOptions extends SigningOptions {
  readonly reason: string;
  readonly detach?: boolean;
}

const START_EXAMPLES = `
Examples:
  longline session start --any zone=eu --template desktop --id alice-desk --owner alice
  longline session start --agent web-1 --image desktop:1 --vnc --volume home:/home/user --pause-after 15m
  longline session start --agent web-1 --file desk.toml -- /usr/bin/start-desktop

The same id with the same spec gives the session that is there. Ctrl-C leaves; the start goes on.`;

const TIERS = {
  pause: HibernationTier.PAUSE,
  stop: HibernationTier.STOP,
  checkpoint: HibernationTier.CHECKPOINT,
};

/** Adds `session`. */
export function registerSessionCommands(program: Command, io: CliIo): void {
  const session = program
    .command('session')
    .description('Start, hibernate, wake and look at sessions: containers that stay.')
    .enablePositionalOptions()
    .addHelpText(
      'after',
      '\nExamples:\n  longline session start --any "*" --template desktop --id desk\n  longline session hibernate desk --tier pause\n  longline session stop desk --remove-volumes\n\nWith --json, commands that take several sessions print one object a line.',
    );
  registerStart(session, io);
  registerStop(session, io);
  registerSleep(session, io);
  registerSessionReading(session, io);
  registerSessionExplain(session, io);
  registerSessionTunnels(session, io);
}

/** Shows a session after an action, and sets the exit code. */
async function conclude(io: CliIo, first: Session, last: Session): Promise<void> {
  await concludeAction(io, first, last);
  if (io.json) return await io.stdout.line(toJson(sessionView(last)));
  await io.stdout.line(plainText(`${last.id} ${stateText(last)} on ${last.agentId}`));
}

async function follow(io: CliIo, fleet: Fleet, first: Session, detach: boolean, leave: AbortSignal): Promise<void> {
  if (detach) return await io.result(sessionView(first), () => first.id);
  await conclude(io, first, await followAction(io, fleet, first, leave));
}

function registerStart(session: Command, io: CliIo): void {
  const start = session
    .command('start [command...]')
    .description('Start a session and wait until it is up.')
    .passThroughOptions()
    .option('--template <name[:version]>', 'template to fill in')
    .option('--id <id>', 'its id: [a-z0-9-], at most 63 characters; a new one if left out')
    .option('-d, --detach', 'submit only, and print its id')
    .action(async (argv: string[], options: StartOptions, command: Command) => {
      using interrupt = new InterruptGuard();
      const spec = await sessionSpecOf(options, argv);
      if (options.template === undefined && spec.image === '') {
        throw new LonglineError('invalid', 'what should it be? Give --template, --image, or --file with an image');
      }
      await withFleet(io, command, async (fleet) => {
        const session = await requestOf(fleet, options, spec);
        const { session: first } = await fleet.sessions.submitSession({ session });
        await follow(io, fleet, first!, options.detach === true, interrupt.signal);
      });
    });
  addSigningOptions(addSessionSpecOptions(start).optionsGroup('Submission:'))
    .option('--request-id <id>', 'idempotency key: the same key gives the same session again')
    .option('--ttl <duration>', 'not begun after this, counted from now (default 10m)', durationValue)
    .addHelpText('after', START_EXAMPLES);
}

async function requestOf(fleet: Fleet, options: StartOptions, spec: SessionSpec) {
  const { id = '', template = '', signKey, requestId = newId() } = options;
  const target = sessionTargetOf(options);
  if (signKey === undefined) {
    const ttl = options.ttl === undefined ? {} : { ttl: durationFromMs(options.ttl) };
    return { sessionId: id, target, spec, template, requestId, ...ttl };
  }
  if (template !== '') {
    throw new LonglineError('invalid', '--sign-key and --template: what is signed must be whole; use --file instead');
  }
  const sessionId = id === '' ? newId() : id;
  return { target, requestId, signed: await signStart(fleet, { ...options, signKey }, { sessionId, target, spec }) };
}

type Ask = (fleet: Fleet, sessionId: string) => Promise<{ readonly session?: Session | undefined }>;

/** Acts on one session after the other; the first failure is the exit code. */
async function actOnAll(io: CliIo, command: Command, ids: readonly string[], detach: boolean, ask: Ask): Promise<void> {
  using interrupt = new InterruptGuard();
  await withFleet(io, command, async (fleet) => {
    // All are asked before any is waited for: they don't wait for each other on their hosts either.
    const asked: Session[] = [];
    for (const id of ids) asked.push((await ask(fleet, id)).session!);
    for (const first of asked) await follow(io, fleet, first, detach, interrupt.signal);
  });
}

function registerStop(session: Command, io: CliIo): void {
  const stop = session
    .command('stop <session...>')
    .description('End sessions: nothing is left on the host but volumes that are kept.')
    .option('--grace <duration>', "time between the stop signal and KILL; the session's own if left out", durationValue)
    .option('--remove-volumes', 'remove the volumes that belong to the session alone, too')
    .option('--reason <text>', 'why, for others to read', '')
    .option('-d, --detach', 'ask only; do not wait for the end')
    .addHelpText('after', '\nExample:\n  longline session stop alice-desk --remove-volumes')
    .action(
      async (ids: string[], options: ActionOptions & { grace?: number; removeVolumes?: boolean }, command: Command) => {
        const grace: { grace?: Duration } = options.grace === undefined ? {} : { grace: durationFromMs(options.grace) };
        const { reason, removeVolumes = false } = options;
        await actOnAll(io, command, ids, options.detach === true, async (fleet, sessionId) => {
          const signed = await signedAction(fleet, options, sessionId, ({ generation }) => {
            return { case: 'stop', value: { sessionId, generation, reason, removeVolumes, ...grace } };
          });
          return await fleet.sessions.stopSession({ sessionId, reason, removeVolumes, ...grace, ...signed });
        });
      },
    );
  addSigningOptions(stop);
}

function registerSleep(session: Command, io: CliIo): void {
  const hibernate = session
    .command('hibernate <session...>')
    .description('Put sessions to sleep. `wake`, or a tunnel, brings them back.')
    .option(
      '--tier <tier>',
      'pause (keeps memory), stop (frees memory, keeps files), checkpoint (memory to disk, where the engine can)',
      wordValue(TIERS),
      HibernationTier.STOP,
    )
    .option('--reason <text>', 'why, for others to read', '')
    .option('-d, --detach', 'ask only; do not wait until they sleep')
    .addHelpText('after', '\nExample:\n  longline session hibernate alice-desk --tier pause')
    .action(async (ids: string[], options: ActionOptions & { tier: HibernationTier }, command: Command) => {
      const { tier, reason } = options;
      await actOnAll(io, command, ids, options.detach === true, async (fleet, sessionId) => {
        const signed = await signedAction(fleet, options, sessionId, ({ generation }) => {
          return { case: 'hibernate', value: { sessionId, generation, tier, reason } };
        });
        return await fleet.sessions.hibernateSession({ sessionId, tier, reason, ...signed });
      });
    });
  addSigningOptions(hibernate);
  const wake = session
    .command('wake <session...>')
    .description('Bring hibernated sessions back.')
    .option('--reason <text>', 'why, for others to read', '')
    .option('-d, --detach', 'ask only; do not wait until they are back')
    .action(async (ids: string[], options: ActionOptions, command: Command) => {
      const { reason } = options;
      await actOnAll(io, command, ids, options.detach === true, async (fleet, sessionId) => {
        const signed = await signedAction(fleet, options, sessionId, ({ generation }) => {
          return { case: 'wake', value: { sessionId, generation, reason } };
        });
        return await fleet.sessions.wakeSession({ sessionId, reason, ...signed });
      });
    });
  addSigningOptions(wake);
}
