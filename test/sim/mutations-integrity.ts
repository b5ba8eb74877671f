// Mutations of the rules about integrity and ownership: checksums, reads from mirrors, scrub, certificate, targets (16 to 20).
import type { Mutation } from './mutations.js';

const REGION_SUMS = 'replication/region-sums.ts';
const COMPARER = 'replication/comparer.ts';
const IO_PATH = 'gateway/volume/io-path.ts';
const MIRROR_READS = 'gateway/volume/mirror-reads.ts';
const READ_PATH = 'gateway/volume/read-path.ts';
const HEDGING = 'gateway/volume/hedging.ts';
const COPIER = 'replication/copier.ts';
const LOST_RANGES = 'gateway/volume/lost-ranges.ts';
const SCRUBBING = 'gateway/volume/scrubbing.ts';
const MIRRORING = 'gateway/volume/mirroring.ts';
const COMEBACK = 'gateway/upstream/comeback.ts';

export const INTEGRITY_MUTATIONS: readonly Mutation[] = [
  {
    name: '16-checksum-outlives-a-write',
    breaks: 'a scrub takes the right copy for the wrong one, or mends nothing',
    edits: [
      {
        file: IO_PATH,
        find: 'this.#sums.forget(op.offset, op.length);\n    }\n    this.#send(op);',
        replace: '}\n    this.#send(op);',
      },
    ],
    caughtBy: { weights: { scrub: 1, 'add-mirror': 1 } },
  },
  {
    name: '16-active-copy-taken-to-be-right',
    breaks: 'a scrub that cannot know which copy is right overwrites one with the wrong bytes',
    edits: [{ file: COMPARER, find: 'if (found.length < 3) return null;', replace: 'if (found.length < 3) return found[0];' }],
    caughtBy: { weights: { 'add-mirror': 1, flip: 1 } },
  },
  {
    name: '16-copied-rot-counts-as-right',
    breaks: 'bytes that went bad on the active copy become what is right by being copied',
    edits: [{ file: COPIER, find: 'if (sums.get(region) === null) sums.set', replace: 'sums.set' }],
    caughtBy: { test: 'test/unit/replication-rot.test.ts' },
  },
  {
    name: '16-reads-not-held-against-checksums',
    breaks: 'a host reads bytes that went bad on the active copy, though their checksum is known',
    edits: [{ file: READ_PATH, find: 'op.length >= sums.regionBytes && mirrors().length > 0', replace: 'op.length < 0' }],
    caughtBy: { weights: { 'add-mirror': 1, flip: 1 } },
  },
  {
    name: '16-lost-ranges-read',
    breaks: 'a host reads zeroes where a disk with a bad sector was copied',
    edits: [{ file: SCRUBBING, find: 'if (this.#options.lost.fences(offset, length, everywhere)) return true;', replace: '' }],
    caughtBy: { weights: { wear: 6, 'add-mirror': 2, flip: 3 }, faults: 12 },
  },
  {
    name: '16-lost-ranges-not-stored',
    breaks: 'after a restart a host reads zeroes where a disk with a bad sector was copied',
    edits: [
      {
        file: LOST_RANGES,
        find: 'changes: [...after].map(([extent, ranges]) => this.#change(extent, ranges)),',
        replace: 'changes: [],',
      },
    ],
    caughtBy: { test: 'test/unit/volume-lost.test.ts' },
  },
  {
    name: '16-write-into-lost-range-answered-too-soon',
    breaks: 'after a restart a host cannot read what it has written where something was lost',
    edits: [
      {
        file: IO_PATH,
        find: 'void this.#events.filled(op.offset, op.length).then((durable) => this.#finish(op, durable ? 0 : ERRNO.ESHUTDOWN));',
        replace: 'void this.#events.filled(op.offset, op.length);\n    this.#finish(op, 0);',
      },
    ],
    caughtBy: { test: 'test/unit/volume-lost.test.ts' },
  },
  {
    name: '16-write-of-a-part-heals-the-rest',
    breaks: 'a host reads what every copy has wrong once some of that region was written',
    edits: [{ file: IO_PATH, find: 'op.writes && this.#events.rotten(op.offset, op.length)', replace: 'op.length < 0' }],
    caughtBy: { test: 'test/unit/volume-lost.test.ts' },
  },
  {
    name: '16-lost-with-its-whole-disk',
    breaks: 'what a disk refuses for a while, all of it, is given up',
    edits: [
      {
        file: COPIER,
        find: 'const certain = lost.length === 0 || (await this.#answers(run, source, lost));',
        replace: 'const certain = true;',
      },
    ],
    caughtBy: { test: 'test/unit/volume-lost.test.ts' },
  },
  {
    name: '17-hedged-read-of-a-mirror-that-lacks-writes',
    breaks: 'a read that a mirror answered first has old bytes',
    edits: [
      {
        file: HEDGING,
        find: 'return mirror.mayRead(op.offset, op.length) && !this.#options.lock.overlaps(op.offset, op.length);',
        replace: 'return mirror.usable;',
      },
    ],
    caughtBy: { weights: { slow: 3, stall: 1, 'add-mirror': 1 } },
  },
  {
    name: '17-read-from-a-mirror-that-lacks-writes',
    breaks: 'a read that the active target refused is answered with old bytes',
    edits: [
      { file: MIRROR_READS, find: '&& !lock.overlaps(op.offset, op.length);', replace: ';' },
      {
        file: MIRROR_READS,
        find: 'mirrors().find((each) => each.mayRead(op.offset, op.length));',
        replace: 'mirrors().find((each) => each.usable);',
      },
      {
        file: MIRROR_READS,
        find: 'if (mirrors().some((each) => each.mayRead(op.offset, op.length)) && (op.locked || !lock.overlaps(op.offset, op.length))) {',
        replace: 'if (op.fallback) {',
      },
    ],
    caughtBy: { weights: { eio: 5, slow: 1, 'add-mirror': 1 } },
  },
  {
    name: '17-scrub-decides-without-the-lock',
    breaks: 'a scrub calls a region damaged that is being written',
    edits: [{ file: COMPARER, find: 'await hold(lock, offset, sums.regionBytes)', replace: 'await hold(lock, offset, 1)' }],
    caughtBy: { weights: { scrub: 4, slow: 1 } },
  },
  {
    name: '18-certificate-counts-what-was-written-since',
    breaks: 'a certificate says that regions were verified that were written since',
    edits: [
      {
        file: REGION_SUMS,
        find: 'if (this.verified.has(region)) this.#unverify(region);\n      const sums',
        replace: 'const sums',
      },
    ],
    caughtBy: {},
  },
  {
    name: '18-certificate-root-not-kept-up',
    breaks: 'the root in a certificate is not that of the copies',
    edits: [
      {
        file: REGION_SUMS,
        find: 'this.verified.delete(region);\n    this.#root ^= mix(region, sum);',
        replace: 'this.verified.delete(region);',
      },
    ],
    caughtBy: {},
  },
  {
    name: '19-lock-not-looked-at',
    breaks: 'two gateways write to one data directory',
    edits: [
      { file: 'gateway/store/file-lock.ts', find: 'if (flock(fd, LOCK_EX_NB) !== 0) {', replace: 'if (flock(fd, LOCK_EX_NB) > 0) {' },
    ],
    caughtBy: { test: 'test/unit/store-data-directory.test.ts' },
  },
  {
    name: '20-foreign-target-overwritten',
    breaks: "somebody else's data is overwritten by a mirror",
    edits: [{ file: MIRRORING, find: '!blank.value && records.get(oursKey(target)) === undefined', replace: '!blank.ok' }],
    caughtBy: { weights: { 'add-mirror': 2 } },
  },
  {
    name: '20-returned-target-not-looked-at',
    breaks: 'a target that came back blank or with something else is served as if it held the volume',
    edits: [{ file: COMEBACK, find: 'if (finding.wrong > 0) {', replace: 'if (finding.wrong > finding.checked) {' }],
    caughtBy: { weights: { contents: 1 } },
  },
];
