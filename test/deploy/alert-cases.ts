// For each alert rule: series that mean trouble and what is said of them, and series that look alike and mean none. In the notation of
// promtool, one sample a minute for an hour: "1" stays 1, "0+60" grows by 60 a minute.

/** What one rule is tried with. */
export interface AlertCase {
  /** Series by name and labels. */
  readonly trouble: Readonly<Record<string, string>>;
  /** Labels of the alert beside those that its rule gives. */
  readonly labels: Readonly<Record<string, string>>;
  /** As people read it. */
  readonly summary: string;
  readonly calm: Readonly<Record<string, string>>;
}

const AGENT = { job: 'longline-agent', instance: 'edge' };
const CONTROLLER = { job: 'longline-controller', instance: 'hub' };

function series(name: string, labels: Readonly<Record<string, string>>): string {
  const texts = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return `${name}{${texts.join(', ')}}`;
}

const ofAgent = (name: string, more: Readonly<Record<string, string>> = {}) => series(name, { ...AGENT, ...more });
const ofHub = (name: string, more: Readonly<Record<string, string>> = {}) => series(name, { ...CONTROLLER, ...more });

/** A histogram in which each minute brings so many observations up to each bound. */
function histogram(name: string, labels: Readonly<Record<string, string>>, upTo: Readonly<Record<string, number>>) {
  return Object.fromEntries(
    Object.entries(upTo).map(([le, count]) => [series(`${name}_bucket`, { ...labels, le }), `0+${count}`]),
  );
}

