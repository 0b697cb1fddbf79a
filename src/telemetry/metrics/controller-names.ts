// Figures of a controller: all names there are, in one place. docs/metrics.md lists the same ones.
import { counter, DURATION_SECONDS, gauge, histogram } from '../../core/metrics/definition.ts';
import { LOG_METRICS, PROCESS_METRICS, TRACE_METRICS, WATCHDOG_METRICS } from './process-names.ts';

/** Of connections and calls. */
export const FRONT_METRICS = {
  connections: gauge('longline_controller_connections', 'Connections that are open, of agents and operators.'),
  streams: gauge('longline_controller_streams', 'Streams of agents that are open, by what they carry.', ['kind']),
  calls: counter(
    'longline_controller_api_requests_total',
    'Calls of operators and services that ended, by method and code.',
    ['method', 'code'],
    { maxSeries: 400 },
  ),
  callSeconds: histogram(
    'longline_controller_api_request_seconds',
    'How long calls of operators and services took; those that stream are left out.',
    ['method'],
    { maxSeries: 128 },
  ),
  callsInFlight: gauge('longline_controller_api_requests_in_flight', 'Calls of operators and services under way.'),
  enrolments: counter('longline_controller_enrolments_total', 'Enrolments and renewals, by how they ended.', [
    'what',
    'result',
  ]),
} as const;

/** Of how streams of agents begin, and of who leads among replicas of an agent. */
export const GREETING_METRICS = {
  greetings: counter('longline_controller_greetings_total', 'Control streams of agents that began, by how that went.', [
    'result',
  ]),
  takeovers: counter('longline_controller_takeovers_total', 'Times that another replica of an agent took the lead.'),
  staleLeaders: counter(
    'longline_controller_stale_leaders_total',
    'Replicas whose epoch was over: at their greeting, or with a stream that was open.',
    ['when'],
  ),
} as const;

/** Of the link to agents. */
export const DISPATCH_METRICS = {
  dispatch: histogram(
    'longline_controller_dispatch_seconds',
    'From the moment that a command was stored until it was given to the stream of its agent.',
    [],
    { buckets: DURATION_SECONDS },
  ),
  receipts: counter('longline_controller_receipts_total', 'Receipts of agents: the command is durable there.'),
  results: counter('longline_controller_results_total', 'Results of commands, by what they say.', ['state']),
  heartbeats: counter('longline_controller_heartbeats_total', 'Heartbeats of agents.'),
  telemetry: counter('longline_controller_telemetry_messages_total', 'Messages with figures of agents.'),
  telemetryDropped: counter(
    'longline_controller_telemetry_dropped_total',
    'Figures that agents say they have dropped, as newer ones came first.',
  ),
  logBytes: counter('longline_controller_log_stored_bytes_total', 'Output that was appended to the log store.'),
} as const;

/** Of what is stored. */
export const STORE_METRICS = {
  store: histogram('longline_controller_store_seconds', 'How long operations of the store took.', ['operation']),
  agents: gauge('longline_controller_agents', 'Agents by state.', ['state']),
  commands: gauge('longline_controller_commands', 'Commands that are not over, by state.', ['state']),
  jobs: gauge('longline_controller_jobs', 'Jobs that are not over, by state.', ['state']),
  sessions: gauge('longline_controller_sessions', 'Sessions by state.', ['state']),
  states: gauge('longline_controller_desired_states', 'Desired states of agents, by kind and where they stand.', [
    'kind',
    'standing',
  ]),
  programs: gauge('longline_controller_programs', 'Programs that agents are to have.'),
  assignments: gauge('longline_controller_assignments', 'Assignments of programs.'),
  rollouts: gauge('longline_controller_rollouts', 'Rollouts that are remembered, by phase.', ['phase', 'paused']),
  meshes: gauge('longline_controller_meshes', 'Meshes.'),
  members: gauge('longline_controller_mesh_members', 'Members of all meshes.'),
  rotations: gauge('longline_controller_key_rotations', 'Rotations of keys that go on, by step.', ['step']),
  oldestRotation: gauge(
    'longline_controller_oldest_key_rotation_start_timestamp_seconds',
    'When the oldest rotation of a key that goes on was begun.',
  ),
  oldestCommand: gauge(
    'longline_controller_oldest_unsent_command_timestamp_seconds',
    'When the oldest command for an agent that is online, and was not sent, was stored.',
  ),
} as const;

/** All figures that a controller can have. */
export const CONTROLLER_METRICS = [
  PROCESS_METRICS,
  TRACE_METRICS,
  LOG_METRICS,
  WATCHDOG_METRICS,
  FRONT_METRICS,
  GREETING_METRICS,
  DISPATCH_METRICS,
  STORE_METRICS,
].flatMap((part) => Object.values(part));
