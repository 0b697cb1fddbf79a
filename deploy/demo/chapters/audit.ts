// The audit log: every job, refused ones included, in a hash chain that shows any later change.
import { join } from 'node:path';
import type { Chapter } from '../chapter.ts';
import { DEMO_AGENT } from '../stage.ts';

/** Chapter "audit". */
export const auditChapter: Chapter = {
  title: 'Audit: what was done on the host, provably complete',
  run: async (stage, report) => {
    const folder = join(stage.fleet.folder, `agent-${DEMO_AGENT}`);
    await report.step('audit log verifies', 'exit 0', async () => {
      const { code } = await stage.longline(['audit', 'verify', '--data-dir', folder, '--agent', DEMO_AGENT]);
      return `exit ${code}`;
    });
    await report.step('every refusal is in it', '4 refused', async () => {
      const args = ['audit', 'export', '--data-dir', folder, '--event', 'refused'];
      const { stdout } = await stage.longline(args, { quiet: true });
      return `${stdout.toString().trim().split('\n').length} refused`;
    });
    await report.step('jobs of the fleet', 'yes', async () => {
      const { stdout } = await stage.longline(['job', 'ls']);
      return stdout.toString().includes('cancelled') ? 'yes' : 'no';
    });
  },
};