const CONTROLLER_CASES: Readonly<Record<string, AlertCase>> = {
  LonglineControllerDown: {
    trouble: { [ofHub('up')]: '0' },
    labels: CONTROLLER,
    summary: "The controller hub can't be scraped.",
    calm: { [ofHub('up')]: '1', [ofAgent('up')]: '1' },
  },
  LonglineAgentsOffline: {
    trouble: {
      [ofHub('longline_controller_agents', { state: 'offline' })]: '20',
      [ofHub('longline_controller_agents', { state: 'online' })]: '80',
    },
    labels: { instance: 'hub' },
    summary: '20% of the agents of hub are offline.',
    calm: {
      [ofHub('longline_controller_agents', { state: 'offline' })]: '5',
      [ofHub('longline_controller_agents', { state: 'online' })]: '95',
      [ofHub('longline_controller_agents', { state: 'revoked' })]: '50',
    },
  },
  LonglineCommandsNotSent: {
    trouble: { [ofHub('longline_controller_oldest_unsent_command_timestamp_seconds')]: '0' },
    labels: CONTROLLER,
    summary: 'A command for an agent that is online waits for 45m 0s.',
    calm: { [ofHub('longline_controller_oldest_unsent_command_timestamp_seconds')]: '0+60' },
  },
  LonglineApiErrors: {
    trouble: { [ofHub('longline_controller_api_requests_total', { method: 'a', code: 'internal' })]: '0+60' },
    labels: { instance: 'hub' },
    summary: 'The controller hub fails 1 calls a second.',
    calm: {
      [ofHub('longline_controller_api_requests_total', { method: 'a', code: 'not_found' })]: '0+600',
      [ofHub('longline_controller_api_requests_total', { method: 'a', code: 'internal' })]: '0+1',
    },
  },
  LonglineStoreSlow: {
    trouble: histogram(
      'longline_controller_store_seconds',
      { ...CONTROLLER, operation: 'write' },
      { '0.5': 0, '1.0': 60, '+Inf': 60 },
    ),
    labels: { instance: 'hub' },
    summary: 'Writes of hub take 995ms until they are on the disk.',
    calm: {
      ...histogram(
        'longline_controller_store_seconds',
        { ...CONTROLLER, operation: 'write' },
        { '0.5': 60, '1.0': 60, '+Inf': 60 },
      ),
      ...histogram(
        'longline_controller_store_seconds',
        { ...CONTROLLER, operation: 'read' },
        { '0.5': 0, '1.0': 60, '+Inf': 60 },
      ),
    },
  },
  LonglineDesiredStatePending: {
    trouble: { [ofHub('longline_controller_desired_states', { kind: 'network', standing: 'pending' })]: '2' },
    labels: { instance: 'hub', kind: 'network' },
    summary: '2 desired states of kind network are not reported by their agents.',
    calm: {
      [ofHub('longline_controller_desired_states', { kind: 'network', standing: 'pending' })]: '0',
      [ofHub('longline_controller_desired_states', { kind: 'network', standing: 'wanted' })]: '9',
    },
  },
  LonglineDesiredStateRefused: {
    trouble: { [ofHub('longline_controller_desired_states', { kind: 'programs', standing: 'refused' })]: '3' },
    labels: { instance: 'hub', kind: 'programs' },
    summary: '3 agents refuse what is wanted of them (programs).',
    calm: { [ofHub('longline_controller_desired_states', { kind: 'programs', standing: 'refused' })]: '0' },
  },
  LonglineRolloutHalted: {
    trouble: {
      [ofHub('longline_controller_rollouts', { phase: 'halted', paused: 'no' })]: '1',
      [ofHub('longline_controller_rollouts', { phase: 'halted', paused: 'yes' })]: '1',
    },
    labels: { instance: 'hub' },
    summary: '2 rollouts of hub have halted.',
    calm: {
      [ofHub('longline_controller_rollouts', { phase: 'halted', paused: 'no' })]: '0',
      [ofHub('longline_controller_rollouts', { phase: 'running', paused: 'yes' })]: '4',
    },
  },
  LonglineKeyRotationStuck: {
    trouble: { [ofHub('longline_controller_oldest_key_rotation_start_timestamp_seconds')]: '-7200' },
    labels: CONTROLLER,
    summary: 'A rotation of a key goes on for 2h 45m 0s.',
    calm: { [ofHub('longline_controller_oldest_key_rotation_start_timestamp_seconds')]: '600' },
  },
  LonglineAgentsRefused: {
    trouble: { [ofHub('longline_controller_greetings_total', { result: 'identity' })]: '0+30' },
    labels: { instance: 'hub', result: 'identity' },
    summary: 'hub refuses 500m streams of agents a second (identity).',
    calm: {
      [ofHub('longline_controller_greetings_total', { result: 'connected' })]: '0+600',
      [ofHub('longline_controller_greetings_total', { result: 'already_exists' })]: '0+2',
    },
  },
  LonglineStaleLeader: {
    trouble: { [ofHub('longline_controller_stale_leaders_total', { when: 'greeting' })]: '0+1' },
    labels: { instance: 'hub', when: 'greeting' },
    summary: 'A replica of an agent spoke to hub after its time as leader (greeting).',
    calm: {
      [ofHub('longline_controller_stale_leaders_total', { when: 'greeting' })]: '7',
      [ofHub('longline_controller_takeovers_total')]: '0+1',
    },
  },
};

