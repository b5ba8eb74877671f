// Protection's durable record of a volume (key `protection/<volume>`): its situation less what only holds while the
// process runs. `decodeRecord` takes nothing on trust: a record it does not know is refused with the reason.
import { z } from 'zod';
import { MIRROR_STATES, type Outcome, PROTECTION_STATES, refuse } from '../control.js';
import type { Situation } from './situation.js';

/** Version of the record below. */
const RECORD_VERSION = 1;

const target = z.object({ node: z.string(), export: z.string() });
const origin = z.enum(['standing', 'prediction', 'operator']);

const copy = z.object({
  target,
  origin,
  state: z.enum([...MIRROR_STATES, 'starting']),
  sinceMs: z.number(),
  reason: z.string().nullable(),
  dropping: z.boolean(),
});

const home = z.object({
  target,
  sinceMs: z.number(),
  observeUntilMs: z.number().nullable(),
  byVerdict: z.boolean(),
  failed: z.boolean(),
  told: z.object({ failed: z.boolean(), lingering: z.boolean() }),
});

const schema = z.object({
  version: z.literal(RECORD_VERSION),
  state: z.enum(PROTECTION_STATES),
  sinceMs: z.number(),
  cause: z.string(),
  active: target,
  epoch: z.number().int().nonnegative(),
  pardons: z.record(z.string(), z.object({ atMs: z.number(), probability: z.number() })),
  copies: z.array(copy),
  /** A flip that was ordered and whose outcome is not known. */
  flip: z.object({ to: target, kind: z.enum(['flip', 'rollback']), by: z.enum(['policy', 'operator']) }).nullable(),
  home: home.nullable(),
  rollback: z
    .object({ by: z.enum(['policy', 'operator']), phase: z.enum(['flip', 'mark', 'drop']), away: target.nullable(), reason: z.string() })
    .nullable(),
  scrub: z.enum(['none', 'clean', 'damaged']),
  scrubbedAtMs: z.number().nullable(),
});

export type ProtectionRecord = z.infer<typeof schema>;

export function recordKey(volume: string): string {
  return `protection/${volume}`;
}

export function encodeRecord(s: Situation): ProtectionRecord {
  return {
    version: RECORD_VERSION,
    state: s.state,
    sinceMs: s.sinceMs,
    cause: s.cause,
    active: s.active,
    epoch: s.epoch,
    pardons: s.pardons,
    copies: s.copies.map(({ drop, ...rest }) => ({ ...rest, dropping: drop !== null })),
    flip: s.flip && { to: s.flip.to, kind: s.flip.kind, by: s.flip.by },
    home: s.home,
    rollback: s.rollback && { by: s.rollback.by, phase: s.rollback.phase, away: s.rollback.away, reason: s.rollback.reason },
    scrub: s.scrub === 'running' ? 'none' : s.scrub,
    scrubbedAtMs: s.scrubbedAtMs,
  };
}

export function decodeRecord(value: unknown): Outcome<ProtectionRecord> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, value: parsed.data };
  const issue = parsed.error.issues[0];
  return refuse('record-unknown', `the record is not one of version ${RECORD_VERSION}: ${issue.path.join('.')}: ${issue.message}`);
}
