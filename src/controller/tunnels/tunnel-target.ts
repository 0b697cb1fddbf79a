// What a tunnel is to reach, checked before an agent is asked. The agent checks again, and decides.
import type { OpenTunnel } from '#gen/longline/link/v1/link_pb.js';
import type { TunnelTarget } from '#gen/longline/v1/tunnel_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';

/** The part of OpenTunnel that names the target. */
export type TargetFields = Pick<OpenTunnel, 'port' | 'process'>;

/** The target as an agent is asked for it. Throws `invalid`. */
export function targetFields(target: TunnelTarget | undefined): TargetFields {
  const violations: FieldViolation[] = [];
  const refuse = (field: string, description: string) =>
    violations.push({ field: `open.target.${field}`, description });
  const chosen = target?.target;
  if (chosen?.case === 'port') {
    if (chosen.value < 1 || chosen.value > 65_535) refuse('port', `is ${chosen.value}; must be 1 to 65535`);
  } else if (chosen?.case === 'exec') {
    const { argv, size, tty } = chosen.value;
    if (argv.length === 0 || argv[0] === '') refuse('exec.argv', 'is empty; name the program to run');
    if (size !== undefined && !tty) refuse('exec.size', 'is set without a terminal; set tty, or leave it out');
  } else if (chosen?.case === undefined) {
    violations.push({ field: 'open.target', description: 'is missing; must be a port, an exec or an attach' });
  }
  if (violations.length > 0) throw invalid(violations);
  if (chosen?.case === 'port') return { port: chosen.value, process: { case: undefined } };
  return { port: 0, process: chosen as TargetFields['process'] };
}

/** For logs: "port 5901", "exec sh", "attach". Arguments may hold secrets and are left out. */
export function targetText({ port, process }: TargetFields): string {
  if (process.case === 'exec') return `exec ${JSON.stringify(process.value.argv[0]?.slice(0, 80))}`;
  return process.case === 'attach' ? 'attach' : `port ${port}`;
}
