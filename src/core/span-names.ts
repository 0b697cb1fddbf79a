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
  /** Agent: the pass over one network or program after a change, which brings it about. */
  apply: 'apply',
  /** Agent: what a tunnel leads to is reached, and woken if it sleeps. */
  reach: 'reach',
  /** Agent: waiting for a place among the jobs of the host. */
  queue: 'queue',
  /** Agent: an image is had. */
  pull: 'pull',
  /** Agent: a container is made. */
  create: 'create',
  /** Agent: a container is started, or one that waits is given its command. */
  start: 'start',
  /** Agent: from a container's start to its end and its last output. */
  container: 'container',
  /** Agent: an artifact is fetched and verified. */
  prepare: 'prepare',
  /** Agent: a revision of a program is put into the kernel. */
  load: 'load',
  /** Agent: a place of a program is taken, or handed over. */
  attach: 'attach',
} as const;

/** Attributes. */
export const ATTRIBUTE = {
  rpcSystem: 'rpc.system.name',
  rpcMethod: 'rpc.method',
  rpcStatus: 'rpc.response.status_code',
  serverAddress: 'server.address',
  serverPort: 'server.port',
  errorType: 'error.type',
  exceptionType: 'exception.type',
  exceptionMessage: 'exception.message',
  containerId: 'container.id',
  exitCode: 'process.exit.code',
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
  warm: 'longline.job.warm',
  /** Number of a program's revision. */
  revision: 'longline.program.revision',
  /** What a step is about: a port, a volume, a place. */
  subject: 'longline.subject',
  /** A name within a desired state: an interface, a program. */
  item: 'longline.state.item',
} as const;
