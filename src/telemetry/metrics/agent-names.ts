// Figures of an agent: all names there are, in one place. docs/metrics.md lists the same ones.
import { counter, DURATION_SECONDS, gauge, histogram } from '../../core/metrics/definition.ts';
import { LOG_METRICS, PROCESS_METRICS, TRACE_METRICS, WATCHDOG_METRICS } from './process-names.ts';

/** Of the link to the controller. */
export const LINK_METRICS = {
  state: gauge('longline_link_state', '1 for the state that the link is in.', ['state']),
  connects: counter('longline_link_connects_total', 'Handshakes with a controller that were completed.'),
  failures: counter('longline_link_failures_total', 'Tries to connect, and connections, that failed.'),
  resumedTls: counter('longline_link_tls_resumptions_total', 'TLS sessions that were resumed.'),
  openSince: gauge('longline_link_open_since_timestamp_seconds', 'When the link was opened, while it is open.'),
  roundTrip: gauge('longline_link_round_trip_seconds', 'Round trip of the last heartbeat that was answered.'),
  clockSkew: gauge(
    'longline_link_clock_skew_seconds',
    "The controller's clock minus this host's, at the last connect.",
  ),
  queued: gauge('longline_link_queued_messages', 'Messages that wait to be sent, by what they are.', ['kind']),
  unfinished: gauge('longline_link_unfinished_commands', 'Commands that were received and are not over.'),
  pendingReplies: gauge('longline_link_pending_replies', 'Replies that the controller has not acknowledged.'),
  acknowledged: counter('longline_link_acknowledged_replies_total', 'Replies that the controller acknowledged.'),
  droppedEvents: counter('longline_link_dropped_events_total', 'Events that were dropped since too many waited.'),
  droppedSamples: counter('longline_link_dropped_samples_total', 'Figures that never left since newer ones came.'),
  unknownMessages: counter(
    'longline_link_unknown_messages_total',
    'Messages of a kind that this version does not know.',
  ),
  certificateExpiry: gauge('longline_certificate_expiry_timestamp_seconds', "When the agent's certificate ends."),
} as const;

/** Of what is kept on disk. */
export const DISK_METRICS = {
  spoolBytes: gauge(
    'longline_spool_bytes',
    'Output on disk that waits for the controller, with an allowance for each log.',
  ),
  spoolLogs: gauge('longline_spool_logs', 'Logs with output on disk.'),
  spoolGaps: counter('longline_spool_gap_bytes_total', 'Output that is declared lost, by why.', ['reason']),
  spoolAcknowledged: counter('longline_spool_acknowledged_bytes_total', 'Output that the controller has stored.'),
  journalBytes: gauge('longline_journal_bytes', 'Size of the journal of commands.'),
  journalBacklog: gauge('longline_journal_backlog', '1 while facts wait in memory for a disk that takes them.'),
  auditRecords: gauge('longline_audit_last_sequence', 'Number of the last record of the audit log.'),
  auditBytes: gauge('longline_audit_bytes', 'Size of the audit log.'),
  freeBytes: gauge('longline_data_free_bytes', 'Free space where the data folder is.'),
  sizeBytes: gauge('longline_data_size_bytes', 'All space where the data folder is.'),
} as const;

/** Of commands. */
export const COMMAND_METRICS = {
  duration: histogram(
    'longline_command_duration_seconds',
    'From the receipt of a command to its result, by what it asks for.',
    ['capability', 'kind', 'outcome'],
    { buckets: DURATION_SECONDS },
  ),
  admission: histogram('longline_command_admission_seconds', 'How long checking a command took, by what came of it.', [
    'verdict',
  ]),
  inFlight: gauge('longline_commands_in_flight', 'Commands that are being carried out.', ['capability']),
  rejected: counter('longline_commands_rejected_total', 'Commands that were refused, by why.', ['reason']),
  available: gauge('longline_capability_available', '1 for a capability that can be used on this host.', [
    'capability',
  ]),
} as const;

/** Of jobs. */
export const JOB_METRICS = {
  running: gauge('longline_jobs_running', 'Jobs that run.'),
  queued: gauge('longline_jobs_queued', 'Jobs that wait for a place.'),
  limit: gauge('longline_jobs_limit', 'Jobs that may run at one time.'),
  started: counter('longline_jobs_started_total', 'Jobs that were given a place to run in.'),
  ended: counter('longline_jobs_ended_total', 'Jobs that ended, by outcome.', ['outcome']),
  warm: gauge('longline_jobs_warm_containers', 'Containers that were started ahead and wait.'),
  warmTaken: counter('longline_jobs_warm_requests_total', 'Jobs of images that are kept warm, by whether one waited.', [
    'result',
  ]),
} as const;

/** Of sessions. */
export const SESSION_METRICS = {
  sessions: gauge('longline_sessions', 'Sessions by state.', ['state']),
  limit: gauge('longline_sessions_limit', 'Sessions that there may be.'),
  cpusReserved: gauge('longline_sessions_reserved_cpus', 'Cores that sessions have reserved.'),
  cpusLimit: gauge('longline_sessions_limit_cpus', 'Cores that sessions may reserve.'),
  memoryReserved: gauge('longline_sessions_reserved_memory_bytes', 'Memory that sessions have reserved.'),
  memoryLimit: gauge('longline_sessions_limit_memory_bytes', 'Memory that sessions may reserve.'),
  wake: histogram('longline_session_wake_seconds', 'How long waking a session took, by how deep it slept.', [
    'tier',
    'outcome',
  ]),
  hibernations: counter('longline_session_hibernations_total', 'Sessions that were put to sleep.', ['tier', 'cause']),
  starts: histogram(
    'longline_session_start_seconds',
    'How long bringing a session up for the first time took.',
    ['outcome'],
    { buckets: DURATION_SECONDS },
  ),
  crashes: counter('longline_session_ends_total', 'Times that the main process of a session ended by itself.', [
    'cause',
  ]),
} as const;

