// The one table from a refusal's code to an HTTP status, and the error every route throws or answers with.
// A code that is not here is a refusal by the present state of things: 409.
import type { Outcome } from '../control.js';

export const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  'invalid-request': 400,
  'invalid-json': 400,
  'samples-invalid': 400,
  'size-unaligned': 400,
  'cross-site': 403,
  'route-not-found': 404,
  'volume-not-found': 404,
  'node-not-found': 404,
  'mirror-not-found': 404,
  'no-such-mirror': 404,
  'method-not-allowed': 405,
  'request-timeout': 408,
  'body-too-large': 413,
  'unsupported-media-type': 415,
  'config-invalid': 422,
  'header-too-large': 431,
  internal: 500,
  'agent-unreachable': 503,
  closing: 503,
  'node-down': 503,
  'node-unreachable': 503,
  'shutting-down': 503,
  'storage-error': 503,
  'store-unwritable': 503,
  'too-many-streams': 503,
  'volume-not-served': 503,
  'agent-timeout': 504,
};

export const REFUSED_STATUS = 409;

export function statusOf(code: string): number {
  return STATUS_BY_CODE[code] ?? REFUSED_STATUS;
}

export interface ErrorBody {
  code: string;
  message: string;
  details: Record<string, unknown>;
}

/** Ends a request with its code's status and `{code, message, details}`. */
export class ApiError extends Error {
  readonly body: ErrorBody;

  constructor(code: string, message: string, details: Record<string, unknown> = {}) {
    super(message);
    this.body = { code, message, details };
  }

  get status(): number {
    return statusOf(this.body.code);
  }
}

/** The value of an outcome; a refusal is thrown as the answer. */
export function granted<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) {
    throw new ApiError(outcome.code, outcome.message, outcome.details);
  }
  return outcome.value;
}
