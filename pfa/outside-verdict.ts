// A verdict given from outside (an operator, another system): checked at the edge, remembered until it expires.
// Guarantees that what is accepted is a probability with a reason and an end. Pure.

export interface OutsideVerdict {
  probability: number;
  reason: string;
  /** When it was given, epoch milliseconds. */
  atMs: number;
  /** How long it holds. */
  ttlMs: number;
}

export type OutsideResult = { ok: true; verdict: OutsideVerdict } | { ok: false; message: string };

export const OUTSIDE_TTL_MS = 24 * 3_600_000;
const TTL_MS_MAX = 366 * 86_400_000;
const REASON_CHARS_MAX = 500;
const KEYS = ['probability', 'reason', 'ttlMs'];

/** The body of `POST /v1/nodes/{id}/verdicts`: `{probability, reason, ttlMs?}`. */
export function validateOutsideVerdict(input: unknown, nowMs: number, defaultTtlMs = OUTSIDE_TTL_MS): OutsideResult {
  if (typeof input !== 'object' || input === null || Array.isArray(input))
    return bad('the body is {"probability": 0 to 1, "reason": "why", "ttlMs"?: how long it holds}');
  const { probability, reason, ttlMs = defaultTtlMs } = input as Record<string, unknown>;
  const unknown = Object.keys(input).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) return bad(`unknown key "${unknown.slice(0, 40)}"; a verdict has ${KEYS.join(', ')}`);
  if (typeof probability !== 'number' || !(probability >= 0 && probability <= 1))
    return bad(`probability is a number from 0 to 1, not ${shown(probability)}`);
  if (typeof reason !== 'string' || reason.trim() === '') return bad('reason is a sentence that says why');
  if (reason.length > REASON_CHARS_MAX) return bad(`reason has ${reason.length} characters; at most ${REASON_CHARS_MAX}`);
  if (typeof ttlMs !== 'number' || !(ttlMs > 0 && ttlMs <= TTL_MS_MAX))
    return bad(`ttlMs is a number of milliseconds, above 0 and at most ${TTL_MS_MAX}`);
  return { ok: true, verdict: { probability, reason: reason.trim(), atMs: nowMs, ttlMs } };
}

export function expired(verdict: OutsideVerdict, nowMs: number): boolean {
  return nowMs - verdict.atMs >= verdict.ttlMs;
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 40);
}

function bad(message: string): OutsideResult {
  return { ok: false, message };
}
