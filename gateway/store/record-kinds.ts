// The kinds of records and how each looks (ARCHITECTURE.md, "What is on disk"). Where another part of the gateway reads a
// kind with care, that reader judges here too, so that the two never disagree. For `forestall store check`; pure.
import { z } from 'zod';
import { Predictor } from '../../pfa/predictor.js';
import type { Log, Records } from '../../replication/world.js';
import { readHistory, readInForce } from '../health/verdict-record.js';
import { readCondemned } from '../placement/condemned.js';
import { decodeRecord as decodeProtection } from '../protection/record.js';
import { readDamage } from '../volume/damage.js';
import { EXTENT_BYTES } from '../volume/granularity.js';
import { readLost } from '../volume/lost-ranges.js';
import { readScrub } from '../volume/scrub-record.js';
import { readVolume } from '../volume/volume-record.js';
import { checkFormat } from './store-format.js';

/** damage: something that counts is lost or wrong. warning: the gateway gets over it by itself, as the message says. */
export type Severity = 'damage' | 'warning';

export interface Flaw {
  severity: Severity;
  message: string;
}

interface Kind {
  name: string;
  prefix: string;
  /** The flaw of a record; `rest` is what its key has behind the prefix. */
  judge(rest: string, value: unknown, key: string): Flaw | null;
}

const target = z.object({ node: z.string().min(1), export: z.string() });
const whole = z.int().min(0);

const volumeSchema = z.object({
  sizeBytes: z.int().min(1),
  blockMinimum: z.int().min(1),
  epoch: whole,
  active: target,
  mirrors: z.array(z.object({ id: z.string().min(1), target, reverse: z.boolean(), synced: z.boolean(), cause: z.string() })),
  nextMirror: whole,
  lastFlip: z.object({ epoch: whole, from: target, to: target }).nullable(),
});
export type CheckedVolume = z.infer<typeof volumeSchema>;

const eventSchema = z.object({
  id: whole,
  at: z.string(),
  type: z.string(),
  level: z.enum(['info', 'warning', 'alert']),
  message: z.string(),
  volume: z.string().nullable(),
  node: z.string().nullable(),
});

const segmentSchema = z.object({ offset: whole, end: whole, data: z.instanceof(Uint8Array).nullable() });
const doubtSchema = z
  .object({ offset: whole, end: whole, segments: z.array(segmentSchema) })
  .refine(({ offset, end }) => offset < end, 'an empty range')
  .refine(
    ({ offset, end, segments }) =>
      segments.every(
        (each) => each.offset >= offset && each.end <= end && (each.data === null || each.data.length === each.end - each.offset),
      ),
    'bytes that do not fit their range',
  );
const replaySchema = z.array(z.tuple([whole, whole]).refine(([offset, end]) => offset < end, 'an empty range'));

const damage = (message: string): Flaw => ({ severity: 'damage', message });
const warning = (message: string): Flaw => ({ severity: 'warning', message });

function shaped(schema: z.ZodType, value: unknown): Flaw | null {
  const parsed = schema.safeParse(value);
  if (parsed.success) return null;
  const { path, message } = parsed.error.issues[0];
  return damage(`it has another shape than it should${path.length === 0 ? '' : ` at ${path.join('.')}`}: ${message}`);
}

/** What `read` says against this one record. */
function complaint(key: string, value: unknown, read: (records: Records, log: Log) => unknown): string | null {
  let told: string | null = null;
  const say = (fields: object, message: string) => {
    told ??= 'reason' in fields ? `${message}: ${String(fields.reason)}` : message;
  };
  const records: Records = {
    get: (asked) => (asked === key ? value : undefined),
    list: (prefix) => (key.startsWith(prefix) ? [[key, value]] : []),
    commit: () => Promise.reject(new Error('a check changes nothing')),
  };
  read(records, { debug: say, info: say, warn: say, error: say });
  return told;
}