const AGENT_CASES: Readonly<Record<string, AlertCase>> = {
  LonglineAgentDown: {
    trouble: { [ofAgent('up')]: '0' },
    labels: AGENT,
    summary: "The agent edge can't be scraped.",
    calm: { [ofAgent('up')]: '1', [ofHub('up')]: '1' },
  },
  LonglineLinkDown: {
    trouble: { [ofAgent('longline_link_state', { state: 'open' })]: '0' },
    labels: { ...AGENT, state: 'open' },
    summary: 'edge has no link to its controller.',
    calm: {
      [ofAgent('longline_link_state', { state: 'open' })]: '1',
      [ofAgent('longline_link_state', { state: 'closed' })]: '0',
    },
  },
  LonglineLinkFlapping: {
    trouble: { [ofAgent('longline_link_connects_total')]: '0+2' },
    labels: AGENT,
    summary: 'edge connected 30 times in a quarter of an hour.',
    calm: { [ofAgent('longline_link_connects_total')]: '5' },
  },
  LonglineClockSkew: {
    trouble: { [ofAgent('longline_link_clock_skew_seconds')]: '-90' },
    labels: AGENT,
    summary: "The clock of edge is 1m 30s away from the controller's.",
    calm: { [ofAgent('longline_link_clock_skew_seconds')]: '-2' },
  },
  LonglineCertificateEnds: {
    trouble: { [ofAgent('longline_certificate_expiry_timestamp_seconds')]: '4500' },
    labels: AGENT,
    summary: 'The certificate of edge ends in 30m 0s.',
    calm: { [ofAgent('longline_certificate_expiry_timestamp_seconds')]: '86400' },
  },
  LonglineOutputLost: {
    trouble: { [ofAgent('longline_spool_gap_bytes_total', { reason: 'spool_full' })]: '0+1024' },
    labels: { instance: 'edge', reason: 'spool_full' },
    summary: 'edge declared 15kiB of output lost (spool_full).',
    calm: {
      [ofAgent('longline_spool_gap_bytes_total', { reason: 'spool_full' })]: '0',
      [ofAgent('longline_spool_gap_bytes_total', { reason: 'output_limit' })]: '0+1024',
    },
  },
  LonglineDataFolderFull: {
    trouble: { [ofAgent('longline_data_free_bytes')]: '30', [ofAgent('longline_data_size_bytes')]: '1000' },
    labels: AGENT,
    summary: '3% of the disk of edge is free.',
    calm: { [ofAgent('longline_data_free_bytes')]: '300', [ofAgent('longline_data_size_bytes')]: '1000' },
  },
  LonglineJournalWaits: {
    trouble: { [ofAgent('longline_journal_backlog')]: '1' },
    labels: AGENT,
    summary: "The journal of edge can't be written.",
    calm: { [ofAgent('longline_journal_backlog')]: '0' },
  },
  LonglineCapabilityUnavailable: {
    trouble: { [ofAgent('longline_capability_available', { capability: 'programs' })]: '0' },
    labels: { ...AGENT, capability: 'programs' },
    summary: "programs can't be used on edge.",
    calm: { [ofAgent('longline_capability_available', { capability: 'programs' })]: '1' },
  },
  LonglineEventLoopLate: {
    trouble: histogram('longline_event_loop_lag_seconds', AGENT, { '0.5': 0, '1.0': 60, '+Inf': 60 }),
    labels: AGENT,
    summary: 'edge comes to its work 950ms late.',
    calm: histogram('longline_event_loop_lag_seconds', AGENT, { '0.5': 59, '1.0': 60, '+Inf': 60 }),
  },
  LonglineFilesRunOut: {
    trouble: { [ofHub('process_open_fds')]: '900', [ofHub('process_max_fds')]: '1000' },
    labels: CONTROLLER,
    summary: 'hub has 90% of its file descriptors open.',
    calm: {
      [ofHub('process_open_fds')]: '100',
      [ofHub('process_max_fds')]: '1000',
      'process_open_fds{job="others", instance="x"}': '900',
      'process_max_fds{job="others", instance="x"}': '1000',
    },
  },
  LonglineHealthFailed: {
    trouble: { [ofAgent('longline_health_status', { check: 'audit', state: 'failed' })]: '1' },
    labels: { ...AGENT, check: 'audit', state: 'failed' },
    summary: 'The check audit of edge has failed.',
    calm: {
      [ofAgent('longline_health_status', { check: 'audit', state: 'failed' })]: '0',
      [ofAgent('longline_health_status', { check: 'audit', state: 'ok' })]: '1',
    },
  },
  LonglineHealthDegraded: {
    trouble: { [ofAgent('longline_health_status', { check: 'election', state: 'degraded' })]: '1' },
    labels: { ...AGENT, check: 'election', state: 'degraded' },
    summary: 'The check election of edge is not as it should be.',
    calm: {
      [ofAgent('longline_health_status', { check: 'jobs', state: 'degraded' })]: '1',
      [ofAgent('longline_health_status', { check: 'election', state: 'degraded' })]: '0',
    },
  },
  LonglineNotReady: {
    trouble: { [ofAgent('longline_ready')]: '0' },
    labels: AGENT,
    summary: 'edge does not get ready.',
    calm: { [ofAgent('longline_ready')]: '1' },
  },
  LonglineWatchdogWithheld: {
    trouble: { [ofAgent('longline_watchdog_beats_total', { result: 'withheld' })]: '0+1' },
    labels: { ...AGENT, result: 'withheld' },
    summary: 'A task of edge is stuck; its watchdog is told nothing.',
    calm: {
      [ofAgent('longline_watchdog_beats_total', { result: 'withheld' })]: '0',
      [ofAgent('longline_watchdog_beats_total', { result: 'told' })]: '0+4',
    },
  },
  LonglineRestarts: {
    trouble: { [ofAgent('process_start_time_seconds')]: '0+60' },
    labels: AGENT,
    summary: 'edge was started 30 times in half an hour.',
    calm: { [ofAgent('process_start_time_seconds')]: '100', 'process_start_time_seconds{job="others"}': '0+60' },
  },
  LonglineSpansDropped: {
    trouble: { [ofHub('longline_traces_dropped_spans_total', { reason: 'export_failed' })]: '0+20' },
    labels: { ...CONTROLLER, reason: 'export_failed' },
    summary: 'hub lost 300 spans (export_failed): traces have holes.',
    calm: {
      [ofHub('longline_traces_dropped_spans_total', { reason: 'export_failed' })]: '5',
      [ofHub('longline_traces_exported_spans_total')]: '0+20',
    },
  },
  LonglineLogLinesDropped: {
    trouble: { [ofAgent('longline_logs_dropped_lines_total', { reason: 'queue_full' })]: '0+4' },
    labels: { ...AGENT, reason: 'queue_full' },
    summary: 'The collector misses 60 log lines of edge (queue_full).',
    calm: {
      [ofAgent('longline_logs_dropped_lines_total', { reason: 'queue_full' })]: '4',
      [ofAgent('longline_logs_exported_lines_total')]: '0+4',
    },
  },
  LonglineExportsFail: {
    trouble: { [ofAgent('longline_metrics_exports_total', { outcome: 'failed' })]: '0+1' },
    labels: AGENT,
    summary: "edge can't get its figures to the collector.",
    calm: {
      [ofAgent('longline_metrics_exports_total', { outcome: 'failed' })]: '0',
      [ofAgent('longline_metrics_exports_total', { outcome: 'succeeded' })]: '0+1',
    },
  },
  LonglineSeriesOverflow: {
    trouble: { [ofAgent('longline_metrics_overflows_total', { metric: 'longline_jobs' })]: '0+1' },
    labels: { instance: 'edge', metric: 'longline_jobs' },
    summary: 'longline_jobs of edge has more series than it may.',
    calm: { [ofAgent('longline_metrics_overflows_total', { metric: 'longline_jobs' })]: '4' },
  },
  LonglineFiguresMissing: {
    trouble: { [ofAgent('longline_metrics_collector_failures_total', { collector: 'network' })]: '0+4' },
    labels: { instance: 'edge', collector: 'network' },
    summary: 'network of edge does not tell its figures.',
    calm: { [ofAgent('longline_metrics_collector_failures_total', { collector: 'network' })]: '2' },
  },
};

