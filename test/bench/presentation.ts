// A bench's rows as a table for people and as an SVG plot. Pure.
import { type BenchGoal, type BenchRow, isMet, ratioOf } from './bench.ts';

/** A figure with three significant digits. */
export function formatFigure(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(3)));
}

function formatGoal(goal: BenchGoal | undefined, unit: string): string {
  if (goal === undefined) return '';
  if (goal.kind === 'at most') return `≤ ${formatFigure(goal.value)} ${unit}`;
  return `${goal.kind === 'ratio at least' ? '≥' : '≤'} ${formatFigure(goal.value)}×`;
}

/** The table, one line per row. */
export function benchTable(rows: readonly BenchRow[]): string {
  const head = ['metric', 'ours', 'peer', 'ratio', 'goal', 'met'];
  const body = rows.map((row) => {
    const ratio = ratioOf(row);
    const met = isMet(row);
    return [
      row.metric,
      `${formatFigure(row.ours)} ${row.unit}`,
      row.peer === undefined ? '—' : `${formatFigure(row.peer.value)} ${row.unit} (${row.peer.name})`,
      ratio === undefined ? '—' : `${formatFigure(ratio)}×`,
      formatGoal(row.goal, row.unit) || '—',
      met === undefined ? '—' : met ? 'yes' : 'NO',
    ];
  });
  const widths = head.map((title, column) => Math.max(title.length, ...body.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...body.map(line)].join('\n');
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Bars of ours and the peer's, each row scaled to its own largest; a dashed line where the goal is. */
export function benchPlot(title: string, rows: readonly BenchRow[]): string {
  const barWidth = 420;
  const parts: string[] = [];
  rows.forEach((row, index) => {
    const goal = goalFigure(row);
    const largest = Math.max(row.ours, row.peer?.value ?? 0, goal ?? 0) || 1;
    const scale = (value: number) => Math.max(1, (value / largest) * barWidth).toFixed(1);
    const y = 50 + index * 64;
    const colour = isMet(row) === false ? '#c0392b' : '#2c7fb8';
    parts.push(`<text x="20" y="${y + 14}">${escapeXml(row.metric)}</text>`);
    parts.push(`<rect x="300" y="${y}" width="${scale(row.ours)}" height="18" fill="${colour}"/>`);
    parts.push(`<text x="730" y="${y + 14}">${escapeXml(`${formatFigure(row.ours)} ${row.unit}`)}</text>`);
    if (row.peer !== undefined) {
      parts.push(`<rect x="300" y="${y + 22}" width="${scale(row.peer.value)}" height="18" fill="#999"/>`);
      const text = `${formatFigure(row.peer.value)} ${row.unit}, ${row.peer.name}`;
      parts.push(`<text x="730" y="${y + 36}">${escapeXml(text)}</text>`);
    }
    if (goal === undefined) return;
    const x = 300 + Number(scale(goal));
    parts.push(`<line x1="${x}" x2="${x}" y1="${y - 4}" y2="${y + 44}" stroke="#222" stroke-dasharray="4 3"/>`);
  });
  const height = 60 + rows.length * 64;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="1000" height="${height}" font-family="sans-serif" font-size="13">
<rect width="1000" height="${height}" fill="#fff"/>
<text x="20" y="28" font-size="17" font-weight="bold">${escapeXml(title)}</text>
${parts.join('\n')}
</svg>
`;
}

function goalFigure(row: BenchRow): number | undefined {
  if (row.goal === undefined) return undefined;
  if (row.goal.kind === 'at most') return row.goal.value;
  return row.peer === undefined ? undefined : row.goal.value * row.peer.value;
}
