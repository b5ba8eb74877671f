// What is kept of verdicts: the one in force over each node (`verdict/<node>`), with the outside one that was given, and
// a bounded history (`verdicts/<n>`). What cannot be read back is left out and said in the log.
import { z } from 'zod';
import type { Change, Log, Records } from '../../replication/world.js';
import type { Verdict } from '../control.js';
import type { OutsideVerdict } from './oracle.js';

const LATEST = 'verdict/';
const HISTORY = 'verdicts/';
const KEY_DIGITS = 12;

const byPolicy = {
  probability: z.number().min(0).max(1).nullable(),
  threshold: z.number(),
  firing: z.boolean(),
  horizonSeconds: z.number(),
};

const verdictSchema: z.ZodType<Verdict> = z.object({
  id: z.string(),
  node: z.string(),
  at: z.string(),
  ...byPolicy,
  reasons: z.array(z.object({ source: z.string(), contribution: z.number(), text: z.string() })),
  origin: z.enum(['model', 'outside']),
  predictedFailureAt: z.string().nullable(),
  policies: z.record(z.string(), z.object(byPolicy)),
});

const latestSchema = z.object({
  version: z.literal(1),
  verdict: verdictSchema,
  sinceMs: z.number(),
  outside: z.object({ probability: z.number().min(0).max(1), reason: z.string(), atMs: z.number() }).nullable(),
});

export interface InForce {
  verdict: Verdict;
  sinceMs: number;
  outside: OutsideVerdict | null;
}

export function readInForce(records: Records, log: Log): InForce[] {
  return read(records, log, LATEST, latestSchema).map(([, { verdict, sinceMs, outside }]) => ({ verdict, sinceMs, outside }));
}

/** Oldest first, with the number of each. */
export function readHistory(records: Records, log: Log): [number, Verdict][] {
  return read(records, log, HISTORY, verdictSchema).map(([key, verdict]) => [Number(key.slice(HISTORY.length)), verdict]);
}

function read<T>(records: Records, log: Log, prefix: string, schema: z.ZodType<T>): [string, T][] {
  const found: [string, T][] = [];
  for (const [key, value] of records.list(prefix)) {
    const parsed = schema.safeParse(value);
    if (parsed.success) found.push([key, parsed.data]);
    else log.error({ key, reason: parsed.error.issues[0]?.message }, 'a stored verdict cannot be read and is left out');
  }
  return found;
}

export function putInForce({ verdict, sinceMs, outside }: InForce): Change {
  return { put: LATEST + verdict.node, value: { version: 1, verdict, sinceMs, outside } };
}

export function historyKey(number: number): string {
  return HISTORY + String(number).padStart(KEY_DIGITS, '0');
}
