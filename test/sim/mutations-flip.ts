// Mutations of the rules about flip, failover and rollback, and about waiting (11, 12, 14, 21, 22).
import type { Mutation } from './mutations.js';

const FLIP = 'gateway/volume/flip.ts';
const IO_PATH = 'gateway/volume/io-path.ts';
const ACTIVE_WATCH = 'gateway/volume/active-watch.ts';
const ROLE_CHANGE = 'gateway/volume/role-change.ts';
const UPSTREAM = 'gateway/upstream/upstream.ts';
const MIRROR = 'replication/mirror.ts';
const INTENT_LOG = 'replication/intent-log.ts';

export const FLIP_MUTATIONS: readonly Mutation[] = [
  {
    name: '11-queue-not-drained',
    breaks: 'writes that were in the queue at a flip are gone',
    edits: [
      { file: FLIP, find: 'const drained = path.inFlight === 0 && mirror.queue.empty;', replace: 'const drained = path.inFlight === 0;' },
      { file: FLIP, find: 'await to.mirror?.queue.drained();', replace: '' },
    ],
    caughtBy: { weights: { flip: 4, slow: 1, 'gateway-crash': 1, 'power-loss': 1 } },
  },
  {
    name: '11-mirror-not-flushed-before-the-flip',
    breaks: 'what was flushed on the old target may be in a volatile cache of the new one',
    edits: [{ file: FLIP, find: '(await to.mirror?.flush()) ?? -1', replace: '(await Promise.resolve(0)) ?? -1' }],
    caughtBy: { test: 'test/unit/volume-flip.test.ts' },
  },
  {
    name: '11-released-before-the-outcome-is-known',
    breaks: 'a restart finds the volume on the side that hosts did not write to',
    edits: [{ file: FLIP, find: 'await sleep(ground.clock, COMMIT_RETRY_MS);', replace: 'return;' }],
    caughtBy: { test: 'test/unit/volume-flip.test.ts' },
  },
  {
    name: '11-last-answers-not-flushed',
    breaks: 'what a slow old target answered last, and hosts had flushed there, may be in a volatile cache of the new one',
    edits: [{ file: FLIP, find: ' && mirror.queue.pushes === pushes', replace: '' }],
    caughtBy: { test: 'test/unit/volume-flip.test.ts' },
  },
  {
    name: '11-slow-target-keeps-its-volume',
    breaks: 'a volume never leaves a node that takes longer for a request than hosts may be held',
    edits: [{ file: FLIP, find: 'if (!insists || path.inFlight === 0) return;', replace: 'return;' }],
    caughtBy: { test: 'test/unit/volume-flip.test.ts' },
  },
  {
    name: '12-failover-to-an-incomplete-mirror',
    breaks: 'acknowledged writes that the mirror lacks are gone',
    edits: [{ file: MIRROR, find: 'return this.#up && this.complete;', replace: 'return this.#up;' }],
    caughtBy: { weights: { failover: 2, 'add-mirror': 1, 'power-loss': 1 } },
  },
  {
    name: '12-failover-without-the-queue',
    breaks: 'acknowledged writes that were in the queue are gone',
    edits: [
      {
        file: FLIP,
        find: 'if (mirror !== null) await whileUsable(clock, mirror, untilMs, mirror.queue.drained());',
        replace: '',
      },
      { file: FLIP, find: 'if (mirror.queue.empty && mirror.queue.pushes === pushes) break;', replace: 'break;' },
    ],
    caughtBy: { weights: { failover: 3, slow: 4, 'add-mirror': 1 }, faults: 12 },
  },
  {
    name: '12-failover-drops-what-was-in-flight',
    breaks: 'requests that the dead target did not answer are never answered',
    edits: [
      {
        file: IO_PATH,
        find: 'this.#reads.takenBack(request);\n        this.#suspendedOps.push(request);',
        replace: 'this.#reads.takenBack(request);',
      },
    ],
    caughtBy: { weights: { failover: 1 } },
  },
  {
    name: '12-no-failover-from-a-target-that-hangs',
    breaks: 'hosts wait for a node that hangs while a complete mirror stands ready',
    edits: [
      { file: ACTIVE_WATCH, find: 'if (upstream.ready && ageMs > settings().hangAfterMs)', replace: 'if (upstream.ready && ageMs < 0)' },
    ],
    caughtBy: { test: 'test/unit/volume-flip.test.ts' },
  },
  {
    name: '14-reverse-mirror-forgets-while-away',
    breaks: 'a rollback loses what was written while the old target was away',
    edits: [
      {
        file: MIRROR,
        find: 'this.dirty.setRange(write.offset, write.length);\n      if (stalled)',
        replace: 'if (stalled)',
      },
    ],
    caughtBy: { weights: { failover: 2, flip: 2, hang: 1 } },
  },
  {
    name: '14-old-target-taken-to-be-equal',
    breaks: 'a rollback loses what the old target never answered',
    edits: [{ file: ROLE_CHANGE, find: 'for (const range of unlike) from.mirror.markDirty(range.offset, range.length);', replace: '' }],
    caughtBy: { weights: { failover: 3, flip: 1 } },
  },
  {
    name: '14-conceded-ranges-taken-to-be-equal',
    breaks: 'after a takeover that an operator forced the old target keeps what the new one lacks, and nobody knows',
    edits: [{ file: ROLE_CHANGE, find: ', ...this.#options.conceded(to)]', replace: ']' }],
    caughtBy: { test: 'test/unit/volume-takeover.test.ts' },
  },
  {
    name: '21-latch-goes-before-the-marks',
    breaks: 'after a crash of the gateway a write that only the latch stood for is on one copy only, and nobody knows',
    edits: [
      {
        file: INTENT_LOG,
        find: 'if (this.#latched && this.#wanted.size === 0) this.#clearLatch();',
        replace: 'if (this.#latched) this.#clearLatch();',
      },
    ],
    caughtBy: { test: 'test/unit/replication-latch.test.ts' },
  },
  {
    name: '21-writes-go-on-without-a-mark',
    breaks: 'after a crash of the gateway a write is on one copy only, and nobody knows',
    edits: [
      {
        file: INTENT_LOG,
        find: 'this.#committing = false;\n          this.#commitSoon();\n        });\n        return;',
        replace: 'this.#committing = false;\n          this.#commitSoon();\n        });',
      },
      { file: INTENT_LOG, find: 'for (const extent of extents) this.#wanted.add(extent);', replace: '' },
    ],
    caughtBy: { lulls: 0.04, weights: { 'commit-failure': 4, 'gateway-crash': 2, 'add-mirror': 1 } },
  },
  {
    name: '22-no-deadline-without-a-mirror',
    breaks: 'a host waits for ever for a node that does not come back',
    edits: [
      {
        file: ACTIVE_WATCH,
        find: 'const expired = copies.active.upstream.expire(giveUpAfterMs) + journalRecovery.expire(giveUpAfterMs);',
        replace: 'const expired = 0;',
      },
    ],
    caughtBy: { weights: { gone: 1 } },
  },
  {
    name: '22-flip-without-a-deadline',
    breaks: 'hosts are held for as long as the mirror hangs',
    edits: [{ file: FLIP, find: "over ??= 'deadline';\n    end();", replace: "over ??= 'deadline';" }],
    caughtBy: { weights: { gone: 1, flip: 2, hang: 1 } },
  },
  {
    name: '22-failover-waits-for-its-mirror-for-ever',
    breaks: 'hosts are held for as long as the mirror of a failover hangs',
    edits: [
      {
        file: 'gateway/volume/while-usable.ts',
        find: 'if (!mirror.usable || clock.nowMs() >= untilMs()) return undefined;',
        replace: '',
      },
    ],
    caughtBy: { weights: { gone: 3, failover: 1 } },
  },
  {
    name: '22-nobody-tells-that-there-is-room',
    breaks: 'writes that waited for room in the queue of a lost mirror wait for ever',
    edits: [
      { file: IO_PATH, find: 'if (this.#roomWaiters.length > 0) this.#letIn();\n  }\n\n  /** Its range', replace: '}\n\n  /** Its range' },
    ],
    caughtBy: { weights: { slow: 3, hang: 1, 'add-mirror': 1 } },
  },
  {
    name: '22-writes-parked-for-memory-forgotten',
    breaks: 'writes that waited for a flush to free memory wait for ever',
    edits: [{ file: UPSTREAM, find: 'this.#letIn(backlog.takeParked())', replace: 'void backlog.takeParked()' }],
    caughtBy: {},
  },
];
