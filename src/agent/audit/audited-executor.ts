// Records start, cancellation and end of every command around the executor that carries it out.
import type { CapabilityCommand, CapabilityEvent, CommandContext } from '../../core/capability.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { CommandExecutor } from '../../link/ports.ts';
import type { AuditLog } from './audit-log.ts';

/**
 * Wraps an executor. The start follows the durable record of admission and so isn't waited for; the end is durable before
 * the result is passed on. An end that can't be recorded is logged, since the result must reach the controller anyway.
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
  audit.note({ ...subject, event: 'started', summary: context.resumed ? { resumed: true } : {} });
  const onAbort = () => audit.note({ ...subject, event: 'cancelled' });
  context.signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const event of executor.execute(capability, command, context)) {
      if (event.kind === 'result') {
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
          .catch((error: unknown) => {
            log.error('the end of a command could not be audited', { ...subject, err: describeError(error) });
          });
      }
      yield event;
    }
  } finally {
    context.signal.removeEventListener('abort', onAbort);
  }
}
