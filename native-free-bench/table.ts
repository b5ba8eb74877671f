// Prints one workload's summary as a table for people. Pure: a summary in, text out.
import type { PathId } from './path.js';
import { type PathSummary, REFERENCES, type Reference, type WorkloadSummary } from './summary.js';

type Cell = string;
interface Column {
  title: string;
  cell(summary: PathSummary): Cell;
}

/** `titles` say what each path is. */
export function renderTable({ workload, bestProxy, paths }: WorkloadSummary, titles: ReadonlyMap<PathId, string>): string {
  const references = REFERENCES.filter((reference) => paths.some(({ ratios }) => ratios[reference] !== undefined));
  const columns: Column[] = [
    { title: 'IOPS', cell: ({ iops }) => count(iops.median) },
    { title: 'min..max', cell: ({ iops }) => `${count(iops.min)}..${count(iops.max)}` },
    { title: 'MB/s', cell: ({ megabytesPerSecond }) => megabytesPerSecond.median.toFixed(1) },
    { title: 'p50 us', cell: ({ p50Us }) => p50Us.median.toFixed(0) },
    { title: 'p99 us', cell: ({ p99Us }) => p99Us.median.toFixed(0) },
    { title: 'CPU us', cell: ({ cpuUsPerOperation }) => cpuUsPerOperation?.toFixed(1) ?? '-' },
    ...references.map((reference) => ({
      title: `x ${reference}`,
      cell: ({ ratios }: PathSummary) => ratios[reference]?.iops.toFixed(2) ?? '-',
    })),
    { title: 'errors', cell: ({ errors, mismatches }) => String(errors + mismatches) },
  ];
  const rows = [['path', ...columns.map(({ title }) => title)]];
  for (const summary of paths) rows.push([titles.get(summary.path) ?? summary.path, ...columns.map(({ cell }) => cell(summary))]);
  return `${workload.title}${proxyNote(references, bestProxy, titles)}\n${align(rows)}`;
}

function proxyNote(references: Reference[], bestProxy: PathId | null, titles: ReadonlyMap<PathId, string>): string {
  return bestProxy !== null && references.includes('proxy') ? ` (proxy: ${titles.get(bestProxy)})` : '';
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** The first column is text, the others are numbers. */
function align(rows: Cell[][]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: Cell[]) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  return rows.map((row) => `  ${line(row)}\n`).join('');
}
