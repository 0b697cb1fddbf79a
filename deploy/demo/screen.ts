// What a person watching the demo sees: headings, the commands as one would type them, their output as it comes. Pretty on
// a terminal, plain text when piped. It decides nothing.
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** Writes to standard output. */
export class Screen {
  readonly #write: (text: string) => void;
  readonly #colours: boolean;
  #midLine = false;

  constructor(
    write = (text: string): void => void process.stdout.write(text),
    colours = process.stdout.isTTY === true,
  ) {
    this.#write = write;
    this.#colours = colours && process.env['NO_COLOR'] === undefined;
  }

  style(style: Style, text: string): string {
    return this.#colours ? styleText(style, text, { validateStream: false }) : text;
  }

  chapter(title: string): void {
    this.line(`\n${this.style(['bold', 'cyan'], `▌ ${title}`)}`);
  }

  /** A remark. */
  say(text: string): void {
    this.line(`  ${text}`);
  }

  /** A command line as a person would type it. */
  command(argv: readonly string[]): void {
    const quoted = argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`));
    this.line(`  ${this.style('green', '$')} ${this.style('bold', `longline ${quoted.join(' ')}`)}`);
  }

  /** Output of a command, as it comes; each line is set in. */
  output(data: Uint8Array): void {
    const bar = `  ${this.style('dim', '│')} `;
    for (const part of Buffer.from(data)
      .toString('utf8')
      .split(/(?<=\n)/)) {
      this.#write(this.#midLine ? part : bar + part);
      this.#midLine = !part.endsWith('\n');
    }
  }

  line(text: string): void {
    if (this.#midLine) this.#write('\n');
    this.#midLine = false;
    this.#write(`${text}\n`);
  }
}
