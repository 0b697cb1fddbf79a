import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { timestampNow } from '@bufbuild/protobuf/wkt';
import {
  ArtifactSchema,
  type PutAssignmentRequest,
  RolloutAgentState,
  RolloutSchema,
  RolloutState,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { runCli, type Script, startFleet } from './fixtures.ts';

type Cli = (...argv: string[]) => ReturnType<typeof runCli>;
type Programs = NonNullable<Script['programs']>;

const DIGEST = `sha256:${'ab'.repeat(32)}`;
const artifact = create(ArtifactSchema, { digest: DIGEST, metadata: { name: 'drop', version: '1.0.0' } });

async function withFleet(programs: Programs, work: (cli: Cli) => Promise<void>) {
  await using fleet = await startFleet({ programs: { getArtifact: () => ({ artifact }), ...programs } });
  await work((...argv) => runCli(['program', ...argv], { env: { LONGLINE_CONTEXT: fleet.contextPath } }));
}

function rollout(state: RolloutState, currentCount: number, reason = '') {
  const counts = { wave: 1, waves: 2, agentCount: 4, currentCount };
  const agents = [{ agentId: 'a', wave: 1, state: RolloutAgentState.FAILED, reason: 'errors: 30' }];
  const failedCount = state === RolloutState.ROLLED_BACK ? 1 : 0;
  return create(RolloutSchema, { id: 'r1', assignment: 'drop', state, reason, failedCount, agents, ...counts });
}

test('program assign: selector, delivery and strategy as asked, and the rollout followed to its end', async () => {
  const asked: PutAssignmentRequest[] = [];
  const programs: Programs = {
    putAssignment: (request) => {
      asked.push(request);
      return { assignment: { assignment: request.assignment!, agents: 4 }, rollout: rollout(RolloutState.RUNNING, 0) };
    },
    watchRollout: async function* () {
      yield { rollout: rollout(RolloutState.RUNNING, 0) };
      yield { rollout: rollout(RolloutState.RUNNING, 0) };
      yield { rollout: rollout(RolloutState.DONE, 4) };
    },
  };
  await withFleet(programs, async (cli) => {
    const options = ['--selector', 'role=edge,gpu', '--artifact', DIGEST, '--waves', '25,100', '--pause', '10m'];
    const { code, err, out } = await cli(
      'assign',
      'drop',
      ...options,
      '--max-failed',
      '5',
      '--delivery',
      'poll',
      '--wait',
    );
    assert.equal(code, 0, err);
    assert.deepEqual(out.trim().split('\n'), [
      'drop: running, wave 1 of 2, 0 of 4 agents',
      'drop: done, wave 1 of 2, 4 of 4 agents',
    ]);
    const { assignment, validateOnly } = asked[0]!;
    assert.equal(validateOnly, false);
    assert.deepEqual([assignment!.name, assignment!.spec!.name, assignment!.delivery], ['drop', 'drop', 2]);
    assert.deepEqual(assignment!.selector!.matchLabels, { role: 'edge' });
    assert.deepEqual(assignment!.selector!.hasLabels, ['gpu']);
    const { manual, maxFailedPercent, pause, waves, waveTimeout } = assignment!.strategy!;
    assert.deepEqual([waves, pause!.seconds, maxFailedPercent], [[25, 100], 600n, 5]);
    assert.deepEqual([manual, waveTimeout], [false, undefined]);
  });
});

test('program assign: without --wait it names the rollout; wrong waves say what would be right', async () => {
  const programs: Programs = {
    putAssignment: ({ assignment, validateOnly }) => ({
      assignment: { assignment: assignment!, agents: 4 },
      ...(validateOnly ? {} : { rollout: rollout(RolloutState.RUNNING, 0) }),
    }),
  };
  await withFleet(programs, async (cli) => {
    const options = ['assign', 'drop', '--selector', '*', '--artifact', DIGEST];
    assert.equal((await cli(...options)).out, 'drop: rollout r1, 4 agents\n');
    assert.equal((await cli(...options, '--dry-run')).out, 'drop: would be assigned to 4 agents\n');
    for (const waves of ['50,25', '0,100', '101', 'all', '']) {
      const { code, err } = await cli(...options, '--waves', waves);
      assert.equal(code, 2, waves);
      assert.match(err, /growing percents of 1 to 100/);
    }
  });
});

test('program rollout: shown, steered, and one that is rolled back is a failure', async () => {
  const steered: string[] = [];
  const programs: Programs = {
    getRollout: () => ({ rollout: rollout(RolloutState.WATCHING, 1) }),
    listRollouts: () => ({ rollouts: [rollout(RolloutState.ROLLED_BACK, 0, 'wave 1 failed')] }),
    pauseRollout: ({ id }) => {
      steered.push(`pause ${id}`);
      return { rollout: rollout(RolloutState.PAUSED, 1) };
    },
    resumeRollout: ({ id }) => {
      steered.push(`resume ${id}`);
      return { rollout: rollout(RolloutState.RUNNING, 1) };
    },
    abortRollout: ({ id, reason }) => {
      steered.push(`abort ${id} ${reason}`);
      return { rollout: rollout(RolloutState.ROLLING_BACK, 1, reason) };
    },
    watchRollout: async function* () {
      yield { rollout: rollout(RolloutState.ROLLED_BACK, 0, 'wave 1 failed') };
    },
  };
  await withFleet(programs, async (cli) => {
    const show = await cli('rollout', 'show', 'r1');
    assert.match(
      show.out,
      /^drop: watching, wave 1 of 2, 1 of 4 agents\nAGENT +WAVE +STATE +WHY\na +1 +failed +errors: 30/,
    );
    assert.match((await cli('rollout', 'ls')).out, /^r1 +drop +rolled_back +1 of 2 +0 of 4 +1 .*wave 1 failed/m);
    await cli('rollout', 'pause', 'r1');
    await cli('rollout', 'resume', 'r1');
    assert.match((await cli('rollout', 'abort', 'r1', '--reason', 'enough')).out, /rolling_back.*: enough/);
    assert.deepEqual(steered, ['pause r1', 'resume r1', 'abort r1 enough']);
    const watched = await cli('rollout', 'watch', 'r1');
    assert.equal(watched.code, 1);
    assert.match(watched.out, /rolled_back, wave 1 of 2, 0 of 4 agents, 1 failed: wave 1 failed/);
  });
});

test('program rollout watch: one that is halted is told as a failure, although its watch goes on', async () => {
  const programs: Programs = {
    watchRollout: async function* (_request, { signal }) {
      yield { rollout: rollout(RolloutState.HALTED, 0, 'too many failed') };
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };
  await withFleet(programs, async (cli) => {
    const { code, out } = await cli('rollout', 'watch', 'r1');
    assert.deepEqual([code, out], [1, 'drop: halted, wave 1 of 2, 0 of 4 agents: too many failed\n']);
  });
});

test('program assignments and unassign: counts, and what is being taken away', async () => {
  const gone: string[] = [];
  const programs: Programs = {
    listAssignments: () => ({
      assignments: [
        {
          assignment: { name: 'drop', spec: { artifact: DIGEST } },
          agents: 4,
          agentsCurrent: 3,
          updateTime: timestampNow(),
        },
      ],
    }),
    deleteAssignment: ({ name }) => {
      gone.push(name);
      return { assignment: { assignment: { name }, removing: true } };
    },
  };
  await withFleet(programs, async (cli) => {
    assert.match((await cli('assignments')).out, /^drop +sha256:abababababab +push +3 of 4 +changing/m);
    assert.equal((await cli('unassign', 'drop')).out, 'drop being taken away\n');
    assert.deepEqual(gone, ['drop']);
  });
});
