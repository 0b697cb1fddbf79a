// Records start, cancellation and end of every command around the executor that carries it out.
import type { CapabilityCommand, CapabilityEvent, CommandContext } from '../../core/capability.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { CommandExecutor } from '../../link/ports.ts';
import type { AuditLog } from './audit-log.ts';

/**
 * Wraps an executor. The start of a new command follows the durable record of its admission and so isn't waited for. A resumed
 * one may have no record at all, where the process ended between the journal's sync and that of the audit log: it is
 * `durable` only with a record of its resumption, and does nothing before that and nothing without. The end is durable before the
 * result is passed on. Otherwise what can't be recorded here is logged: what runs goes on, and the result must reach the
 * controller.
 */
export function auditedExecutor(executor: CommandExecutor, audit: AuditLog, log: Logger): CommandExecutor {
  return {
    writeInput: (...input) => executor.writeInput(...input),
    execute: (capability, command, context) => execute(executor, audit, log, capability, command, context),
  };
}

async function* execute(
  executor: CommandExecutor,
  audit: AuditLog,
  log: Logger,
  capability: string,
  command: CapabilityCommand,
  context: CommandContext,
): AsyncGenerator<CapabilityEvent, void, undefined> {
  const subject = { commandId: command.id, capability };
  const lost = (what: string) => (error: unknown) => {
    log.error(`the ${what} of a command could not be audited`, { ...subject, err: describeError(error) });
  };
  const onAbort = () => audit.note({ ...subject, event: 'cancelled' });
  const begun = () => {
    if (context.signal.aborted) onAbort();
    else context.signal.addEventListener('abort', onAbort, { once: true });
    return true as const;
  };
  const start = () => {
    audit.note({ ...subject, event: 'started', summary: {} });
    return begun();
  };
  let taken: Promise<boolean>;
  let guarded = context;
  if (context.resumed) {
    const durable = audit.append({ ...subject, event: 'started', summary: { resumed: true } });
    durable.catch(lost('start'));
    guarded = { ...context, durable };
    taken = Promise.resolve(begun());
  } else taken = (context.durable ?? Promise.resolve()).then(start, () => false);
  try {
    for await (const event of executor.execute(capability, command, guarded)) {
      // Of a command that was not taken in the end only its refusal is told.
      if (event.kind === 'result' && (await taken)) {
        const rule = event.error?.rule;
        await audit
          .append({
            ...subject,
            event: 'ended',
            outcome: event.outcome,
            ...(rule === undefined ? {} : { rule }),
            summary:
              event.error === undefined
                ? {}
                : { reason: event.error.reason, message: event.error.message.slice(0, 1024) },
          })
          .catch(lost('end'));
      }
      yield event;
    }
  } finally {
    context.signal.removeEventListener('abort', onAbort);
  }
}