const replica = (instance: string, more: Readonly<Record<string, string>> = {}) => ({
  ...{ job: 'longline-agent', instance, agent: 'host-1' },
  ...more,
});
const leading = (instance: string) => series('longline_election_leading', replica(instance));

const REPLICA_CASES: Readonly<Record<string, AlertCase>> = {
  LonglineNoLeader: {
    trouble: { [leading('a')]: '0', [leading('b')]: '0' },
    labels: { agent: 'host-1' },
    summary: 'No replica of host-1 leads.',
    calm: { [leading('a')]: '0', [leading('b')]: '1' },
  },
  LonglineTwoLeaders: {
    trouble: { [leading('a')]: '1', [leading('b')]: '1' },
    labels: { agent: 'host-1' },
    summary: '2 replicas of host-1 believe that they lead.',
    calm: {
      [leading('a')]: '1',
      [leading('b')]: '0',
      [series('longline_election_leading', { ...AGENT, agent: 'another' })]: '1',
    },
  },
  LonglineLockErrors: {
    trouble: { [series('longline_election_lock_errors_total', replica('a', { reason: 'late' }))]: '0+6' },
    labels: { instance: 'a', agent: 'host-1', reason: 'late' },
    summary: "a can't ask for the lock of host-1 (late).",
    calm: { [series('longline_election_lock_errors_total', replica('a', { reason: 'late' }))]: '6' },
  },
  LonglineLeaderChanges: {
    trouble: {
      [series('longline_election_terms_won_total', replica('a'))]: '0+1',
      [series('longline_election_terms_won_total', replica('b'))]: '0+1',
    },
    labels: { agent: 'host-1' },
    summary: 'The lead of host-1 changed 60 times in half an hour.',
    calm: { [series('longline_election_terms_won_total', replica('a'))]: '3' },
  },
};

