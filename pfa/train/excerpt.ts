// Command: cuts a small excerpt out of recorded telemetry for the tests: left-out drives only, every failure, some of the healthy.
//   node --import tsx pfa/train/excerpt.ts --data FILE.csv.gz --out test/data/pfa/smart-excerpt.csv.gz [--from 2015-06-01] [--healthy 24]
// Reads one file twice, writes one file. The notice of the source must be kept beside what it writes.

import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { heldOut } from './dataset.js';
import { type DriveRow, readDriveStats } from './drive-stats.js';

const USAGE = 'usage: pfa/train/excerpt.ts --data FILE.csv[.gz] --out EXCERPT.csv.gz [--from YYYY-MM-DD] [--hold-out 3] [--healthy ONE_IN]';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string' },
    from: { type: 'string', default: '2015-06-01' },
    'hold-out': { type: 'string', default: '3' },
    healthy: { type: 'string', default: '24' },
  },
});
if (values.data === undefined || values.out === undefined) {
  console.error(USAGE);
  process.exit(2);
}
const fromMs = Date.parse(`${values.from}T00:00:00Z`);
const healthyOneIn = Number(values.healthy);
const holdOutOneIn = Number(values['hold-out']);

const failed = new Set<string>();
await readDriveStats(values.data, (row) => {
  if (row.failure && row.atMs >= fromMs) failed.add(row.serial);
});
const healthy = new Set<string>();
const seen = new Set<string>();
let others = 0;
const lines: string[] = [];
await readDriveStats(values.data, (row, { smartIds }) => {
  if (lines.length === 0)
    lines.push(`date,serial_number,model,capacity_bytes,failure,${smartIds.map((id) => `smart_${id}_raw`).join(',')}`);
  if (row.atMs < fromMs || !heldOut(row.serial, holdOutOneIn)) return;
  if (!failed.has(row.serial) && !healthy.has(row.serial)) {
    if (seen.has(row.serial)) return;
    seen.add(row.serial);
    if (others++ % healthyOneIn !== 0) return;
    healthy.add(row.serial);
  }
  lines.push(cells(row));
});
const bytes = gzipSync(`${lines.join('\n')}\n`, { level: 9 });
await writeFile(values.out, bytes);
const shown = [...failed].filter((serial) => heldOut(serial, holdOutOneIn)).length;
console.log(
  `${values.out}: ${bytes.length} bytes, ${lines.length - 1} rows, ${shown} drives that fail, ${healthy.size} others (one in ${healthyOneIn})`,
);

function cells({ date, serial, model, capacityBytes, failure, raw }: DriveRow): string {
  const values = [...raw].map((value) => (Number.isNaN(value) ? '' : String(value)));
  return [date, serial, model, Number.isNaN(capacityBytes) ? '' : String(capacityBytes), failure ? '1' : '0', ...values].join(',');
}
