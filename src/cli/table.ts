// Tables for terminals: columns as wide as their content, the last visible one cut to the terminal's width.

/** One column: its heading and how to get its text from an item. */
export interface TableColumn<T> {
  readonly heading: string;
  readonly value: (item: T) => string;
  /** Numbers are set to the right. */
  readonly align?: 'right';
}

/** How to render. */
export interface TableLayout {
  /** Characters of the terminal; undefined for no cut, as when piped. */
  readonly width?: number | undefined;
  /** Applied to the whole heading line, after its width was measured. */
  readonly heading?: (text: string) => string;
}

/** Control characters would let a label or an error message drive the terminal. */
const CONTROL = /\p{Cc}/gu;

/** Text on one line and without control characters. */
export function plainText(text: string): string {
  return text.replace(/\r?\n/g, ' ').replace(CONTROL, '\ufffd');
}

/** The table with a line end after each row. Two blanks part the columns; no trailing blanks. */
export function renderTable<T>(
  items: readonly T[],
  columns: readonly TableColumn<T>[],
  layout: TableLayout = {},
): string {
  const rows = items.map((item) => columns.map((column) => plainText(column.value(item))));
  const headings = columns.map((column) => column.heading.toUpperCase());
  const widths = headings.map((heading, index) =>
    rows.reduce((most, row) => Math.max(most, [...row[index]!].length), heading.length),
  );
  const line = (cells: readonly string[]): string => {
    const padded = cells.map((cell, index) => pad(cell, widths[index]!, columns[index]!.align === 'right'));
    const text = padded.join('  ').trimEnd();
    return layout.width === undefined ? text : cut(text, layout.width);
  };
  const heading = layout.heading ?? ((text: string) => text);
  return `${[heading(line(headings)), ...rows.map(line)].join('\n')}\n`;
}

function pad(text: string, width: number, right: boolean): string {
  const blanks = ' '.repeat(Math.max(0, width - [...text].length));
  return right ? blanks + text : text + blanks;
}

/** Text of at most `width` characters, ending in an ellipsis if something was left out. */
export function cut(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}
