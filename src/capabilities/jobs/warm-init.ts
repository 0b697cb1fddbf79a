// How a warm container waits for its command and becomes it. Its init is a static busybox shell that reads the command
// from standard input byte by byte, so that the job's own input, which follows, is left untouched; then it replaces
// itself by the job with exec: the job is PID 1, as in a cold container, with its output from byte 0 and its exit code.
import type { OutputPiece } from './ports.ts';

/** A job's command as a warm container takes it. */
export interface WarmCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Empty stays where the image says. */
  readonly workingDir: string;
  /** False gives the job /dev/null. */
  readonly withInput: boolean;
}

/**
 * Text that begins every message of the init itself. It is the shell's $0, gone after exec, and as unguessable to a job as
 * a UUID: output that begins with it on standard error means that the job's program was never reached.
 */
export function initToken(warmId: string): string {
  return `longline-init-${warmId}`;
}

/**
 * The init's script; $0 is the token. Variables are LL__ because those that the image sets are exported and would leak
 * their new value into the job. The program is looked up by hand, as busybox would prefer applets of its own, and must be
 * ELF or name its interpreter, as the shell would run anything else as a script. Whatever isn't so is refused, and
 * the job runs cold, where the engine's own rules and messages hold.
 */
export const INIT_SCRIPT = `
LL__f() { echo "$0: $1" >&2; exit 125; }
LL__v() {
  IFS= read -r LL__n || LL__f "no command came"
  IFS= read -r LL__r || LL__f "the command was cut"
  while [ "$LL__n" -gt 0 ]; do
    IFS= read -r LL__l || LL__f "the command was cut"
    LL__r="$LL__r
$LL__l"
    LL__n=$((LL__n-1))
  done
}
tr '\\0' '\\n' </proc/self/environ | grep -qvE '^[A-Za-z_][A-Za-z0-9_]*=' && LL__f "the image sets a variable that a shell would change"
LL__v; LL__c=$LL__r
while [ "$LL__c" -gt 0 ]; do
  LL__v; LL__k=$LL__r; LL__v; export "$LL__k=$LL__r"; LL__c=$((LL__c-1))
done
LL__v; LL__d=$LL__r
LL__v; LL__i=$LL__r
LL__v; LL__c=$LL__r
set --
while [ "$LL__c" -gt 0 ]; do LL__v; set -- "$@" "$LL__r"; LL__c=$((LL__c-1)); done
[ -z "$LL__d" ] || cd "$LL__d" 2>/dev/null || LL__f "no such working directory"
LL__p=
case $1 in
*/*) LL__p=$1 ;;
*)
  set -f; IFS=:
  for LL__d in $PATH; do
    [ -f "\${LL__d:-.}/$1" ] && [ -x "\${LL__d:-.}/$1" ] && { LL__p=\${LL__d:-.}/$1; break; }
  done
  unset IFS ;;
esac
[ -f "$LL__p" ] && [ -x "$LL__p" ] || LL__f "no such program"
LL__r=; IFS= read -r -n 4 LL__r <"$LL__p"
case $LL__r in '#!'*|?ELF) ;; *) LL__f "not a program" ;; esac
LL__c=$1; shift
unset PWD OLDPWD SHLVL
[ "$LL__i" = 1 ] || exec <>/dev/null
exec -a "$LL__c" "$LL__p" "$@"
`;

/** Longest command that is sent to a warm container: its shell reads byte by byte. */
export const MAX_WARM_COMMAND_BYTES = 16 * 1024;

// Variables that the shell treats as its own, before it becomes the job.
const SHELL_OWN =
  /^(?:IFS|PWD|OLDPWD|SHLVL|PPID|OPTIND|OPTARG|PS[0-9]|ENV|LINENO|RANDOM|LANG|LC_.*|FUNCNAME|HISTFILE|MAIL.*|LL__.*)$/;

/** The command in the init's form, to be written to its standard input; undefined if only a cold container can run it. */
export function encodeWarmCommand(command: WarmCommand): Buffer | undefined {
  const env = Object.entries(command.env);
  if (env.some(([name]) => SHELL_OWN.test(name))) return undefined;
  const values = [
    String(env.length),
    ...env.flat(),
    command.workingDir,
    command.withInput ? '1' : '0',
    String(command.argv.length),
    ...command.argv,
  ];
  const encoded = Buffer.from(values.map((value) => `${value.split('\n').length - 1}\n${value}\n`).join(''));
  return encoded.length > MAX_WARM_COMMAND_BYTES ? undefined : encoded;
}

const MAX_REFUSAL = 4096;

/** Lets a container's output through and keeps what its init says of itself. */
export class RefusalScreen {
  readonly #token: Buffer;
  #held: Buffer = Buffer.alloc(0);
  #state: /** What came on standard error so far may be the init's. */
    | 'screening'
    /** The job runs: everything passes. */
    | 'passing'
    /** The init refused; nothing passes. */
    | 'refused' = 'screening';

  constructor(token: string) {
    this.#token = Buffer.from(`${token}: `);
  }

  /** What the init said; undefined if it became the job. Known when the output has ended. */
  get refusal(): string | undefined {
    return this.#state === 'refused' ? this.#held.subarray(this.#token.length).toString().trim() : undefined;
  }

  async *screen(pieces: AsyncIterable<OutputPiece>): AsyncGenerator<OutputPiece, void, undefined> {
    for await (const piece of pieces) {
      if (this.#state === 'passing') yield piece;
      else if (piece.stream === 'stdout') {
        yield* this.#release();
        yield piece;
      } else yield* this.#examine(piece.data);
    }
    if (this.#state === 'screening') yield* this.#release();
  }

  *#examine(data: Uint8Array): Generator<OutputPiece> {
    if (this.#state === 'refused' && this.#held.length >= MAX_REFUSAL) return;
    this.#held = Buffer.concat([this.#held, data]);
    if (this.#state === 'refused') return;
    const length = Math.min(this.#held.length, this.#token.length);
    if (!this.#held.subarray(0, length).equals(this.#token.subarray(0, length))) yield* this.#release();
    else if (this.#held.length >= this.#token.length) this.#state = 'refused';
  }

  // The init writes nothing to standard output: once something comes there, the job runs.
  *#release(): Generator<OutputPiece> {
    if (this.#state === 'refused') return;
    this.#state = 'passing';
    const data = this.#held;
    this.#held = Buffer.alloc(0);
    if (data.length > 0) yield { stream: 'stderr', data };
  }
}