const KINDS: readonly Kind[] = [
  {
    name: 'format',
    prefix: 'meta/',
    judge: (rest, value, key) => {
      if (rest !== 'format') return warning('nothing reads it');
      const known = checkFormat(key, value);
      return known.ok ? null : damage(known.message);
    },
  },
  {
    name: 'volume',
    prefix: 'volume/',
    judge: (rest, value, key) => {
      const refused = complaint(key, value, (records, { error }) => {
        const read = readVolume(records, rest);
        if (!read.ok) error({}, read.message);
      });
      return refused === null ? shaped(volumeSchema, value) : damage(refused);
    },
  },
  { name: 'ours', prefix: 'ours/', judge: (_rest, value) => shaped(z.object({ volume: z.string().min(1) }), value) },
  {
    name: 'mark',
    prefix: 'mark/',
    judge: (rest) =>
      /^[^/]+\/[0-9a-f]{8}$/.test(rest) ? null : damage('its key names no extent, so what it marked would not be copied again'),
  },
  {
    name: 'dirty',
    prefix: 'dirty/',
    judge: (rest, value) => {
      if (!/^[^/]+\/[^/]+\/[0-9a-f]{6}$/.test(rest)) return damage('its key names no segment, so what it marked would not be copied');
      const sound = value instanceof Uint8Array && value.length === 512;
      return sound ? null : warning('it is no bitmap of 4096 extents; all of them count as dirty and are copied again');
    },
  },
  {
    name: 'sum',
    prefix: 'sum/',
    judge: (rest, value) => {
      const sound = /^[^/]+\/[0-9a-f]{8}$/.test(rest) && value instanceof Uint8Array && value.length === 520;
      return sound ? null : warning('it does not hold the checksums of an extent; they count as unknown');
    },
  },
  {
    name: 'doubt',
    prefix: 'doubt/',
    judge: (rest, value) => {
      if (/^[^/]+\/[^/]+\/.*\/replay$/s.test(rest) || /^[^/]+\/[^/]+\/replay$/.test(rest)) return shaped(replaySchema, value);
      return /^[^/]+\/[^/]+\/.*\/[0-9a-f]{8}$/s.test(rest) ? shaped(doubtSchema, value) : damage('its key names no range');
    },
  },
  {
    name: 'damage',
    prefix: 'damage/',
    judge: (rest, value, key) => {
      const told = complaint(key, value, (records, { error }) => {
        const read = readDamage(records, rest);
        if (!read.ok) error({}, read.message);
      });
      return told === null ? null : warning(told);
    },
  },
  {
    name: 'lost',
    prefix: 'lost/',
    judge: (rest, value) => {
      const [, volume, extent] = /^([^/]+)\/([0-9a-f]{8})$/.exec(rest) ?? [];
      if (extent === undefined) return damage('its key names no extent, so what is lost there would be read as zeroes');
      const read = readLost(volume, value, Number.parseInt(extent, 16) * EXTENT_BYTES, EXTENT_BYTES);
      return read.ok ? null : damage(read.message);
    },
  },
  {
    name: 'scrub',
    prefix: 'scrub/',
    judge: (rest, value, key) => {
      let sound = true;
      complaint(key, value, (records) => {
        sound = readScrub(records, rest) !== 'unread';
      });
      return sound ? null : warning('it has another shape than it should: the scrub that it is of begins anew');
    },
  },
  {
    name: 'free',
    prefix: 'free/',
    judge: (_rest, value, key) => {
      const told = complaint(key, value, readCondemned);
      return told === null ? null : warning(`${told}; its space is not given back`);
    },
  },
  {
    name: 'protection',
    prefix: 'protection/',
    judge: (_rest, value) => {
      const read = decodeProtection(value);
      return read.ok ? null : damage(read.message);
    },
  },
  {
    name: 'event',
    prefix: 'event/',
    judge: (rest, value) => {
      const flaw = shaped(eventSchema, value);
      if (flaw !== null) return flaw;
      return Number(rest) === (value as { id: number }).id ? null : damage('its key is not its number');
    },
  },
  {
    name: 'verdict in force',
    prefix: 'verdict/',
    judge: (_rest, value, key) => {
      const told = complaint(key, value, readInForce);
      return told === null ? null : warning(told);
    },
  },
  {
    name: 'verdict',
    prefix: 'verdicts/',
    judge: (_rest, value, key) => {
      const told = complaint(key, value, readHistory);
      return told === null ? null : warning(told);
    },
  },
  {
    name: 'predictor',
    prefix: 'predictor/',
    judge: (rest, value) => {
      if (rest !== 'state') return warning('nothing reads it');
      const told = refusedByPredictor(value);
      return told === null ? null : warning(`${told}; the predictor learns anew`);
    },
  },
];

function refusedByPredictor(value: unknown): string | null {
  try {
    const restored = new Predictor({ horizonMs: 1 }).restore(typeof value === 'string' ? JSON.parse(value) : value);
    return restored.ok ? null : restored.message;
  } catch (error) {
    return `what the predictor knew cannot be read: ${(error as Error).message}`;
  }
}

export interface Judged {
  kind: string;
  /** The key behind the kind's prefix. */
  rest: string;
  flaw: Flaw | null;
}

export function judgeRecord(key: string, value: unknown): Judged {
  const kind = KINDS.find(({ prefix }) => key.startsWith(prefix));
  if (kind === undefined) {
    return { kind: 'unknown', rest: key, flaw: warning('this version knows no such record; another one, or another program, wrote it') };
  }
  const rest = key.slice(kind.prefix.length);
  return { kind: kind.name, rest, flaw: kind.judge(rest, value, key) };
}