const CAPABILITY_CASES: Readonly<Record<string, AlertCase>> = {
  LonglineJobsFail: {
    trouble: {
      // As an agent has them of which no job ever succeeded.
      [ofAgent('longline_jobs_ended_total', { outcome: 'succeeded' })]: '0',
      [ofAgent('longline_jobs_ended_total', { outcome: 'failed' })]: '0+3',
    },
    labels: { instance: 'edge' },
    summary: '100% of the jobs on edge do not succeed.',
    calm: {
      [ofAgent('longline_jobs_ended_total', { outcome: 'succeeded' })]: '0+3',
      [ofAgent('longline_jobs_ended_total', { outcome: 'failed' })]: '0+1',
    },
  },
  LonglineJobsQueue: {
    trouble: {
      [ofAgent('longline_jobs_queued')]: '7',
      [ofAgent('longline_jobs_running')]: '4',
      [ofAgent('longline_jobs_limit')]: '4',
    },
    labels: AGENT,
    summary: '7 jobs wait on edge.',
    calm: {
      [ofAgent('longline_jobs_queued')]: '1',
      [ofAgent('longline_jobs_running')]: '3',
      [ofAgent('longline_jobs_limit')]: '4',
    },
  },
  LonglineCommandsRejected: {
    trouble: { [ofAgent('longline_commands_rejected_total', { reason: 'policy' })]: '0+60' },
    labels: { instance: 'edge', reason: 'policy' },
    summary: 'edge refuses 1 commands a second (policy).',
    calm: { [ofAgent('longline_commands_rejected_total', { reason: 'policy' })]: '0+1' },
  },
  LonglineSessionWakesSlow: {
    trouble: histogram(
      'longline_session_wake_seconds',
      { ...AGENT, tier: 'stop', outcome: 'succeeded' },
      { '5.0': 0, '10.0': 6, '+Inf': 6 },
    ),
    labels: { instance: 'edge', tier: 'stop' },
    summary: 'Waking from stop takes 9.95s on edge.',
    calm: histogram(
      'longline_session_wake_seconds',
      { ...AGENT, tier: 'stop', outcome: 'succeeded' },
      { '5.0': 6, '10.0': 6, '+Inf': 6 },
    ),
  },
  LonglineSessionsCrash: {
    trouble: { [ofAgent('longline_session_ends_total', { cause: 'out_of_memory' })]: '0+1' },
    labels: { instance: 'edge', cause: 'out_of_memory' },
    summary: '15 main processes of sessions ended on edge (out_of_memory).',
    calm: {
      [ofAgent('longline_session_ends_total', { cause: 'requested' })]: '0+9',
      [ofAgent('longline_session_ends_total', { cause: 'exited' })]: '3',
    },
  },
  LonglineNetworkDown: {
    trouble: { [ofAgent('longline_network_state', { network: 'mesh', interface: 'wg0', state: 'failed' })]: '1' },
    labels: { ...AGENT, network: 'mesh', interface: 'wg0', state: 'failed' },
    summary: 'Network mesh of edge does not work.',
    calm: {
      [ofAgent('longline_network_state', { network: 'mesh', interface: 'wg0', state: 'failed' })]: '0',
      [ofAgent('longline_network_state', { network: 'mesh', interface: 'wg0', state: 'degraded' })]: '1',
    },
  },
  LonglineNetworkDegraded: {
    trouble: { [ofAgent('longline_network_problems', { network: 'mesh', interface: 'wg0' })]: '2' },
    labels: { ...AGENT, network: 'mesh', interface: 'wg0' },
    summary: 'Network mesh of edge is not as wanted (2 problems).',
    calm: { [ofAgent('longline_network_problems', { network: 'mesh', interface: 'wg0' })]: '0' },
  },
  LonglinePeersStale: {
    trouble: {
      [ofAgent('longline_network_peers', { network: 'mesh', interface: 'wg0', health: 'stale' })]: '1',
      [ofAgent('longline_network_peers', { network: 'mesh', interface: 'wg0', health: 'suspect' })]: '2',
    },
    labels: { instance: 'edge', network: 'mesh' },
    summary: '3 peers of mesh do not answer edge.',
    calm: {
      [ofAgent('longline_network_peers', { network: 'mesh', interface: 'wg0', health: 'stale' })]: '0',
      [ofAgent('longline_network_peers', { network: 'mesh', interface: 'wg0', health: 'idle' })]: '9',
    },
  },
  LonglineProgramTroubled: {
    trouble: { [ofAgent('longline_programs_troubled')]: '1' },
    labels: AGENT,
    summary: '1 programs of edge are not as wanted.',
    calm: { [ofAgent('longline_programs_troubled')]: '0' },
  },
  LonglineProgramRolledBack: {
    trouble: { [ofAgent('longline_program_rollbacks_total', { trigger: 'cpu', result: 'succeeded' })]: '0+1' },
    labels: { instance: 'edge', trigger: 'cpu' },
    summary: 'edge rolled a program back by itself (cpu).',
    calm: {
      [ofAgent('longline_program_rollbacks_total', { trigger: 'cpu', result: 'succeeded' })]: '1',
      [ofAgent('longline_program_rollbacks_total', { trigger: 'request', result: 'succeeded' })]: '0+1',
    },
  },
  LonglineProgramErrors: {
    trouble: { [ofAgent('longline_program_errors_total', { program: 'drop' })]: '0+120' },
    labels: { instance: 'edge', program: 'drop' },
    summary: 'drop on edge counts 2 errors a second.',
    calm: { [ofAgent('longline_program_errors_total', { program: 'drop' })]: '0+30' },
  },
  LonglineProgramEventsDropped: {
    trouble: { [ofAgent('longline_program_dropped_events_total', { program: 'drop' })]: '0+1200' },
    labels: { instance: 'edge', program: 'drop' },
    summary: 'drop on edge writes more events than are told.',
    calm: { [ofAgent('longline_program_dropped_events_total', { program: 'drop' })]: '0+60' },
  },
};

/** One for each rule, by its name. */
export const ALERT_CASES: Readonly<Record<string, AlertCase>> = {
  ...CONTROLLER_CASES,
  ...AGENT_CASES,
  ...REPLICA_CASES,
  ...CAPABILITY_CASES,
};
