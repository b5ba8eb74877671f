// Sizes and durations: what people write comes out exact or is refused with what would be right, and what is formatted
// for people can be read back.
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { plural } from '../../config/plural.js';
import { formatBytes, formatDuration, type Parsed, parseDuration, parseSize } from '../../config/units.js';

const sizes: Record<string, number> = {
  '': 1,
  B: 1,
  KiB: 1024,
  MiB: 1_048_576,
  GiB: 1_073_741_824,
  TiB: 1_099_511_627_776,
  KB: 1000,
  MB: 1_000_000,
  GB: 1_000_000_000,
  TB: 1_000_000_000_000,
};
const durations: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function read(parsed: Parsed<number>): number {
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return (parsed as { value: number }).value;
}

const units = suite('units');

for (const [what, parse, table] of [
  ['size', parseSize, sizes],
  ['duration', parseDuration, durations],
] as const) {
  units(`a whole number of any unit is read as that many (${what})`, () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(table)), fc.nat(5000), (unit, count) => {
        assert.is(read(parse(`${count}${unit}`)), count * table[unit]);
      }),
    );
  });

  units(`a decimal is read exactly or refused, never rounded (${what})`, () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(table)), fc.nat(5000), fc.nat(999), (unit, whole, thousandths) => {
        if (unit === '') return;
        const parsed = parse(`${whole}.${String(thousandths).padStart(3, '0')}${unit}`);
        const thousandfold = BigInt(whole * 1000 + thousandths) * BigInt(table[unit]);
        if (thousandfold % 1000n === 0n) assert.is(read(parsed), Number(thousandfold / 1000n));
        else assert.is(parsed.ok, false);
      }),
    );
  });

  units(`no text makes the parser throw or answer with anything but a whole number that is not negative (${what})`, () => {
    const near = fc.stringMatching(/^[0-9.]{0,20} ?(KiB|[a-zA-Z/]{0,6})$/);
    fc.assert(
      fc.property(fc.oneof(near, fc.string()), (written) => {
        const parsed = parse(written);
        if (parsed.ok) assert.ok(Number.isSafeInteger(parsed.value) && parsed.value >= 0);
        else assert.ok(parsed.problem.length > 0);
      }),
    );
  });
}

units('a size formatted for people reads back within a hundredth of its unit, and whole units exactly', () => {
  fc.assert(
    fc.property(fc.constantFrom('B', 'KiB', 'MiB', 'GiB', 'TiB'), fc.integer({ min: 1, max: 1023 }), (unit, count) => {
      assert.is(formatBytes(count * sizes[unit]), `${count}${unit}`);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 50 }), (bytes) => {
      const [, number, unit] = /^([\d.]+)(\w+)$/.exec(formatBytes(bytes)) as unknown as [string, string, string];
      assert.ok(Math.abs(Number(number) * sizes[unit] - bytes) <= sizes[unit] * 0.0051);
    }),
  );
});

units('a duration formatted for people adds up to what it was, to its smaller unit', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 400 * durations.d }), (durationMs) => {
      const parts = formatDuration(durationMs).split(' ');
      assert.ok(parts.length <= 2);
      const smallest = durations[(/[a-z]+$/.exec(parts.at(-1) as string) as RegExpExecArray)[0]];
      const sum = parts.reduce((total, part) => {
        const [, number, unit] = /^([\d.]+)([a-z]+)$/.exec(part) as unknown as [string, string, string];
        return total + Number(number) * durations[unit];
      }, 0);
      // A left-out smaller unit is the next one down.
      const below = parts.length === 1 && durationMs >= 60_000 ? smallest / 24 : smallest;
      assert.ok(Math.abs(sum - durationMs) <= Math.max(below, 10), `${durationMs} as ${parts.join(' ')}`);
    }),
  );
});

units('the forms people read are these', () => {
  const expected: [string, string][] = [
    [formatDuration(0), '0s'],
    [formatDuration(0.4217), '0.42ms'],
    [formatDuration(250), '250ms'],
    [formatDuration(1500), '1.5s'],
    [formatDuration(125_000), '2m 5s'],
    [formatDuration(86_400_000), '24h'],
    [formatDuration(2 * 86_400_000 + 3 * 3_600_000), '2d 3h'],
    [formatDuration(-5000), '-5s'],
    [formatBytes(0), '0B'],
    [formatBytes(1536), '1.5KiB'],
    [formatBytes(-1536), '-1.5KiB'],
  ];
  for (const [actual, right] of expected) assert.is(actual, right);
});

units('what is nearly a unit is told what it was meant to be', () => {
  const expected: [Parsed<number>, string][] = [
    [parseSize('1G'), '"1G" is no size: write 1GiB'],
    [parseSize('1 gib'), '"1 gib" is no size: write 1GiB'],
    [parseSize('100MiB/s'), '"100MiB/s" is no size: write 100MiB (a bandwidth is per second already)'],
    [parseDuration('15'), '15 has no unit: write 15s, or one of ms, m, h, d instead of s'],
    [parseDuration('15 sec'), '"15 sec" is no duration: write 15s'],
    [parseDuration('1h30m'), '"1h30m" is no duration: write one number with one of ms, s, m, h, d, such as 90m'],
  ];
  for (const [actual, problem] of expected) assert.equal(actual, { ok: false, problem });
});

units('a size beyond what a number holds exactly is refused', () => {
  assert.is(parseSize('8191TiB').ok, true);
  assert.is(parseSize('8192TiB').ok, false);
  assert.is(parseSize(`${'9'.repeat(400)}TiB`).ok, false);
});

units('counts are said as people say them', () => {
  assert.equal(
    [plural(0, 'node'), plural(1, 'node'), plural(2, 'node'), plural(1, 'copy', 'copies'), plural(3, 'copy', 'copies')],
    ['0 nodes', '1 node', '2 nodes', '1 copy', '3 copies'],
  );
});

units.run();
