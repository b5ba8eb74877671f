// Mutations of the rules about durability and requests of unknown outcome: flush, replay, journal, zombies, cookies (8 to 10, 13, 15).
import type { Mutation } from './mutations.js';

const UPSTREAM = 'gateway/upstream/upstream.ts';
const CONNECTIONS = 'gateway/upstream/connections.ts';
const FLUSHER = 'gateway/upstream/flusher.ts';
const SENDER = 'gateway/upstream/job-sender.ts';
const LOSSES = 'gateway/upstream/losses.ts';
const REPLAY = 'gateway/upstream/replay.ts';
const GUARDS = 'gateway/upstream/guards.ts';
const SETTLER = 'gateway/upstream/guard-settler.ts';
const DOUBTS = 'gateway/upstream/doubt-records.ts';
const LINK = 'gateway/upstream/link.ts';
const VOLUME = 'gateway/volume/volume.ts';

export const DURABILITY_MUTATIONS: readonly Mutation[] = [
  {
    name: '8-flush-on-one-connection',
    breaks: 'a flush is answered while what other connections wrote is in a volatile cache',
    edits: [
      { file: CONNECTIONS, find: 'if (this.#features.multiConn) for (let more', replace: 'for (let more' },
      {
        file: FLUSHER,
        find: 'const dirty = this.#connections.standing.filter((link) => link.lastWrite >= this.#unflushed.first);',
        replace: 'const dirty = this.#connections.standing.slice(0, 1);',
      },
    ],
    caughtBy: { weights: { 'power-loss': 2, 'gateway-crash': 1 } },
  },
  {
    name: '8-flush-covers-later-writes',
    breaks: 'what was answered after a flush was sent is not replayed after a power loss',
    edits: [
      {
        file: FLUSHER,
        find: 'if (job.incarnation === this.#connections.incarnation) this.#proven(job.covers);',
        replace: 'if (job.incarnation === this.#connections.incarnation) this.#proven(this.#unflushed.next);',
      },
    ],
    caughtBy: { weights: { 'power-loss': 1 } },
  },
  {
    name: '8-fua-ignored-where-the-node-has-none',
    breaks: 'a FUA write is answered while it is in a volatile cache',
    edits: [{ file: SENDER, find: 'job.flushAfter = features.flush;', replace: 'job.flushAfter = false;' }],
    caughtBy: { weights: { 'power-loss': 2, 'gateway-crash': 2 } },
  },
  {
    name: '9-no-replay',
    breaks: 'what a node with a volatile cache had answered is gone after its restart',
    edits: [
      {
        file: REPLAY,
        find: 'this.#pieces = newestPieces(unflushed, newer);',
        replace: 'this.#pieces = newestPieces(unflushed, newer).slice(1);',
      },
    ],
    caughtBy: { weights: { 'power-loss': 1 } },
  },
  {
    name: '9-replay-of-the-oldest-bytes',
    breaks: 'a replay puts older bytes over newer ones',
    edits: [
      {
        file: REPLAY,
        find: 'for (let sequence = unflushed.next - 1; sequence >= unflushed.first; sequence -= 1) {',
        replace: 'for (let sequence = unflushed.first; sequence < unflushed.next; sequence += 1) {',
      },
    ],
    caughtBy: { weights: { 'power-loss': 1, reconnect: 1 } },
  },
  {
    name: '9-flush-lies-after-a-failed-replay',
    breaks: 'a flush promises what the node has lost and refused to take again',
    edits: [{ file: FLUSHER, find: 'this.#owed.add(range);', replace: '' }],
    caughtBy: { test: 'test/unit/upstream-reconnect.test.ts' },
  },
  {
    name: '9-flush-proves-what-is-not-sent-again',
    breaks: 'what a node has lost is forgotten by a flush that came while it got its writes again',
    edits: [{ file: FLUSHER, find: 'this.#host.hasAll() ? this.#unflushed.next : this.#unflushed.first', replace: 'this.#unflushed.next' }],
    caughtBy: { test: 'test/unit/upstream-reconnect.test.ts' },
  },
  {
    name: '9-unflushed-without-bound',
    breaks: 'memory grows with a host that never flushes',
    edits: [
      {
        file: UPSTREAM,
        find: 'if (this.#flusher.full) {',
        replace: 'if (this.#flusher.full && job.length === -1) {',
      },
    ],
    caughtBy: { test: 'test/unit/upstream-reconnect.test.ts' },
  },
  {
    name: '13-marks-swept-while-old-requests-may-land',
    breaks: 'a request of an earlier gateway lands after a second restart, and nobody knows that the copies differ',
    edits: [
      {
        file: 'gateway/volume/volume.ts',
        find: 'unsure: () => recovery.pending,\n      journaled',
        replace: 'unsure: () => false,\n      journaled',
      },
    ],
    caughtBy: { test: 'test/unit/volume-returns.test.ts' },
  },
  {
    name: '13-no-guard',
    breaks: 'an old request that lands late undoes a newer write',
    edits: [{ file: LOSSES, find: 'if (job.writes && zombieMs > 0) keeper.protect(job.offset, job.length, expiresMs);', replace: '' }],
    caughtBy: { weights: { zombie: 1 } },
  },
  {
    name: '13-guard-settled-without-writing-again',
    breaks: 'what an old request overwrote stays so once the guard ends',
    edits: [
      {
        file: SETTLER,
        find: 'for (const segment of this.#guards.newest(settling.due)) {',
        replace: 'for (const segment of this.#guards.newest(settling.due).slice(1)) {',
      },
    ],
    caughtBy: { weights: { zombie: 1 } },
  },
  {
    name: '13-reads-from-under-a-guard',
    breaks: 'a read sees what an old request wrote over newer bytes',
    edits: [
      {
        file: GUARDS,
        find: 'else segment.data.copy(bytes, from - offset',
        replace: 'else if (from > to) segment.data.copy(bytes, from - offset',
      },
    ],
    caughtBy: { weights: { zombie: 1 } },
  },
  {
    name: '13-guards-not-written-down',
    breaks: 'after a crash of the gateway an old request that lands late undoes a newer write',
    edits: [
      {
        file: DOUBTS,
        find: 'for (const { range } of ranges) this.#stored.add(range.number);',
        replace: 'for (const { range } of ranges) this.#stored.add(range.number);\n    if (ranges.length > 0) return;',
      },
    ],
    caughtBy: { weights: { zombie: 2, 'gateway-crash': 1 } },
  },
  {
    name: '13-restart-trusts-what-may-still-be-hit',
    breaks: 'after a crash of the gateway its last requests make the copies differ',
    edits: [{ file: VOLUME, find: 'this.#recovery.copyAgainLater();', replace: '' }],
    caughtBy: { weights: { 'gateway-crash': 2, zombie: 1, flip: 1 } },
  },
  {
    name: '15-generation-not-checked',
    breaks: 'a late answer is taken for the answer to another request',
    edits: [{ file: LINK, find: 'slot.job !== null && slot.generation === cookieHigh', replace: 'slot.job !== null' }],
    caughtBy: { weights: { stutter: 1 } },
  },
  {
    name: '15-buffer-reused-while-the-socket-has-it',
    breaks: 'a write reaches the node with the bytes of another',
    edits: [
      {
        file: LINK,
        find: 'this.#seal();\n    this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);',
        replace: 'this.#seal();',
      },
    ],
    caughtBy: {},
  },
];
