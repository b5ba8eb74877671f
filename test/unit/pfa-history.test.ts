// Histories of nodes and disks: what is told apart, what a replaced disk does, the bounds, and a restart.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { evidenceWindow, History } from '../../pfa/history.js';
import type { Metric } from '../../pfa/metric.js';
import type { Sample } from '../../pfa/sample.js';

const test = suite('pfa history');
const HOUR_MS = 3_600_000;

function sample(metric: Metric, value: number, atMs: number, more: Partial<Sample> = {}): Sample {
  return { node: 'a', disk: 'sda', metric, value, atMs, ...more };
}

test('nodes, disks and metrics are told apart, and the node itself is none of its disks', () => {
  const history = new History();
  history.observe(sample('pending_sectors', 1, 0));
  history.observe(sample('pending_sectors', 2, 0, { disk: 'sdb' }));
  history.observe(sample('pending_sectors', 3, 0, { node: 'b' }));
  history.observe(sample('cpu_utilisation', 4, 0, { disk: null }));
  history.observe(sample('pending_sectors', 5, 0, { disk: 'null' }));
  assert.deepEqual(history.nodes(), ['a', 'b']);
  assert.deepEqual(
    history.disks('a').map(({ disk }) => disk),
    ['sda', 'sdb', null, 'null'],
  );
  assert.equal(history.disk('a', 'sdb')?.series.get('pending_sectors')?.value, 2);
  assert.equal(history.disk('a', null)?.series.get('cpu_utilisation')?.value, 4);
  assert.deepEqual(history.disks('c'), []);
});

test('another serial number under the same name is another disk', () => {
  const history = new History();
  const old = { labels: { serial: 'S1', model: 'M1' } };
  history.observe(sample('reallocated_sectors', 4000, 0, old));
  history.observe(sample('pending_sectors', 10, 0, old));
  history.observe(sample('reallocated_sectors', 0, HOUR_MS, { labels: { serial: 'S2', model: 'M2' } }));
  const disk = history.disk('a', 'sda')!;
  assert.equal(disk.serial, 'S2');
  assert.equal(disk.model, 'M2');
  assert.deepEqual([...disk.series.keys()], ['reallocated_sectors']);
  assert.equal(disk.series.get('reallocated_sectors')?.lastChangeMs, null);
  assert.equal(history.seriesCount, 1);
});

test('a disk that got younger is another one; one whose hours jitter is not', () => {
  const history = new History();
  history.observe(sample('reallocated_sectors', 4000, 0));
  history.observe(sample('power_on_hours', 30_000, 0));
  history.observe(sample('power_on_hours', 29_990, HOUR_MS));
  assert.equal(history.disk('a', 'sda')?.series.get('reallocated_sectors')?.value, 4000);
  history.observe(sample('power_on_hours', 12, 2 * HOUR_MS));
  assert.equal(history.disk('a', 'sda')?.series.has('reallocated_sectors'), false);
});

test('series and disks are bounded, and what is not kept is said', () => {
  const history = new History({ seriesMax: 2, disksPerNodeMax: 2 });
  assert.equal(history.observe(sample('pending_sectors', 0, 0)).ok, true);
  assert.equal(history.observe(sample('pending_sectors', 0, 0, { disk: 'sdb' })).ok, true);
  assert.deepEqual(history.observe(sample('reallocated_sectors', 0, 0)), { ok: false, reason: 'more than 2 series; this one is not kept' });
  assert.deepEqual(history.observe(sample('pending_sectors', 0, 0, { disk: 'sdc' })), {
    ok: false,
    reason: 'node a has more than 2 disks',
  });
  assert.equal(history.observe(sample('pending_sectors', 1, 1)).ok, true, 'known series go on');
  history.forget('a');
  assert.equal(history.seriesCount, 0);
  assert.equal(history.observe(sample('reallocated_sectors', 0, 0)).ok, true);
});

test('late samples are told as late', () => {
  const history = new History();
  history.observe(sample('temperature_celsius', 40, HOUR_MS));
  assert.deepEqual(history.observe(sample('temperature_celsius', 50, 0)), { ok: true, late: true });
  assert.deepEqual(history.observe(sample('temperature_celsius', 41, HOUR_MS + 1)), { ok: true, late: false });
});

test('the evidence window spans the metrics asked for, and is none when they went silent', () => {
  const history = new History();
  for (const hour of [0, 1, 2]) history.observe(sample('pending_sectors', 0, hour * HOUR_MS));
  history.observe(sample('temperature_celsius', 40, 9 * HOUR_MS));
  const disk = history.disk('a', 'sda')!;
  const metrics = new Set<Metric>(['pending_sectors']);
  assert.deepEqual(evidenceWindow(disk, metrics, 3 * HOUR_MS, HOUR_MS), { fromMs: 0, toMs: 2 * HOUR_MS, samples: 3 });
  assert.equal(evidenceWindow(disk, metrics, 4 * HOUR_MS, HOUR_MS), null);
  assert.equal(evidenceWindow(disk, new Set<Metric>(['spin_retries']), 0, HOUR_MS), null);
});

test('state goes through JSON and back; a damaged one is refused', () => {
  const history = new History();
  for (let i = 0; i < 10; i++) history.observe(sample('pending_sectors', i, i * HOUR_MS, { labels: { serial: 'S1' } }));
  history.observe(sample('cpu_utilisation', 4, 0, { disk: null }));
  const state = JSON.parse(JSON.stringify(history.toState()));
  const restored = new History();
  assert.equal(restored.restore(state), true);
  assert.deepEqual(restored.toState(), history.toState());
  assert.equal(restored.seriesCount, 2);
  const damage: ((state: ReturnType<History['toState']>) => unknown)[] = [
    () => null,
    () => 'x',
    (one) => ({ ...one, format: 2 }),
    (one) => ({ ...one, nodes: [{ node: 1, disks: [] }] }),
    (one) => {
      one.nodes[0].disks[0].series.pending_sectors.points[3][1] = null as unknown as number;
      return one;
    },
    (one) => {
      one.nodes[0].disks[0].series.pending_sectors.points.reverse();
      return one;
    },
  ];
  for (const [index, spoil] of damage.entries()) {
    const other = new History();
    assert.equal(other.restore(spoil(structuredClone(state))), false, `damage ${index}`);
    assert.deepEqual(other.nodes(), []);
  }
});

test.run();
