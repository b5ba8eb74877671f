// Mutations of the rules about copies: intent log, copier, marks, order of writes, queue, zeroes, failed writes (1 to 7).
import type { Edit, Mutation } from './mutations.js';

const INTENT_LOG = 'replication/intent-log.ts';
const COPIER = 'replication/copier.ts';
const MIRROR = 'replication/mirror.ts';
const QUEUE = 'replication/replication-queue.ts';
const RANGE_LOCK = 'replication/range-lock.ts';
const IO_PATH = 'gateway/volume/io-path.ts';
const SWEEPER = 'gateway/volume/mark-sweeper.ts';
const MIRRORING = 'gateway/volume/mirroring.ts';

/** What the queue has no room for is taken all the same: the second guard of its bound. */
const OVERFULL_TAKEN: Edit = {
  file: MIRROR,
  find: 'const unexpected = overfull && !this.#fallsBack && !this.queue.hostEmpty;',
  replace: 'const unexpected = false;',
};

export const COPY_MUTATIONS: readonly Mutation[] = [
  {
    name: '1-mark-counts-before-it-is-durable',
    breaks: 'after a crash of the gateway a write is on one copy only, and nobody knows',
    edits: [
      {
        file: INTENT_LOG,
        find: 'if (!this.#mayWrite(extent)) return false;\n    this.#touches += 1;',
        replace: 'if (this.#states[extent] === STATE.CLEAN) return false;\n    this.#touches += 1;',
      },
    ],
    caughtBy: { lulls: 0.04, weights: { 'gateway-crash': 1 } },
  },
  {
    name: '1-mark-not-awaited',
    breaks: 'after a crash of the gateway a write is on one copy only, and nobody knows',
    edits: [
      {
        file: INTENT_LOG,
        find: 'await this.#options.records.commit(batch);\n      } catch (error) {\n        // Rule 21',
        replace: 'void this.#options.records.commit(batch).catch(() => {});\n      } catch (error) {\n        // Rule 21',
      },
    ],
    caughtBy: { lulls: 0.04, weights: { 'gateway-crash': 1 } },
  },
  {
    name: '2-copy-locks-one-byte',
    breaks: 'a copy puts old bytes over a write that came while it read',
    edits: [
      {
        file: COPIER,
        find: 'let entry = await hold(lock, run.offset, run.length)',
        replace: 'let entry = await hold(lock, run.offset, 1)',
      },
    ],
    caughtBy: { weights: { 'add-mirror': 2, slow: 1, 'remove-mirror': 1, reconnect: 1 } },
  },
  {
    name: '2-copy-of-what-is-left-of-a-failed-write',
    breaks: 'a mirror has of a write that failed what the source lost with its power, and nobody knows',
    edits: [{ file: COPIER, find: 'while (this.#flushedFailures < this.#failures)', replace: 'while (this.#failures < 0)' }],
    caughtBy: { test: 'test/unit/volume-returns.test.ts' },
  },
  {
    name: '2-late-read-counts-though-written-since',
    breaks: 'a copy puts what a slow source read long ago over a write that came since',
    edits: [{ file: COPIER, find: 'watch.touched ? undefined : found', replace: 'found' }],
    caughtBy: { test: 'test/unit/replication-rot.test.ts' },
  },
  {
    name: '2-dirty-bit-cleared-after-the-copy',
    breaks: 'what became dirty while a region was copied is forgotten',
    edits: [
      { file: COPIER, find: 'dirty.clearRange(run.offset, run.length);', replace: '' },
      { file: COPIER, find: 'await applied;', replace: 'await applied;\n    dirty.clearRange(run.offset, run.length);' },
    ],
    caughtBy: { weights: { eio: 2, 'add-mirror': 1, slow: 1, 'remove-mirror': 1 } },
  },
  {
    name: '2-copy-of-what-the-source-may-lose',
    breaks: 'a mirror has writes that the source lost with its power, and nobody knows',
    edits: [{ file: MIRRORING, find: 'errno = await perform(copies.source, new PromisedRequest(OP.FLUSH, 0, 0));', replace: 'errno = 0;' }],
    caughtBy: { test: 'test/unit/volume-mirroring.test.ts' },
  },
  {
    name: '3-mark-goes-when-one-copy-has-flushed',
    breaks: 'a mirror that loses its power lacks writes, and a restarted gateway does not know',
    edits: [
      {
        file: SWEEPER,
        find: 'const flushes = present.map((copy)',
        replace: 'const flushes = present.slice(0, 1).map((copy)',
      },
    ],
    caughtBy: { lulls: 0.04, weights: { 'power-loss': 1, 'gateway-crash': 1 } },
  },
  {
    name: '3-mark-goes-under-a-write',
    breaks: 'a write that came while marks were swept is on one copy only after a crash',
    edits: [
      { file: INTENT_LOG, find: '=== STATE.MARKED && this.#touched[extent] <= touch);', replace: '=== STATE.MARKED);' },
      { file: INTENT_LOG, find: '=== STATE.MARKED && this.#touched[extent] <= touch) cold', replace: '=== STATE.MARKED) cold' },
      { file: SWEEPER, find: '!lock.overlaps(extent * extentBytes, extentBytes) &&', replace: '' },
    ],
    caughtBy: { test: 'test/unit/volume-mark-sweeper.test.ts' },
  },
  {
    name: '4-writes-overtake-each-other',
    breaks: 'copies apply overlapping writes in different orders; a resend undoes a later write',
    edits: [
      {
        file: RANGE_LOCK,
        find: 'if (other.lockOffset < entry.lockEnd && other.lockEnd > entry.lockOffset) overlaps += 1;',
        replace: 'if (other.lockOffset <= entry.lockOffset && other.lockEnd > entry.lockOffset) overlaps += 1;',
      },
    ],
    caughtBy: {},
  },
  {
    name: '4-queue-out-of-order',
    breaks: 'a mirror applies overlapping writes in the wrong order',
    edits: [
      {
        file: QUEUE,
        find: 'if (this.#lock.acquire(entry, entry.offset, entry.length)) this.grant(entry);',
        replace: 'if (this.#lock.acquire(entry, entry.offset, 1)) this.grant(entry);',
      },
    ],
    caughtBy: { weights: { 'add-mirror': 2, slow: 1 } },
  },
  {
    name: '5-queue-without-bound',
    breaks: 'memory grows with a slow mirror, and its copy never gets equal',
    edits: [
      {
        file: MIRROR,
        find: 'return usedBytes > 0 && usedBytes + costBytes > Math.min(this.#queueLimit, this.#options.settings().queueBytesMax);',
        replace: 'return false;',
      },
      OVERFULL_TAKEN,
    ],
    caughtBy: { weights: { slow: 4, 'add-mirror': 1 } },
  },
  {
    name: '5-room-not-reserved',
    breaks: 'all writes in flight may go over the bound of the queue at once',
    edits: [
      { file: MIRROR, find: 'const usedBytes = this.queue.hostBytes + admittedBytes;', replace: 'const usedBytes = this.queue.hostBytes;' },
      OVERFULL_TAKEN,
    ],
    caughtBy: { weights: { slow: 4, 'add-mirror': 1 } },
  },
  {
    name: '5-fall-back-forgets-the-queue',
    breaks: 'writes that waited for a lost mirror never reach it',
    edits: [
      {
        file: MIRROR,
        find: 'for (const range of this.queue.ranges()) this.dirty.setRange(range.offset, range.length);',
        replace: '',
      },
    ],
    caughtBy: { weights: { hang: 1, stall: 1, 'power-loss': 1, flip: 2, failover: 1 } },
  },
  {
    name: '6-zeroes-skipped-onto-anything',
    breaks: 'old data shows through where a host wrote zeroes',
    edits: [
      { file: COPIER, find: 'blank === null || !blank.allIn(offset, length)', replace: 'blank !== null && !blank.allIn(offset, length)' },
    ],
    caughtBy: { weights: { 'gateway-crash': 2, 'power-loss': 1, flip: 1, 'remove-mirror': 1, 'add-mirror': 1 } },
  },
  {
    name: '6-written-hole-still-counts-as-hole',
    breaks: 'what a host wrote into a hole while it was copied is zero on the mirror',
    edits: [{ file: COPIER, find: 'this.#zeroes.forget(offset, length);', replace: '' }],
    caughtBy: { weights: { 'add-mirror': 2, 'remove-mirror': 1, slow: 1 } },
  },
  {
    name: '7-failed-write-not-dirty',
    breaks: 'a write that failed half way leaves the copies different, and nobody knows',
    edits: [{ file: IO_PATH, find: 'for (const mirror of this.#mirrors) mirror.doubt(op.offset, op.length);', replace: '' }],
    caughtBy: { weights: { eio: 4, 'add-mirror': 1, slow: 1 } },
  },
  {
    name: '7-refused-by-mirror-not-dirty',
    breaks: 'a write that the mirror refused is missing there, and nobody knows',
    edits: [
      {
        file: MIRROR,
        find: 'this.dirty.setRange(offset, length);\n    this.#refusals += 1;',
        replace: 'this.#refusals += 1;',
      },
    ],
    caughtBy: { weights: { eio: 4, 'add-mirror': 1 } },
  },
  {
    name: '7-error-passed-on-despite-a-mirror',
    breaks: 'hosts get errors that a complete mirror could have spared them',
    edits: [
      { file: IO_PATH, find: 'if (failure && this.#events.activeFailed(op, errno)) {', replace: 'if (failure && this.#suspended) {' },
    ],
    caughtBy: { weights: { eio: 5, 'add-mirror': 1 } },
  },
];
