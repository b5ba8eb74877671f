// From readings to the table: medians, ratios within rounds, the better proxy, and what a row shows.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { rotated } from '../../native-free-bench/bench.js';
import type { PathId } from '../../native-free-bench/path.js';
import { type Sample, spread, summarise } from '../../native-free-bench/summary.js';
import { renderTable } from '../../native-free-bench/table.js';
import { WORKLOADS } from '../../native-free-bench/workload.js';

const test = suite('bench summary');
const ORDER: PathId[] = ['direct', 'relay', 'gateway', 'nbdkit', 'qemu'];
const PROXIES: PathId[] = ['nbdkit', 'qemu'];
const [workload] = WORKLOADS;

function sample(
  path: PathId,
  round: number,
  operations: number,
  change: { p50Us?: number; cpuUs?: number | null; errors?: number } = {},
): Sample {
  const { p50Us = 100, cpuUs = null, errors = 0 } = change;
  const latency = { p50Us, p99Us: 2 * p50Us, p999Us: 3 * p50Us, maxUs: 4 * p50Us };
  return {
    path,
    round,
    reading: { operations, windowUs: 500_000, allOperations: operations + 10, errors, mismatches: 0, ...latency },
    cpuUs,
  };
}

test('medians of odd and even numbers, least and largest', () => {
  assert.deepEqual(spread([3, 1, 2]), { median: 2, min: 1, max: 3 });
  assert.deepEqual(spread([10, 1, 4, 2]), { median: 3, min: 1, max: 10 });
});

test('operations become IOPS and MB/s by the length of the window', () => {
  const { paths } = summarise(workload, [sample('direct', 0, 1000)], ORDER, PROXIES);
  assert.equal(paths[0].iops.median, 2000);
  assert.equal(paths[0].megabytesPerSecond.median, 8.192);
});

test('a ratio is the median of the ratios of each round, not the ratio of medians', () => {
  // The machine slows down from round to round; the gateway is always at half of direct.
  const samples = [100, 60, 10].flatMap((operations, round) => [
    sample('direct', round, operations),
    sample('gateway', round, operations / 2),
  ]);
  // One round in which only the gateway was disturbed does not move it.
  samples.push(sample('direct', 3, 1000), sample('gateway', 3, 1));
  samples.push(sample('direct', 4, 1000), sample('gateway', 4, 500));
  const gateway = summarise(workload, samples, ORDER, PROXIES).paths[1];
  assert.equal(gateway.ratios.direct!.iops, 0.5);
  assert.equal(gateway.ratios.relay, undefined);
});

test('rounds in which one of the two failed do not count for their ratio', () => {
  const samples = [sample('direct', 0, 100), sample('gateway', 0, 50), sample('direct', 1, 100)];
  assert.equal(summarise(workload, samples, ORDER, PROXIES).paths[1].ratios.direct!.iops, 0.5);
});

test('the better proxy is the one with the higher median, and it is not compared with itself', () => {
  const samples = [sample('gateway', 0, 90), sample('nbdkit', 0, 30), sample('qemu', 0, 45, { p50Us: 50 })];
  const summary = summarise(workload, samples, ORDER, PROXIES);
  assert.equal(summary.bestProxy, 'qemu');
  const ratios = summary.paths.map(({ ratios: { proxy } }) => proxy);
  assert.deepEqual(ratios, [{ iops: 2, p50: 2 }, { iops: 30 / 45, p50: 2 }, undefined]);
});

test('CPU time is divided over all operations of all rounds, and is unknown when one round lacks it', () => {
  const known = [sample('relay', 0, 90, { cpuUs: 1000 }), sample('relay', 1, 90, { cpuUs: 3000 })];
  assert.equal(summarise(workload, known, ORDER, PROXIES).paths[0].cpuUsPerOperation, 20);
  const unknown = [...known, sample('relay', 2, 90)];
  assert.equal(summarise(workload, unknown, ORDER, PROXIES).paths[0].cpuUsPerOperation, null);
});

test('each path is first in one round and they keep their order otherwise', () => {
  assert.deepEqual(
    [0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round).join('')),
    ['abc', 'bca', 'cab', 'abc'],
  );
  assert.deepEqual(rotated([], 3), []);
});

test('a table has a row for each path, columns only for what was measured, and names the proxy', () => {
  const samples = [sample('direct', 0, 100_000), sample('gateway', 0, 50_000, { cpuUs: 100, errors: 3 }), sample('nbdkit', 0, 20_000)];
  const titles = new Map(ORDER.map((id) => [id, `path ${id}`] as const));
  const text = renderTable(summarise(workload, samples, ORDER, PROXIES), titles);
  const lines = text.trimEnd().split('\n');
  assert.equal(lines[0], '4 KiB random read, depth 32 (proxy: path nbdkit)');
  assert.match(lines[1], /IOPS.*MB\/s.*p50 us.*p99 us.*x direct {2}x proxy {2}errors$/);
  assert.match(lines[3], /^ {2}path gateway {2}100,000 .* 409\.6 .* 0\.50 .* 2\.50 +3$/);
  assert.equal(new Set(lines.slice(1).map((line) => line.length)).size, 1);
});

test.run();
