// Trends, reports of devices, links and kernel latency: each finding with its reason, and what must stay silent.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { DiskLatency } from '../../pfa/disk-latency.js';
import { DiskReports } from '../../pfa/disk-reports.js';
import { type DiskHistory, History } from '../../pfa/history.js';
import { LinkHealth } from '../../pfa/link-health.js';
import type { Metric } from '../../pfa/metric.js';
import { logOdds } from '../../pfa/model.js';
import { robustLine } from '../../pfa/robust-slope.js';
import { Trends } from '../../pfa/trends.js';

const test = suite('pfa trends and reports');
const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const trends = new Trends(30 * DAY_MS);
const reports = new DiskReports();

/** Metrics as functions of 0 to 1 over a span that ends now. */
function history(name: string | null, series: Partial<Record<Metric, (x: number) => number>>, spanMs: number, samples = 60): DiskHistory {
  const kept = new History();
  for (let i = 0; i <= samples; i++) {
    for (const [metric, value] of Object.entries(series)) {
      kept.observe({
        node: 'a',
        disk: name,
        metric: metric as Metric,
        value: value(i / samples),
        atMs: NOW_MS - spanMs + (spanMs * i) / samples,
      });
    }
  }
  return kept.disk('a', name)!;
}
const constant = (value: number) => (): number => value;
const line =
  (from: number, to: number) =>
  (x: number): number =>
    from + (to - from) * x;

test('a robust line is not bent by outliers, and its interval holds the truth', () => {
  const times = Array.from({ length: 40 }, (_, i) => i * 1000);
  const values = times.map((t, i) => (i % 7 === 3 ? 1000 : 5 + t * 0.002 + (i % 3) * 0.01));
  const fit = robustLine(times, values)!;
  assert.ok(Math.abs(fit.slope - 0.002) < 1e-5 && fit.low <= 0.002 && fit.high >= 0.002);
  assert.ok(Math.abs(fit.latest - (5 + 39 * 2)) < 0.1);
  assert.equal(robustLine([1, 2], [1, 2]), null);
  assert.equal(
    robustLine(
      times.map(() => 5),
      values,
    ),
    null,
  );
});

test('a disk that heats up towards its limit is told with the time it has left', () => {
  const { probability, contributions, predictedFailureAtMs } = trends.assess(
    history('sda', { temperature_celsius: line(40, 60) }, 2 * HOUR_MS),
    NOW_MS,
  );
  assert.ok(probability! > 0.3, `${probability}`);
  assert.match(contributions[0].text, /temperature is 60 °C and reaches 65 °C in 3\d minutes \(.* to .*\) at its pace of the last 2 hours/);
  assert.ok(predictedFailureAtMs! > NOW_MS + 15 * MINUTE_MS && predictedFailureAtMs! < NOW_MS + HOUR_MS);
});

test('a disk that warms up after a start, one steadily warm, and one reading past the limit once are no trend', () => {
  for (const [what, disk] of [
    ['warming up', history('sda', { temperature_celsius: line(22, 40) }, HOUR_MS)],
    ['steady', history('sda', { temperature_celsius: (x) => 55 + (Math.round(x * 60) % 2) }, DAY_MS)],
    ['a glitch', history('sda', { temperature_celsius: (x) => (x === 1 ? 150 : 40) }, HOUR_MS)],
    ['a hot processor', history(null, { temperature_celsius: constant(80) }, HOUR_MS)],
    ['a hot flash drive', history('nvme0', { temperature_celsius: constant(70) }, HOUR_MS)],
  ] as const) {
    assert.ok(trends.assess(disk, NOW_MS).probability! < 0.01, what);
  }
  assert.ok(trends.assess(history('sda', { temperature_celsius: constant(80) }, HOUR_MS), NOW_MS).probability! > 0.5);
});

test('wear, spare blocks, pending sectors and space are foreseen', () => {
  for (const [what, disk, limit] of [
    [
      'wear',
      history('nvme0', { percentage_used: (x) => Math.floor(85 + 10 * x) }, 20 * DAY_MS),
      /endurance used is 95 % and reaches 100 %/,
    ],
    [
      'spare',
      history('nvme0', { available_spare: (x) => Math.ceil(60 - 40 * x), available_spare_threshold: constant(10) }, 10 * DAY_MS),
      /spare blocks is 20 % and reaches 10 %/,
    ],
    ['pending', history('sda', { pending_sectors: (x) => Math.round(400 * x) }, 2 * DAY_MS), /pending sectors is 400 and reaches 1,000/],
    [
      'space',
      history('sda1', { filesystem_avail_bytes: line(2e11, 2e10), filesystem_size_bytes: constant(1e12) }, 2 * DAY_MS),
      /free space is .* GiB and reaches/,
    ],
  ] as const) {
    const { probability, contributions, predictedFailureAtMs } = trends.assess(disk, NOW_MS);
    assert.ok(probability! > 0.1, `${what}: ${probability}`);
    assert.match(contributions[0].text, limit);
    assert.ok(predictedFailureAtMs! > NOW_MS, what);
  }
});

