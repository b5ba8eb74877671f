// The gate for pushed samples: every name a metric goes by, and every kind of wrong sample with what it is told.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { decodeRaw, METRIC_NAMES } from '../../pfa/metric.js';
import { validateSample, validateSamples } from '../../pfa/sample.js';

const test = suite('pfa sample');
const NOW_MS = Date.parse('2026-03-01T12:00:00Z');

function taken(input: unknown) {
  const result = validateSample(input, 'a', NOW_MS);
  assert.ok(result.ok, result.ok ? '' : result.message);
  return result.sample;
}

test('a metric goes by its canonical name, its SMART number and its exporter names', () => {
  const expected = { node: 'a', disk: 'sda', metric: 'reallocated_sectors', value: 5, atMs: NOW_MS };
  for (const metric of ['reallocated_sectors', 'smart_5_raw']) assert.deepEqual(taken({ disk: 'sda', metric, value: 5 }), expected);
  const labels = { attribute_id: '5', attribute_value_type: 'raw' };
  assert.equal(taken({ disk: '/dev/sda', metric: 'smartctl_device_attribute', value: 5, labels }).metric, 'reallocated_sectors');
  assert.equal(taken({ metric: 'smartctl_device_temperature', value: 41 }).metric, 'temperature_celsius');
  assert.equal(taken({ metric: 'node_filesystem_avail_bytes', value: 1e12 }).metric, 'filesystem_avail_bytes');
});

test('the disk is a name without /dev/, or none', () => {
  assert.equal(taken({ disk: '/dev/nvme0', metric: 'media_errors', value: 0 }).disk, 'nvme0');
  assert.equal(taken({ metric: 'cpu_utilisation', value: 10 }).disk, null);
  assert.equal(taken({ disk: null, metric: 'cpu_utilisation', value: 10 }).disk, null);
});

test('the time is ISO 8601 or milliseconds, and now when it is missing', () => {
  const base = { metric: 'pending_sectors', value: 0 };
  assert.equal(taken(base).atMs, NOW_MS);
  assert.equal(taken({ ...base, at: '2026-02-28T00:00:00+01:00' }).atMs, Date.parse('2026-02-27T23:00:00Z'));
  assert.equal(taken({ ...base, at: NOW_MS - 5 }).atMs, NOW_MS - 5);
  assert.equal(taken({ ...base, at: NOW_MS + 5 * 60_000 }).atMs, NOW_MS + 5 * 60_000, 'five minutes ahead is a clock that is a little off');
});

test('packed raw values are unpacked, canonical ones are taken as they are', () => {
  assert.equal(taken({ metric: 'smart_188_raw', value: 4295032834 }).value, 2);
  assert.equal(taken({ metric: 'smart_194_raw', value: 81604378656 }).value, 32);
  assert.equal(taken({ metric: 'command_timeout', value: 70000 }).value, 70000);
  assert.equal(decodeRaw(5, 70000), 70000);
});

for (const [what, input, message] of [
  ['text instead of an object', 'x', /a sample is an object .* not string x/],
  ['a list', [], /not a list/],
  ['an unknown key', { metric: 'pending_sectors', value: 1, time: 5 }, /unknown key "time"; a sample has disk, metric, value, at/],
  [
    'an unknown metric',
    { metric: 'realocated_sectors', value: 1 },
    /unknown metric "realocated_sectors"; the nearest known are reallocated_sectors/,
  ],
  ['a metric of another shape', { metric: 'smart_5', value: 1 }, /nearest known are .*smart_5_raw/],
  ['a metric that is no text', { metric: 5, value: 1 }, /metric is a name/],
  ['an attribute without its id', { metric: 'smartctl_device_attribute', value: 1 }, /needs the label attribute_id/],
  [
    'a normalised attribute',
    { metric: 'smartctl_device_attribute', value: 1, labels: { attribute_id: '5', attribute_value_type: 'worst' } },
    /only raw values/,
  ],
  ['a value as text', { metric: 'pending_sectors', value: '5' }, /value of pending_sectors is a number, not string 5/],
  ['NaN', { metric: 'pending_sectors', value: Number.NaN }, /is NaN; it must be finite/],
  ['infinity', { metric: 'pending_sectors', value: Number.POSITIVE_INFINITY }, /must be finite/],
  ['a negative counter', { metric: 'reallocated_sectors', value: -1 }, /a counter is never negative/],
  ['a percentage above its scale', { metric: 'available_spare', value: 101 }, /between 0 and 100/],
  ['a flag that is neither', { metric: 'smart_passed', value: 2 }, /it is 0 or 1/],
  [
    'a time more than five minutes ahead',
    { metric: 'pending_sectors', value: 1, at: NOW_MS + 301_000 },
    /more than 5 minutes in the future/,
  ],
  ['a far future', { metric: 'pending_sectors', value: 1, at: 1e300 }, /in the future/],
  ['seconds', { metric: 'pending_sectors', value: 1, at: 1772366400 }, /looks like seconds/],
  ['a date in another form', { metric: 'pending_sectors', value: 1, at: '1 March 2026' }, /write ISO 8601/],
  ['a day that does not exist', { metric: 'pending_sectors', value: 1, at: '2026-13-01' }, /no time/],
  ['an empty disk', { disk: ' ', metric: 'pending_sectors', value: 1 }, /disk is a name/],
  ['a disk of a thousand letters', { disk: 'x'.repeat(1000), metric: 'pending_sectors', value: 1 }, /1 to 128 characters/],
  ['labels that are no text', { metric: 'pending_sectors', value: 1, labels: { a: 5 } }, /label "a" is a string/],
] as const) {
  test(`${what} is refused and told why`, () => {
    const result = validateSample(input, 'a', NOW_MS);
    assert.ok(!result.ok);
    assert.match(result.message, message);
  });
}

test('a push is taken as a whole, in order of time, or refused with the index of the wrong one', () => {
  const push = (samples: unknown) => validateSamples({ samples }, 'a', NOW_MS);
  const good = push([
    { metric: 'pending_sectors', value: 2, at: NOW_MS - 1 },
    { metric: 'pending_sectors', value: 1, at: NOW_MS - 2 },
  ]);
  assert.ok(good.ok);
  assert.deepEqual(
    good.samples.map(({ value }) => value),
    [1, 2],
  );
  const bad = push([{ metric: 'pending_sectors', value: 2 }, { metric: 'pending_sectors' }]);
  assert.ok(!bad.ok && bad.index === 1 && /^samples\[1\]: value of pending_sectors is a number, not missing/.test(bad.message));
  assert.equal(validateSamples([], 'a', NOW_MS).ok, false);
  assert.equal(push(new Array(10_001).fill({})).ok, false);
});

test('nothing pushed throws, and what passes is finite and known', () => {
  const entry = fc.oneof(
    fc.anything(),
    fc.record(
      { metric: fc.constantFrom(...METRIC_NAMES, 'smart_9_raw'), value: fc.double(), at: fc.anything(), disk: fc.anything() },
      { requiredKeys: ['metric', 'value'] },
    ),
  );
  fc.assert(
    fc.property(entry, (input) => {
      const result = validateSample(input, 'a', NOW_MS);
      assert.ok(!result.ok || (Number.isFinite(result.sample.value) && result.sample.atMs <= NOW_MS + 300_000));
    }),
    { numRuns: 1000 },
  );
});

test.run();
