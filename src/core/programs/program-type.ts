// What BPF functions are, by the names that people write and that hosts announce. Pure.

/** In the order of longline.v1.ProgramType, whose 0 is none of them. */
export const PROGRAM_TYPES = [
  'xdp',
  'tc',
  'cgroup_skb',
  'cgroup_sock',
  'cgroup_sock_addr',
  'tracepoint',
  'raw_tracepoint',
  'perf_event',
  'uprobe',
  'kprobe',
  'fentry',
  'fexit',
  'lsm',
] as const;

/** What a BPF function is, and so where it can be attached. */
export type ProgramType = (typeof PROGRAM_TYPES)[number];

/** In the order of longline.v1.ProgramParameterType, whose 0 is none of them. */
export const PARAMETER_TYPES = ['uint', 'int', 'bool', 'string', 'ipv4', 'ipv6', 'mac', 'bytes', 'prefix'] as const;

/** What kind of value a parameter has. */
export type ParameterType = (typeof PARAMETER_TYPES)[number];
