// Names of spans and of their attributes: all of them, so that what a trace can say is read in one place. Those of calls, errors
// and containers are of OpenTelemetry's semantic conventions; ours begin with "longline.". A name carries no ids and no values.

/** Spans beside those of calls, which have the name of their method. */
export const SPAN = {
  /** Controller: a command is stored. */
  store: 'store',
  /** Controller: from being stored to being written to its agent's stream. */
  dispatch: 'dispatch',
  /** Controller: what an agent said of a command's end is stored. */
  storeResult: 'store result',
  /** Agent: a command, from its receipt to its result being durable. */
  command: 'command',
  /** Agent: signature, audience, times, policy and form. */
  verify: 'verify',
  /** Agent: command and verdict become durable. */
  journal: 'journal',
  /** Agent: the capability at work. */
  run: 'run',
  /** Agent: the result becomes durable. */
  journalResult: 'journal result',
  /** Agent: from the result being durable to the controller's acknowledgement. */
  result: 'result',
  /** Agent: a desired state, from its receipt to its being durable. */
  state: 'desired state',
  /** Agent: a desired state is checked by its capability and becomes durable. */
  keep: 'keep',
} as const;

/** Attributes. */
export const ATTRIBUTE = {
  rpcSystem: 'rpc.system.name',
  rpcMethod: 'rpc.method',
  rpcStatus: 'rpc.response.status_code',
  errorType: 'error.type',
  exceptionType: 'exception.type',
  exceptionMessage: 'exception.message',
  containerId: 'container.id',
  imageName: 'container.image.name',
  agentId: 'longline.agent.id',
  commandId: 'longline.command.id',
  commandSeq: 'longline.command.seq',
  /** True if an earlier process may have begun it. */
  resumed: 'longline.command.resumed',
  outcome: 'longline.command.outcome',
  capability: 'longline.capability',
  jobId: 'longline.job.id',
  sessionId: 'longline.session.id',
  stateKind: 'longline.state.kind',
  generation: 'longline.state.generation',
  /** Generation that a delta is to; left out for a full state. */
  baseGeneration: 'longline.state.base_generation',
  /** A name within a desired state: an interface, a program. */
  item: 'longline.state.item',
  commandLine: 'longline.cli.command',
} as const;
