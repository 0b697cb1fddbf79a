// Judges what the tests of one file reported: skips that aren't allowed, files that ran no test, and the totals. Pure: it
// sees events of node:test and gives events of node:test, so that node's own reporter prints everything.
import type { TestEvent } from 'node:test/reporters';

/** Totals as node's runner counts them. */
export interface Totals {
  tests: number;
  suites: number;
  pass: number;
  fail: number;
  cancelled: number;
  skipped: number;
  todo: number;
}

/** Totals of nothing. */
export function noTotals(): Totals {
  return { tests: 0, suites: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
}

type ResultEvent = Extract<TestEvent, { type: 'test:pass' }>;

/** What one file's run comes to. */
export interface FileVerdict {
  /** To be handed to a reporter, in order; without summaries. */
  readonly events: readonly TestEvent[];
  readonly totals: Totals;
  readonly ok: boolean;
}

function failureOf(event: ResultEvent, message: string): TestEvent {
  const { skip: _skip, todo: _todo, details, ...data } = event.data;
  // The shape that node gives its own failures: the reporter prints the cause.
  const error = Object.assign(new Error(message), { code: 'ERR_TEST_FAILURE', failureType: 'testCodeFailure' });
  error.stack = `Error: ${message}`;
  const cause = Object.assign(error, { cause: message });
  return { type: 'test:fail', data: { ...data, details: { ...details, error: cause } } } as unknown as TestEvent;
}

function countResult(totals: Totals, event: TestEvent): void {
  if (event.type !== 'test:pass' && event.type !== 'test:fail') return;
  const { details, skip, todo } = event.data;
  if (details.type === 'suite') {
    totals.suites += 1;
    // A suite counts only where no test inside can: when it was turned into a failure, or failed outside its tests.
    if (event.type === 'test:fail' && totals.fail + totals.cancelled === 0) totals.fail += 1;
    return;
  }
  totals.tests += 1;
  if (skip !== undefined && skip !== false) totals.skipped += 1;
  else if (todo !== undefined && todo !== false) totals.todo += 1;
  else if (event.type === 'test:pass') totals.pass += 1;
  else if (isCancelled(event)) totals.cancelled += 1;
  else totals.fail += 1;
}

function isCancelled(event: Extract<TestEvent, { type: 'test:fail' }>): boolean {
  const { failureType } = event.data.details.error as { failureType?: string };
  return failureType === 'cancelledByParent' || failureType === 'testAborted' || failureType === 'testTimeoutFailure';
}

/**
 * Judges all events of the run of `file`. With `noSkip` every skipped or unfinished test or suite is a failure that gives the
 * reason it was skipped for.
 */
export function judgeFile(file: string, reported: readonly TestEvent[], noSkip: boolean): FileVerdict {
  const totals = noTotals();
  const events: TestEvent[] = [];
  let results = 0;
  for (const event of reported) {
    if (event.type === 'test:summary') continue;
    if (event.type === 'test:diagnostic' && event.data.nesting === 0 && /^[a-z_]+ [\d.]+$/.test(event.data.message))
      continue;
    if (event.type !== 'test:pass' && event.type !== 'test:fail') {
      events.push(event);
      continue;
    }
    // Node reports a file without tests as one test that bears the file's name.
    const isFile = event.data.nesting === 0 && event.data.name === file;
    let judged: TestEvent = event;
    if (event.type === 'test:pass' && isFile) judged = failureOf(event, 'the file runs no test');
    else if (event.type === 'test:pass' && noSkip && (event.data.skip || event.data.todo)) {
      judged = failureOf(event, `skipped, which LONGLINE_NO_SKIP makes a failure: ${reasonOf(event)}`);
    }
    results += 1;
    countResult(totals, judged);
    events.push(judged);
  }
  const ok = results > 0 && !events.some((event) => event.type === 'test:fail' && !event.data.todo);
  return { events, totals, ok };
}

function reasonOf(event: ResultEvent): string {
  const reason = event.data.skip || event.data.todo;
  return typeof reason === 'string' && reason !== '' ? reason : 'no reason given';
}
