// The process of the command line: hands its streams to `run` and leaves with the exit code that the command set. It
// knows no command; those are listed in command-groups.ts, one file each in commands/, and loaded when they are used.
// Nothing here waits, polls or ends the process by force: it ends by itself once everything is written, so that output
// to a slow pipe is never cut off.
import { CliIo } from './io.ts';
import { run } from './run.ts';

const io = new CliIo({
  // A getter, since opening standard input costs time and most commands don't read it.
  get stdin() {
    return process.stdin;
  },
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
});
await run(process.argv.slice(2), io);
process.exitCode = io.exitCode;
