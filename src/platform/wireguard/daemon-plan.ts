// What a launcher is told of the daemon that it becomes. Pure.

/** Descriptors that a daemon gets beside the standard ones: its TUN device and the socket that it listens on. */
export const HANDED_OVER = [3, 4] as const;

/** Everything but secrets: it is an argument of the launcher. */
export interface DaemonPlan {
  /** Absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  /** NAME=value, all that the daemon gets. */
  readonly environment: readonly string[];
  /** Who it runs as; undefined: as whoever starts it. */
  readonly user: { readonly uid: number; readonly gid: number } | undefined;
  /** Numbers of the capabilities that it keeps. */
  readonly capabilities: readonly number[];
  /** Which of HANDED_OVER there are. */
  readonly descriptors: readonly number[];
  /** True: the kernel tells it that it set the MTU, whenever it tries. */
  readonly feignMtu: boolean;
  /** Most that it can write into a file. */
  readonly logLimitBytes: number;
}

const SIOCSIFMTU = 0x8922;
const OFFSET_NUMBER = 0;
const OFFSET_ARCHITECTURE = 4;
const OFFSET_SECOND_ARGUMENT = 24;
const LOAD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const ALLOW = 0x7fff_0000;
/** An error of 0: the call isn't made, and reports success. */
const FEIGN = 0x0005_0000;

/** As the audit system numbers an architecture, and its number of ioctl. */
const ARCHITECTURES: Readonly<Record<string, readonly [audit: number, ioctl: number]>> = {
  arm: [0x4000_0028, 54],
  arm64: [0xc000_00b7, 29],
  ia32: [0x4000_0003, 54],
  loong64: [0xc000_0102, 29],
  riscv64: [0xc000_00f3, 29],
  x64: [0xc000_003e, 16],
};

/**
 * A seccomp program under which setting an MTU does nothing and succeeds. wireguard-go sets one when it starts, to a fixed
 * value, and gives up if it may not: without this it could not run without CAP_NET_ADMIN, and with it would undo our MTU.
 * Undefined for a machine that isn't known.
 */
export function mtuFilter(architecture: string): Buffer | undefined {
  const known = ARCHITECTURES[architecture];
  if (known === undefined) return undefined;
  const [audit, ioctl] = known;
  const steps: readonly (readonly [code: number, ifTrue: number, ifFalse: number, value: number])[] = [
    [LOAD, 0, 0, OFFSET_ARCHITECTURE],
    [JUMP_IF_EQUAL, 0, 4, audit],
    [LOAD, 0, 0, OFFSET_NUMBER],
    [JUMP_IF_EQUAL, 0, 2, ioctl],
    [LOAD, 0, 0, OFFSET_SECOND_ARGUMENT],
    [JUMP_IF_EQUAL, 1, 0, SIOCSIFMTU],
    [RETURN, 0, 0, ALLOW],
    [RETURN, 0, 0, FEIGN],
  ];
  const program = Buffer.alloc(steps.length * 8);
  for (const [place, [code, ifTrue, ifFalse, value]] of steps.entries()) {
    program.writeUInt16LE(code, place * 8);
    program.writeUInt8(ifTrue, place * 8 + 2);
    program.writeUInt8(ifFalse, place * 8 + 3);
    program.writeUInt32LE(value, place * 8 + 4);
  }
  return program;
}
