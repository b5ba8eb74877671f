// The exposition: names, helps and types by the rules of Prometheus' promtool, and the numbers that were put in.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { JOURNAL_STATES, MIRROR_STATES, type NodeView, PROTECTION_STATES, type VolumeView } from '../../gateway/control.js';
import { Exposition } from '../../gateway/metrics/exposition.js';
import { LatencyHistogram } from '../../gateway/metrics/histogram.js';
import type { IoMetrics, MetricsSource } from '../../gateway/metrics/source.js';

const test = suite('metrics/exposition');

interface ParsedFamily {
  help: string;
  type: string;
  samples: { name: string; labels: Record<string, string>; value: number }[];
}

/** A small strict reader of the text format: fails on what Prometheus would refuse. */
function parse(text: string): Map<string, ParsedFamily> {
  const families = new Map<string, ParsedFamily>();
  assert.ok(text.endsWith('\n'));
  let current = '';
  for (const line of text.split('\n').filter((part) => part !== '')) {
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (comment) {
      const [, kind, name, rest] = comment;
      const family = families.get(name) ?? { help: '', type: '', samples: [] };
      assert.equal(kind === 'HELP' ? family.help : family.type, '', `${name}: ${kind} twice`);
      assert.equal(family.samples.length, 0, `${name}: ${kind} after its values`);
      families.set(name, kind === 'HELP' ? { ...family, help: rest } : { ...family, type: rest });
      current = name;
      continue;
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$/.exec(line);
    assert.ok(sample, `no sample: ${line}`);
    const labels = Object.fromEntries(
      [...(sample[2] ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map((match) => [match[1], match[2]]),
    );
    const value = sample[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(sample[3]);
    assert.ok(!Number.isNaN(value), line);
    const family = families.get(current)!;
    assert.ok(
      sample[1] === current || (/^(histogram|summary)$/.test(family.type) && sample[1].startsWith(`${current}_`)),
      `${line} under ${current}`,
    );
    const key = JSON.stringify([sample[1], labels]);
    assert.ok(!family.samples.some((other) => JSON.stringify([other.name, other.labels]) === key), `twice: ${line}`);
    family.samples.push({ name: sample[1], labels, value });
  }
  return families;
}

function io(latencies: number[]): IoMetrics {
  const latency = new LatencyHistogram();
  for (const us of latencies) {
    latency.record(us);
  }
  return { requests: { read: 10, write: 20, flush: 3 }, bytes: { read: 40_960, write: 81_920 }, errors: 1, latency: latency.snapshot() };
}

const mirror = {
  node: 'b',
  export: 'm',
  state: 'synced' as const,
  reverse: false,
  copiedBytes: 100,
  dirtyBytes: 7,
  lagBytes: 5,
  lagSeconds: 0.5,
  copyBytesPerSecond: 0,
  etaSeconds: null,
  reason: null,
};
const volume: VolumeView = {
  name: 'a "quoted"\nname\\',
  size: 1_073_741_824,
  epoch: 2,
  state: 'synced',
  service: 'served',
  reason: null,
  priority: 1,
  policy: 'default',
  labels: {},
  active: { node: 'a', export: '' },
  mirrors: [mirror],
  journal: { state: 'ready', reason: null, usedBytes: 4096, sizeBytes: 8192, covers: ['b'] },
  clients: ['x', 'y'],
  lostBytes: 0,
  scrub: null,
  lastFlip: null,
};
const node: NodeView = {
  id: 'a',
  kind: 'plain',
  zone: '',
  site: '',
  state: 'up',
  reason: null,
  capacityBytes: 100,
  freeBytes: null,
  freeSpares: [],
  volumes: [],
  verdict: {
    id: '1',
    node: 'a',
    at: '',
    probability: 0.75,
    threshold: 0.5,
    firing: true,
    horizonSeconds: 1,
    reasons: [],
    origin: 'model',
    predictedFailureAt: null,
    policies: {},
  },
  io: { reads: 0, writes: 0, errors: 0, p50Us: null, p99Us: null },
};

function source(): MetricsSource {
  return {
    volumes: () => [
      {
        view: volume,
        host: { ...io([3, 100, 1_000, 20_000_000]), hedgedReads: 6 },
        flips: { flip: 2, failover: 0, rollback: 1 },
        resyncExtents: 3,
        flipPause: io([5_000]).latency,
        scrub: { finished: 4, comparedBytes: 9, mismatches: 2, repaired: 1, lastEndMs: 1_500 },
      },
    ],
    nodes: () => [
      { view: node, upstream: { ...io([1]), disconnects: 6 } },
      { view: { ...node, id: 'b', state: 'unknown', verdict: null }, upstream: { ...io([]), disconnects: 0 } },
    ],
    gateway: () => ({
      version: '1.2.3',
      ready: true,
      events: { info: 5, warning: 1, alert: 0, unwritten: 0 },
      nbd: { sessions: 2, accepted: 9, turnedAway: 0, handshakesFailed: 1, secured: 5, refused: 3, violations: 0 },
    }),
  };
}

async function scrape(): Promise<Map<string, ParsedFamily>> {
  const exposition = new Exposition(source());
  try {
    return parse(await exposition.render());
  } finally {
    exposition.stop();
  }
}

const families = await scrape();

test('every family has a help and a type, and follows the naming rules', () => {
  assert.ok(families.size > 40);
  for (const [name, { help, type, samples }] of families) {
    assert.match(help, /^[0-9A-Z].*\.$/, name);
    assert.match(type, /^(counter|gauge|histogram|summary)$/, name);
    assert.match(name, /^(forestall|process)_[a-z][a-z0-9_]*$/, name);
    assert.equal(type === 'counter', name.endsWith('_total'), `${name}: counters and only they end in _total`);
    assert.doesNotMatch(
      name,
      /_(ms|us|ns|milliseconds|microseconds|minutes|hours|days|kb|mb|gb|kib|mib|gib|kilobytes|megabytes|percent)(_|$)/,
      `${name}: base units only`,
    );
    assert.doesNotMatch(name, /_(bucket|sum|count)$/, `${name}: reserved`);
    assert.doesNotMatch(name, /_(gauge|counter|histogram|summary)(_|$)/, `${name}: no type in a name`);
    assert.doesNotMatch(name, /[A-Z]|__/, name);
    for (const { labels } of samples) {
      assert.ok(type === 'histogram' || !('le' in labels), name);
      assert.ok(type === 'summary' || !('quantile' in labels), name);
    }
    if (name.endsWith('_info')) {
      assert.ok(
        samples.every(({ value }) => value === 1),
        name,
      );
    }
    if (help.startsWith('Time') || help.startsWith('How long') || help.startsWith('How late')) {
      assert.match(name, /_seconds(_total)?$/, name);
    }
  }
});

test('histograms are cumulative, end at +Inf and agree with their count', () => {
  let seen = 0;
  for (const [name, { type, samples }] of families) {
    if (type !== 'histogram') {
      continue;
    }
    const rests = new Set(samples.map(({ labels: { le: _, ...rest } }) => JSON.stringify(rest)));
    for (const rest of rests) {
      const own = samples.filter(({ labels: { le: _, ...other } }) => JSON.stringify(other) === rest);
      const buckets = own.filter((sample) => sample.name === `${name}_bucket`);
      const bounds = buckets.map(({ labels }) => (labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le)));
      assert.deepEqual(
        bounds,
        [...bounds].sort((a, b) => a - b),
      );
      assert.equal(bounds.at(-1), Number.POSITIVE_INFINITY);
      for (let i = 1; i < buckets.length; i++) {
        assert.ok(buckets[i].value >= buckets[i - 1].value, name);
      }
      assert.equal(own.find((sample) => sample.name === `${name}_count`)!.value, buckets.at(-1)!.value, name);
      assert.equal(own.filter((sample) => sample.name === `${name}_sum`).length, 1, name);
      seen++;
    }
  }
  assert.ok(seen >= 4);
});

function value(family: string, labels: Record<string, string> = {}, name = family): number | undefined {
  const found = families
    .get(family)!
    .samples.filter((sample) => sample.name === name && Object.entries(labels).every(([key, wanted]) => sample.labels[key] === wanted));
  assert.ok(found.length <= 1, `${family}: ${found.length} values`);
  return found[0]?.value;
}

test('the numbers are those of the source', () => {
  assert.equal(value('forestall_host_requests_total', { op: 'write' }), 20);
  assert.equal(value('forestall_host_bytes_total', { op: 'read' }), 40_960);
  assert.equal(value('forestall_host_errors_total'), 1);
  assert.equal(value('forestall_host_hedged_reads_total'), 6);
  assert.equal(value('forestall_host_latency_seconds', { le: '0.000128' }, 'forestall_host_latency_seconds_bucket'), 2);
  assert.equal(value('forestall_host_latency_seconds', { le: '+Inf' }, 'forestall_host_latency_seconds_bucket'), 4);
  assert.equal(value('forestall_host_latency_seconds', {}, 'forestall_host_latency_seconds_sum'), 20.001103);
  assert.equal(value('forestall_volume_resync_extents'), 3);
  assert.equal(value('forestall_mirror_lag_bytes', { node: 'b' }), 5);
  assert.equal(value('forestall_journal_used_bytes'), 4096);
  assert.equal(value('forestall_journal_size_bytes'), 8192);
  assert.equal(value('forestall_flips_total', { kind: 'rollback' }), 1);
  assert.equal(value('forestall_scrub_last_end_timestamp_seconds'), 1.5);
  assert.equal(value('forestall_upstream_disconnects_total', { node: 'a' }), 6);
  assert.equal(value('forestall_node_failure_probability_ratio', { node: 'a' }), 0.75);
  assert.equal(value('forestall_events_total', { level: 'info' }), 5);
  assert.equal(value('forestall_build_info', { version: '1.2.3' }), 1);
  assert.ok(value('process_resident_memory_bytes')! > 1_000_000);
});

test('what is not known is absent, not zero', () => {
  assert.equal(value('forestall_node_up', { node: 'a' }), 1);
  assert.equal(value('forestall_node_up', { node: 'b' }), undefined);
  assert.equal(value('forestall_node_free_bytes', { node: 'a' }), undefined);
  assert.equal(value('forestall_node_failure_probability_ratio', { node: 'b' }), undefined);
});

test('states are one-hot over all states', () => {
  for (const [family, states, present] of [
    ['forestall_volume_protection_state', PROTECTION_STATES, 'synced'],
    ['forestall_mirror_state', MIRROR_STATES, 'synced'],
    ['forestall_journal_state', JOURNAL_STATES, 'ready'],
  ] as [string, readonly string[], string][]) {
    const { samples } = families.get(family)!;
    assert.deepEqual(samples.map(({ labels }) => labels.state).sort(), [...states].sort());
    assert.deepEqual(
      samples.filter((sample) => sample.value === 1).map(({ labels }) => labels.state),
      [present],
    );
  }
});

test('names that hold quotes, newlines and backslashes are escaped', () => {
  assert.equal(families.get('forestall_volume_epoch')!.samples[0].labels.volume, 'a \\"quoted\\"\\nname\\\\');
});

test('a second scrape renders anew, and scrapes at the same time share one', async () => {
  let asked = 0;
  const nodes = () => {
    asked++;
    return [];
  };
  const exposition = new Exposition({ ...source(), nodes });
  const [first, second] = await Promise.all([exposition.render(), exposition.render()]);
  assert.equal(first, second);
  assert.equal(asked, 1);
  await exposition.render();
  assert.equal(asked, 2);
  assert.match(exposition.contentType, /^text\/plain; version=0\.0\.4/);
  exposition.stop();
});

test.run();
