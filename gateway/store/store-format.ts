// What the files of the store are called, which version of their contents this program knows, and the refusals of a store
// that cannot be opened: each one sentence with what is wrong, and the way out. docs/store.md goes through them.
import { type Outcome, refuse } from '../control.js';

export const RECORDS_NAME = 'records.mdb';
/** Records that are being made. */
export const FRESH_NAME = 'records-new.mdb';
/** Stands beside the records once they were made: with it and without them, they were lost, not never made. */
export const MARK_NAME = 'FORMAT';
export const FORMAT_KEY = 'meta/format';
/** Version of the keys and values all parts of the gateway keep in the records. */
export const FORMAT_VERSION = 1;
export const FORMAT_RECORD = { put: FORMAT_KEY, value: { product: 'forestall', version: FORMAT_VERSION } };
/** The oldest version that is read. */
const FORMAT_OLDEST = 1;

const WAY_OUT =
  '"forestall store check" names all of it, docs/store.md says what to do; a backup made since the last flip can be restored.';

export function damagedStore(path: string, reason: string): Outcome<never> {
  return refuse('store-damaged', `The records in ${path} are damaged: ${reason}. ${WAY_OUT}`, { path });
}

export function unusableStore(path: string, reason: string): Outcome<never> {
  return refuse('store-unusable', `The records in ${path} cannot be opened: ${reason}`, { path });
}

export function lostStore(path: string, evidence: string): Outcome<never> {
  return refuse(
    'store-missing',
    `The records are missing: ${path} does not exist, but ${evidence} beside it says that they were made. Restore them from a backup. If there is none: what the configuration names may be an old copy by now, docs/store.md says how to find the newest and begin anew.`,
    { path },
  );
}

/** Judges the value of `meta/format`; undefined: there is none. Codes: `store-damaged`, `store-newer`, `store-older`. */
export function checkFormat(path: string, format: unknown): Outcome<number> {
  const { product, version } = (format ?? {}) as { product?: unknown; version?: unknown };
  if (product !== 'forestall' || typeof version !== 'number' || !Number.isSafeInteger(version)) {
    return damagedStore(path, 'they have no format record');
  }
  if (version > FORMAT_VERSION) {
    return refuse(
      'store-newer',
      `The records in ${path} have format ${version}; this Forestall knows formats up to ${FORMAT_VERSION}. Run the version that wrote them, or a later one.`,
      { path, version },
    );
  }
  if (version < FORMAT_OLDEST) {
    return refuse(
      'store-older',
      `The records in ${path} have format ${version}; this Forestall reads formats from ${FORMAT_OLDEST} on. Run a version between the two first, which brings them up to date.`,
      { path, version },
    );
  }
  return { ok: true, value: version };
}