/** Of networks, with and without a controller. A host has few, and hundreds of peers may be told of by name. */
export const NETWORK_METRICS = {
  state: gauge('longline_network_state', '1 for the state that the network is in.', ['network', 'interface', 'state'], {
    maxSeries: 160,
  }),
  peers: gauge('longline_network_peers', 'Peers by health.', ['network', 'interface', 'health'], { maxSeries: 128 }),
  bytes: counter('longline_network_bytes_total', 'Bytes over all peers.', ['network', 'interface', 'direction']),
  handshakes: counter('longline_network_handshakes_total', 'Handshakes that were seen.', ['network', 'interface']),
  recoveries: counter('longline_network_recoveries_total', 'Times that a peer answered again after it had not.', [
    'network',
    'interface',
  ]),
  problems: gauge('longline_network_problems', 'What is not as wanted.', ['network', 'interface']),
  reconciles: counter('longline_network_reconciles_total', 'Passes over the network, by how they ended.', [
    'network',
    'interface',
    'result',
  ]),
  reconcileSeconds: counter('longline_network_reconcile_seconds_total', 'Time that passes over the network took.', [
    'network',
    'interface',
  ]),
  lastReconcile: gauge('longline_network_last_reconcile_timestamp_seconds', 'When a pass came to its end last.', [
    'network',
    'interface',
  ]),
  peerBytes: counter(
    'longline_network_peer_bytes_total',
    'Bytes of one peer.',
    ['network', 'interface', 'peer', 'public_key', 'direction'],
    { maxSeries: 1000 },
  ),
  peerHandshakeAge: gauge(
    'longline_network_peer_handshake_age_seconds',
    'Age of the latest handshake.',
    ['network', 'interface', 'peer', 'public_key'],
    { maxSeries: 500, rest: 'most' },
  ),
} as const;

/** Of programs. */
export const PROGRAM_METRICS = {
  programs: gauge('longline_programs', 'Programs by state.', ['state']),
  problems: gauge('longline_programs_troubled', 'Programs that are not as wanted.'),
  quarantined: gauge('longline_programs_quarantined_artifacts', 'Artifacts that are held back on this host.'),
  rollbacks: counter('longline_program_rollbacks_total', 'Rollbacks that came to their end, by why and how.', [
    'trigger',
    'result',
  ]),
  packets: counter('longline_program_packets_total', 'Packets that a program counted since its revision was loaded.', [
    'program',
  ]),
  violations: counter('longline_program_violations_total', 'Violations that a program counted, likewise.', ['program']),
  errors: counter('longline_program_errors_total', 'Errors that a program counted, likewise.', ['program']),
  events: counter('longline_program_events_total', 'Events of a program that were told, likewise.', ['program']),
  droppedEvents: counter('longline_program_dropped_events_total', 'Events that were too many to be told, likewise.', [
    'program',
  ]),
  cpu: gauge('longline_program_cpu_ratio', 'Share of one processor that a program used, when it was measured last.', [
    'program',
  ]),
  latency: gauge(
    'longline_program_latency_seconds',
    'Mean time of one call of a program, when it was measured last.',
    ['program'],
    { rest: 'most' },
  ),
  memory: gauge('longline_program_memory_bytes', 'Memory of functions and maps of a program.', ['program']),
} as const;

/** Of health: what /healthz and /readyz say. */
export const HEALTH_METRICS = {
  status: gauge('longline_health_status', '1 for the state that a check found.', ['check', 'state'], {
    maxSeries: 96,
  }),
  ready: gauge('longline_ready', '1 while /readyz says that the agent is ready.'),
} as const;

/** Of leader election, where there are replicas. The label is the id that they share. */
export const ELECTION_METRICS = {
  leading: gauge('longline_election_leading', '1 while this replica leads, 0 while it stands by.', ['agent']),
  epoch: gauge('longline_election_epoch', 'Highest epoch that this replica knows of.', ['agent']),
  answered: gauge(
    'longline_election_last_answer_timestamp_seconds',
    'When the lock answered last: a renewal of the leader, a try of a standby.',
    ['agent'],
  ),
  won: counter('longline_election_terms_won_total', 'Terms in which this replica led.', ['agent']),
  ended: counter('longline_election_terms_ended_total', 'Terms that ended, by why.', ['agent', 'reason']),
  errors: counter('longline_election_lock_errors_total', 'Times that the lock could not be asked, by why.', [
    'agent',
    'reason',
  ]),
} as const;

/** Of tunnels into sessions. */
export const TUNNEL_METRICS = {
  open: gauge('longline_tunnels_open', 'Tunnels that are open, by what they reach.', ['kind']),
  ended: counter('longline_tunnels_total', 'Tunnels that ended or never opened, by what they reach and what came.', [
    'kind',
    'outcome',
  ]),
} as const;

/** All figures that an agent can have. */
export const AGENT_METRICS = [
  PROCESS_METRICS,
  TRACE_METRICS,
  LOG_METRICS,
  WATCHDOG_METRICS,
  HEALTH_METRICS,
  ELECTION_METRICS,
  TUNNEL_METRICS,
  LINK_METRICS,
  DISK_METRICS,
  COMMAND_METRICS,
  JOB_METRICS,
  SESSION_METRICS,
  NETWORK_METRICS,
  PROGRAM_METRICS,
].flatMap((part) => Object.values(part));