test('what devices declare is believed', () => {
  const cases: [Partial<Record<Metric, (x: number) => number>>, number, RegExp][] = [
    [{ smart_passed: constant(0) }, 0.85, /SMART overall status: failed/],
    [{ critical_warning: constant(4) }, 0.85, /reliability is degraded/],
    [{ critical_warning: constant(8) }, 0.9, /read-only/],
    [{ critical_warning: constant(1) }, 0.6, /spare blocks are below/],
    [{ failing_attributes: constant(2) }, 0.6, /2 SMART attributes at or below the vendor's threshold/],
    [{ filesystem_readonly: (x) => (x > 0.5 ? 1 : 0) }, 0.6, /turned read-only/],
    [{ media_errors: (x) => Math.round(20 * x) }, 0.4, /media errors rose from 0 to 20/],
  ];
  for (const [series, least, text] of cases) {
    const { probability, contributions } = reports.assess(history('sda', series, DAY_MS), NOW_MS);
    assert.ok(probability! > least, `${Object.keys(series)}: ${probability}`);
    assert.match(contributions.map((reason) => reason.text).join('; '), text);
  }
});

test('what devices always had is not news', () => {
  for (const series of [
    { smart_passed: constant(1) },
    { critical_warning: constant(0) },
    { filesystem_readonly: constant(1) },
    { media_errors: constant(500) },
    { failing_attributes: constant(0) },
  ]) {
    const { probability, noSignal } = reports.assess(history('sda', series, DAY_MS), NOW_MS);
    assert.ok(!noSignal && probability! < 0.001, JSON.stringify(Object.keys(series)));
  }
  assert.equal(reports.assess(history('sda', { smart_passed: constant(0) }, DAY_MS), NOW_MS + 4 * DAY_MS).noSignal, true);
  assert.equal(reports.assess(history('sda', { temperature_celsius: constant(40) }, DAY_MS), NOW_MS).noSignal, true);
});

test('a counter that climbs step by step within the hour counts more than the same rise in one step', () => {
  const climbing = reports.assess(history('sda', { reallocated_sectors: (x) => Math.round(400 * x) }, 10 * MINUTE_MS, 20), NOW_MS);
  assert.ok(climbing.probability! > 0.5, `${climbing.probability}`);
  assert.match(climbing.contributions[0].text, /climbing while watched: reallocated sectors rose from 0 to 400 in 10 minutes, in 20 steps/);
  const once = reports.assess(history('sda', { reallocated_sectors: (x) => (x < 1 ? 0 : 400) }, 10 * MINUTE_MS, 20), NOW_MS);
  assert.ok(once.probability! < 0.01);
});

test('a bad link is called one, and never passes for a dying node', () => {
  const link = new LinkHealth();
  const lossy = history(
    null,
    {
      link_segments_sent: (x) => Math.round(1e6 * x),
      link_retransmits: (x) => Math.round(1e5 * x),
      link_errors: (x) => Math.round(200 * x),
    },
    9 * MINUTE_MS,
  );
  const { probability, contributions } = link.assess(lossy, NOW_MS);
  assert.ok(probability! > 0.3 && probability! < 0.6, `${probability}`);
  assert.ok(contributions.every(({ text }) => text.startsWith('link: ')));
  assert.match(contributions[0].text, /link: 10 % of TCP segments sent again/);
  const slow = link.assess(history(null, { link_rtt_us: (x) => (x < 0.9 ? 300 : 20_000) }, 20 * MINUTE_MS), NOW_MS);
  assert.match(slow.contributions[0].text, /link: round-trip time 20 ms, was 0.3 ms/);
  const fine = link.assess(
    history(null, { link_segments_sent: (x) => Math.round(1e6 * x), link_retransmits: (x) => Math.round(2000 * x) }, 9 * MINUTE_MS),
    NOW_MS,
  );
  assert.ok(fine.probability! < 0.001);
  assert.equal(link.assess(history(null, { cpu_utilisation: constant(5) }, HOUR_MS), NOW_MS).noSignal, true);
});

test('a disk whose kernel counters show it ten times slower than before is found, across a reset of the counters', () => {
  const latency = new DiskLatency();
  let [reads, seconds] = [0, 0];
  const run = (scrapes: number, from: number, secondsEach: number): void => {
    for (let i = 0; i < scrapes; i++) {
      reads += 1500;
      seconds += 1500 * secondsEach;
      const atMs = NOW_MS + (from + i) * 15_000;
      for (const [metric, value] of [
        ['disk_reads', reads],
        ['disk_read_seconds', seconds],
        ['disk_writes', 0],
        ['disk_write_seconds', 0],
      ] as const) {
        latency.observe({ node: 'a', disk: 'sdb', metric, value, atMs });
      }
    }
  };
  run(60, 0, 0.005);
  assert.ok(latency.assess({ node: 'a', disk: 'sdb' }, NOW_MS + 60 * 15_000).probability! < 0.01);
  [reads, seconds] = [0, 0];
  run(12, 60, 0.05);
  const { probability, contributions } = latency.assess({ node: 'a', disk: 'sdb' }, NOW_MS + 72 * 15_000);
  assert.ok(probability! > 0.5, `${probability}`);
  assert.match(contributions[0].text, /sdb takes 50 ms a request, .* times usual/);
  assert.equal(latency.assess({ node: 'a', disk: 'sdc' }, NOW_MS).noSignal, true);
});

test('the reasons of every model add up to its log-odds', () => {
  const disk = history(
    'nvme0',
    {
      critical_warning: constant(5),
      smart_passed: constant(0),
      media_errors: (x) => Math.round(9 * x),
      percentage_used: (x) => Math.floor(85 + 10 * x),
    },
    20 * DAY_MS,
  );
  for (const assessment of [reports.assess(disk, NOW_MS), trends.assess(disk, NOW_MS)]) {
    const sum = assessment.contributions.reduce((total, { contribution }) => total + contribution, assessment.baseLogOdds);
    assert.ok(Math.abs(sum - logOdds(assessment.probability!)) < 1e-9);
  }
});

test.run();
