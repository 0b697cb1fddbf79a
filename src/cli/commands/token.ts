// `longline token`: registration tokens and keys for agents and, under `token api`, tokens for callers of the API.
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Command, Option } from 'commander';
import { type ApiToken, type EnrollmentToken, Role } from '#gen/longline/fleet/v1/token_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { ageOf } from '../age.ts';
import { withFleet } from '../fleet-connection.ts';
import { type CliIo, type TableColumn, toJson } from '../io.ts';
import { countValue, durationValue, pairValue, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { apiTokenView, enrollmentTokenView, roleName } from '../views.ts';

const ROLES = { viewer: Role.VIEWER, operator: Role.OPERATOR, admin: Role.ADMIN };

/** Adds `token` and `token api`. */
export function registerTokenCommands(program: Command, io: CliIo): void {
  const token = program
    .command('token')
    .description('Registration tokens for agents; `token api` for callers of the API.')
    .addHelpText(
      'after',
      '\nExamples:\n  longline token create --uses 20 --ttl 2h --label zone=eu\n  longline token create --agent-id web-1 --uses 3\n  longline token api create --name ci --role operator',
    );
  registerEnrollment(token, io);
  token
    .command('agent-key <agent>')
    .description('Make an API key for an agent behind a proxy that ends TLS. Replaces its key; shown this once.')
    .option('--label <key=value>', 'label of the agent, if this makes it; repeatable', pairValue)
    .action(async (agentId: string, { label }: { label?: Record<string, string> }, command: Command) => {
      const request = { agentId, labels: label ?? {} };
      const { apiKey } = await withFleet(io, command, (fleet) => fleet.tokens.createAgentKey(request));
      await io.result({ agent: agentId, api_key: apiKey }, () => apiKey);
    });
  registerApi(token.command('api').description('Tokens for callers of the API.'), io);
}

interface EnrollmentOptions {
  readonly uses: number;
  readonly ttl: number;
  readonly label?: Record<string, string>;
  readonly agentId?: string;
}

function registerEnrollment(token: Command, io: CliIo): void {
  token
    .command('create')
    .description('Make a registration token. It is shown this once and printed alone on standard output.')
    .option('--uses <n>', 'how many agents it may enrol, or replicas of one', countValue(1, 10_000), 1)
    .addOption(
      new Option('--ttl <duration>', 'how long it is good for, at most 30d')
        .argParser(durationValue)
        .default(3_600_000, '1h'),
    )
    .option('--label <key=value>', 'label of agents enrolled with it; repeatable', pairValue)
    .option('--agent-id <id>', 'only this agent may be enrolled, once for each replica of it')
    .action(async (options: EnrollmentOptions, command: Command) => {
      // An unset variable of a script would make a token that is good for any id.
      if (options.agentId === '') {
        throw new LonglineError('invalid', '--agent-id: is empty; name an agent, or leave it out for a token for any');
      }
      const request = {
        uses: options.uses,
        ttl: durationFromMs(options.ttl),
        labels: options.label ?? {},
        agentId: options.agentId ?? '',
      };
      const made = await withFleet(io, command, (fleet) => fleet.tokens.createEnrollmentToken(request));
      await io.result({ token: made.token, ...enrollmentTokenView(made.enrollmentToken!) }, () => made.token);
    });
  token
    .command('ls')
    .description('List registration tokens, newest first, without their secrets.')
    .option('--limit <n>', 'most tokens; 0 for all', countValue(0, 1_000_000), 0)
    .action(async ({ limit }: { limit: number }, command: Command) => {
      const tokens = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.tokens.listEnrollmentTokens({ pageToken, pageSize });
          return { items: page.enrollmentTokens, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(tokens.map(enrollmentTokenView)));
      await io.list(tokens, enrollmentColumns(Date.now()), 'no registration tokens');
    });
  token
    .command('revoke <id>')
    .description('Make a registration token useless from now on. Agents enrolled with it stay.')
    .action(async (id: string, _options: object, command: Command) => {
      await withFleet(io, command, (fleet) => fleet.tokens.revokeEnrollmentToken({ id }));
      await io.result({ id, revoked: true }, () => `${id} revoked`);
    });
}

function registerApi(api: Command, io: CliIo): void {
  api
    .command('create')
    .description('Make an API token. It is shown this once and printed alone on standard output.')
    .requiredOption('--name <name>', 'shown as creator of what it makes')
    .addOption(
      new Option('--role <role>', 'viewer reads, operator also acts, admin may do everything')
        .argParser(wordValue(ROLES))
        .default(Role.VIEWER, 'viewer'),
    )
    .option('--ttl <duration>', 'how long it is good for; without it for ever', durationValue)
    .action(async ({ name, role, ttl }: { name: string; role: Role; ttl?: number }, command: Command) => {
      const request = { name, role, ...(ttl === undefined ? {} : { ttl: durationFromMs(ttl) }) };
      const made = await withFleet(io, command, (fleet) => fleet.tokens.createApiToken(request));
      await io.result({ token: made.token, ...apiTokenView(made.apiToken!) }, () => made.token);
    });
  api
    .command('ls')
    .description('List API tokens, newest first, without their secrets.')
    .option('--limit <n>', 'most tokens; 0 for all', countValue(0, 1_000_000), 0)
    .action(async ({ limit }: { limit: number }, command: Command) => {
      const tokens = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.tokens.listApiTokens({ pageToken, pageSize });
          return { items: page.apiTokens, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(tokens.map(apiTokenView)));
      await io.list(tokens, apiColumns(Date.now()), 'no API tokens');
    });
  api
    .command('revoke <id>')
    .description('Make an API token useless from now on.')
    .action(async (id: string, _options: object, command: Command) => {
      await withFleet(io, command, (fleet) => fleet.tokens.revokeApiToken({ id }));
      await io.result({ id, revoked: true }, () => `${id} revoked`);
    });
}

function enrollmentColumns(nowMs: number): readonly TableColumn<EnrollmentToken>[] {
  return [
    { heading: 'id', value: (token) => token.id },
    { heading: 'uses', align: 'right', value: (token) => `${token.usesLeft}/${token.usesTotal}` },
    { heading: 'ends', value: (token) => (token.revoked ? 'revoked' : ageOf(token.expireTime, nowMs)) },
    { heading: 'agent', value: (token) => token.agentId || 'any' },
    { heading: 'made', value: (token) => ageOf(token.createTime, nowMs) },
  ];
}

function apiColumns(nowMs: number): readonly TableColumn<ApiToken>[] {
  return [
    { heading: 'id', value: (token) => token.id },
    { heading: 'name', value: (token) => token.name },
    { heading: 'role', value: (token) => roleName(token.role) },
    { heading: 'ends', value: (token) => endOf(token, nowMs) },
    { heading: 'used', value: (token) => ageOf(token.useTime, nowMs) },
  ];
}

function endOf(token: ApiToken, nowMs: number): string {
  if (token.revoked) return 'revoked';
  return token.expireTime === undefined ? 'never' : ageOf(token.expireTime, nowMs);
}
