// Figures as Prometheus reads them: its text format, and OpenMetrics for who asks for it. Pure. Bounds of buckets are written as
// decimal fractions in both, so that a series is the same whichever of the two it came in.
import type { Distribution, MetricDefinition, MetricFamily } from '../../core/metrics/metric.ts';

/** Which of the two. */
export type ExpositionFormat = 'text' | 'openmetrics';

/** What a scrape is answered with. */
export interface Exposition {
  readonly type: string;
  readonly body: string;
}

const TYPES: Readonly<Record<ExpositionFormat, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** What an Accept header wants; the text format where it says nothing that is served. */
export function formatOf(accept: string | undefined): ExpositionFormat {
  const ranges = (accept ?? '').split(',').map(range);
  const weightOf = (pattern: RegExp) =>
    ranges.reduce((most, { name, weight }) => (pattern.test(name) ? Math.max(most, weight) : most), 0);
  const openmetrics = weightOf(/^application\/openmetrics-text$/);
  return openmetrics > 0 && openmetrics >= weightOf(/^text\/(plain|\*)$/) ? 'openmetrics' : 'text';
}

/** The families in a format. */
export function expose(families: Iterable<MetricFamily>, format: ExpositionFormat): Exposition {
  const lines: string[] = [];
  for (const one of families) if (one.samples.length > 0) appendFamily(lines, one, format);
  if (format === 'openmetrics') lines.push('# EOF');
  return { type: TYPES[format], body: lines.length === 0 ? '' : `${lines.join('\n')}\n` };
}

function range(text: string): { readonly name: string; readonly weight: number } {
  const [name = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
  const given = weight === undefined ? 1 : Number(weight);
  return { name, weight: Number.isFinite(given) ? given : 0 };
}

function appendFamily(lines: string[], { definition, samples }: MetricFamily, format: ExpositionFormat): void {
  const { help, type, unit } = definition;
  const name =
    format === 'openmetrics' && type === 'counter' ? definition.name.replace(/_total$/, '') : definition.name;
  lines.push(`# HELP ${name} ${escapedHelp(help, format)}`, `# TYPE ${name} ${type}`);
  // OpenMetrics wants the unit at the end of the name.
  if (format === 'openmetrics' && unit !== '' && name.endsWith(`_${unit}`)) lines.push(`# UNIT ${name} ${unit}`);
  for (const { labels, value } of samples) {
    const pairs = definition.labels.map((label, at) => `${label}="${escaped(labels[at] ?? '')}"`);
    if (typeof value === 'number') lines.push(`${definition.name}${braced(pairs)} ${numberText(value)}`);
    else appendDistribution(lines, definition, pairs, value);
  }
}

function appendDistribution(
  lines: string[],
  { name, buckets }: MetricDefinition,
  pairs: readonly string[],
  { counts, sum }: Distribution,
): void {
  let total = 0;
  for (const [at, count] of counts.entries()) {
    total += count;
    const bound = buckets[at];
    const le = bound === undefined ? '+Inf' : fractionText(bound);
    lines.push(`${name}_bucket${braced([...pairs, `le="${le}"`])} ${total}`);
  }
  lines.push(`${name}_sum${braced(pairs)} ${numberText(sum)}`, `${name}_count${braced(pairs)} ${total}`);
}

function braced(pairs: readonly string[]): string {
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function escapedHelp(text: string, format: ExpositionFormat): string {
  return format === 'openmetrics' ? escaped(text) : text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function numberText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value);
}

function fractionText(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}
