// Sizes and durations as people write them in the configuration and on the command line, and back again for what
// people read. Parsing is exact: what is no whole number of bytes or milliseconds is refused, never rounded.

export type Parsed<T> = { ok: true; value: T } | { ok: false; problem: string };

const sizeUnits: Record<string, number> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};
const binaryUnits = ['TiB', 'GiB', 'MiB', 'KiB'];
const durationUnits: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Units people mean when they write something near them; every key is lower case. */
const sizeMeant: Record<string, string> = { k: 'KiB', m: 'MiB', g: 'GiB', t: 'TiB', bytes: 'B', byte: 'B' };
const durationMeant: Record<string, string> = {
  msec: 'ms',
  sec: 's',
  secs: 's',
  second: 's',
  seconds: 's',
  min: 'm',
  mins: 'm',
  minute: 'm',
  minutes: 'm',
  hour: 'h',
  hours: 'h',
  day: 'd',
  days: 'd',
};

const quantity = /^(\d+(?:\.\d+)?)(.*)$/;

/** The unit that `written` most likely stands for, or undefined. */
function meant(written: string, units: Record<string, number>, synonyms: Record<string, string>): string | undefined {
  const word = written
    .trim()
    .toLowerCase()
    .replace(/\/s(ec)?$|ps$/, '');
  return Object.keys(units).find((unit) => unit.toLowerCase() === word) ?? synonyms[word];
}

/** The number times its unit, exactly; undefined when that is not whole. `digits` is a plain decimal. */
function exactProduct(digits: string, factor: number): number | undefined {
  const [whole, fraction = ''] = digits.split('.');
  const scale = 10n ** BigInt(fraction.length);
  const product = BigInt(whole + fraction) * BigInt(factor);
  return product % scale === 0n && product / scale <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(product / scale) : undefined;
}

/** Bytes of `512`, `500MiB`, `1GiB`, `1.5TiB`, `10GB` (decimal). A bandwidth is written the same and means bytes per second. */
export function parseSize(text: string): Parsed<number> {
  const [, digits, unit] = quantity.exec(text) ?? [];
  if (digits === undefined) return { ok: false, problem: `"${text}" is no size: write a number and a unit, such as 1GiB or 500MiB` };
  const factor = unit === '' ? 1 : Object.hasOwn(sizeUnits, unit) ? sizeUnits[unit] : undefined;
  if (factor === undefined) {
    const unitMeant = meant(unit, sizeUnits, sizeMeant);
    if (unitMeant !== undefined) {
      const perSecond = unit.includes('/') || /ps$/i.test(unit) ? ' (a bandwidth is per second already)' : '';
      return { ok: false, problem: `"${text}" is no size: write ${digits}${unitMeant}${perSecond}` };
    }
    return { ok: false, problem: `"${text}" has an unknown unit "${unit}": write one of ${Object.keys(sizeUnits).join(', ')}` };
  }
  const value = exactProduct(digits, factor);
  if (value !== undefined) return { ok: true, value };
  return { ok: false, problem: `"${text}" is not a whole number of bytes below 8PiB: write it in a smaller unit` };
}

/** Milliseconds of `250ms`, `15s`, `5m`, `24h`, `30d`, `1.5h`, `0s`. The unit is never left out. */
export function parseDuration(text: string): Parsed<number> {
  const [, digits, unit] = quantity.exec(text) ?? [];
  if (digits === undefined) return { ok: false, problem: `"${text}" is no duration: write a number and a unit, such as 250ms, 15s or 24h` };
  if (unit === '') return { ok: false, problem: `${text} has no unit: write ${text}s, or one of ms, m, h, d instead of s` };
  if (!Object.hasOwn(durationUnits, unit)) {
    const unitMeant = meant(unit, durationUnits, durationMeant);
    if (unitMeant !== undefined) return { ok: false, problem: `"${text}" is no duration: write ${digits}${unitMeant}` };
    return { ok: false, problem: `"${text}" is no duration: write one number with one of ms, s, m, h, d, such as 90m` };
  }
  const value = exactProduct(digits, durationUnits[unit]);
  if (value !== undefined) return { ok: true, value };
  return { ok: false, problem: `"${text}" is not a whole number of milliseconds: write it in a smaller unit` };
}

/** At most two decimals, without trailing zeros. */
function short(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** Bytes for people: `1GiB`, `1.5MiB`, `512B`; rounded to two decimals of the unit. */
export function formatBytes(bytes: number): string {
  const unit = binaryUnits.find((name) => Math.abs(bytes) >= sizeUnits[name]) ?? 'B';
  return `${short(bytes / sizeUnits[unit])}${unit}`;
}

/** Milliseconds for people, in at most two units: `0.42ms`, `250ms`, `1.5s`, `2m 5s`, `24h`, `2d 3h`, `30d`. */
export function formatDuration(durationMs: number): string {
  if (durationMs === 0) return '0s';
  if (durationMs < 0) return `-${formatDuration(-durationMs)}`;
  if (durationMs < 1000) return `${short(durationMs)}ms`;
  if (durationMs < 60_000) return `${short(durationMs / 1000)}s`;
  const seconds = Math.round(durationMs / 1000);
  const steps: [number, string, number, string][] = [
    [3600, 'm', 60, 's'],
    [2 * 86_400, 'h', 60, 'm'],
    [Number.POSITIVE_INFINITY, 'd', 24, 'h'],
  ];
  const [, large, ratio, small] = steps.find(([below]) => seconds < below) as [number, string, number, string];
  const inSmall = Math.round(seconds / (durationUnits[small] / 1000));
  const rest = inSmall % ratio;
  return `${Math.floor(inSmall / ratio)}${large}${rest === 0 ? '' : ` ${rest}${small}`}`;
}
