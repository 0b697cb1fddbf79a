// The programs that the engine contract runs: as a command for real engines, and as what it does for the fake one.
import type { ContainerSpec } from '../../src/capabilities/jobs/ports.ts';
import type { FakeProgram } from '../fixtures/fake-container.ts';

/** One program in both forms. */
export interface ContractProgram {
  readonly argv: readonly string[];
  readonly behave: FakeProgram;
}

/** Bytes that text handling would break: NUL, CR, invalid UTF-8, no newline at the end. */
export const AWKWARD_BYTES = Buffer.from('a\0b\r\n\xff\xfe\xc3(\n\x80tail', 'latin1');

/** A line of this size, then a newline. */
export const LONG_LINE_BYTES = 10 * 1024 * 1024;

/** "1\n2\n…" up to `last`. */
export function numberedLines(first: number, last: number): Buffer {
  const lines: string[] = [];
  for (let number = first; number <= last; number++) lines.push(`${number}\n`);
  return Buffer.from(lines.join(''));
}

const octal = [...AWKWARD_BYTES].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');

function shell(script: string, behave: FakeProgram): ContractProgram {
  return { argv: ['sh', '-c', script], behave };
}

const SPLIT_SIZES = [16_383, 16_384, 16_385, 32_767, 32_768, 40_000];

/** Output of `splitLines`. */
export const SPLIT_LINES = Buffer.from(
  `${SPLIT_SIZES.map((size) => `${'x'.repeat(size)}\n`).join('')}${'y'.repeat(20_000)}`,
);

/** By what they are for. */
export const PROGRAMS = {
  hello: {
    argv: ['echo', 'hello'],
    behave: async (process) => {
      await process.write('stdout', 'hello\n');
      return 0;
    },
  },
  bothStreams: shell('echo out; echo err >&2; exit 7', async (process) => {
    await process.write('stdout', 'out\n');
    await process.write('stderr', 'err\n');
    return 7;
  }),
  manyLines: {
    argv: ['seq', '1', '200000'],
    behave: async (process) => {
      for (let at = 1; at <= 200_000; at += 1000) await process.write('stdout', numberedLines(at, at + 999));
      return 0;
    },
  },
  awkward: shell(`printf '${octal}'`, async (process) => {
    await process.write('stdout', AWKWARD_BYTES);
    return 0;
  }),
  longLine: shell(`head -c ${LONG_LINE_BYTES} /dev/zero | tr '\\0' x; echo`, async (process) => {
    for (let at = 0; at < LONG_LINE_BYTES; at += 65_536) await process.write('stdout', Buffer.alloc(65_536, 'x'));
    await process.write('stdout', '\n');
    return 0;
  }),
  /** Lines at and around the 16 KiB at which engines split lines, the last one without a newline. */
  splitLines: shell(
    `for n in ${SPLIT_SIZES.join(' ')}; do head -c $n /dev/zero | tr '\\0' x; echo; done; head -c 20000 /dev/zero | tr '\\0' y`,
    async (process) => {
      await process.write('stdout', SPLIT_LINES);
      return 0;
    },
  ),
  cat: {
    argv: ['cat'],
    behave: async (process) => {
      for await (const data of process.stdin) await process.write('stdout', data);
      return 0;
    },
  },
  sleep: { argv: ['sleep', '600'], behave: (process) => process.forever() },
  /** Says when it runs: what comes before may end the runtime that makes the container. */
  ignoresTerm: shell('trap "" TERM; echo ready; while :; do sleep 600; done', async (process) => {
    process.trap('SIGTERM', () => undefined);
    await process.write('stdout', 'ready\n');
    return await process.forever();
  }),
  trapsTerm: shell('trap "echo caught; exit 42" TERM; echo ready; while :; do sleep 0.02; done', async (process) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    process.trap('SIGTERM', resolve);
    await process.write('stdout', 'ready\n');
    await promise;
    await process.write('stdout', 'caught\n');
    return 42;
  }),
  flood: {
    argv: ['yes', '0123456789'.repeat(10)],
    behave: async (process) => {
      const block = Buffer.from(`${'0123456789'.repeat(10)}\n`.repeat(600));
      while (!process.killed.aborted) {
        await process.write('stdout', block);
        await new Promise(setImmediate);
      }
      return 137;
    },
  },
  twoParts: shell('seq 1 5000; read line; seq 5001 10000; echo "$line" >&2', async (process) => {
    await process.write('stdout', numberedLines(1, 5000));
    for await (const line of process.stdin) {
      await process.write('stdout', numberedLines(5001, 10_000));
      await process.write('stderr', line);
      break;
    }
    return 0;
  }),
  // Docker 20.10 hears of no memory kill in a container's first milliseconds, so both wait for a line first.
  outOfMemoryMain: shell('read line; exec tail /dev/zero', async (process) => {
    for await (const _ of process.stdin) break;
    await process.outOfMemory('main');
    return 0;
  }),
  outOfMemoryChild: shell('read line; tail /dev/zero; exit 0', async (process) => {
    for await (const _ of process.stdin) break;
    await process.outOfMemory('child');
    return 0;
  }),
  burn: shell('i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read line', async (process) => {
    process.use({ cpuNanos: 50_000_000, memoryPeakBytes: 2_000_000 });
    await process.write('stdout', 'done\n');
    for await (const _ of process.stdin) break;
    return 0;
  }),
  spec: shell('id -u; id -g; pwd; echo "$GREETING"', async ({ spec, write }) => {
    const [user, group] = spec.user.split(':');
    await write('stdout', `${user}\n${group}\n${spec.workingDir}\n${spec.env['GREETING']}\n`);
    return 0;
  }),
} as const satisfies Record<string, ContractProgram>;

/** For FakeEngine: the program with the spec's argv. */
export function contractProgram(spec: ContainerSpec): FakeProgram | undefined {
  const wanted = JSON.stringify(spec.argv);
  return Object.values(PROGRAMS).find(({ argv }) => JSON.stringify(argv) === wanted)?.behave;
}
