// What a chapter is: a part of the demo that stands alone on the stage. Later capabilities add a file and a line in main.ts.
import type { Report } from './report.ts';
import type { Stage } from './stage.ts';

/** One chapter. A step that goes wrong becomes a row of the report; what it throws beyond that ends the demo. */
export interface Chapter {
  readonly title: string;
  run(stage: Stage, report: Report): Promise<void>;
}

/** What `job run --json` ends with, as far as chapters look at it. */
export interface JobView {
  readonly id: string;
  readonly state: string;
  readonly reason: string | null;
  readonly exit_code: number | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly stdout_bytes: number | null;
  readonly warm: boolean;
  readonly error: { readonly message: string; readonly rule: string | null } | null;
}
