// Mutations of the rules about the journal (8 and 10).
import type { Mutation } from './mutations.js';

export const JOURNAL_MUTATIONS: readonly Mutation[] = [
  {
    name: '8-flush-before-journal',
    breaks: 'a flush is answered before the journal is on disk',
    edits: [{ file: 'gateway/volume/durability.ts', find: '    journal.sync(op);', replace: '    op.journaled(0);' }],
    caughtBy: { durability: 'journal', weights: { 'add-mirror': 2, disaster: 4, 'gateway-crash': 1 } },
  },
  {
    name: '8-failed-journal-counts',
    breaks: 'flushes are answered though a journal that failed still counts',
    edits: [
      { file: 'gateway/volume/durability.ts', find: '    this.#blocked = true;\n    this.setJournal', replace: '    this.setJournal' },
    ],
    caughtBy: { test: 'test/unit/volume-journal.test.ts' },
  },
  {
    name: '10-write-not-in-journal',
    breaks: 'acknowledged writes are not written to the journal',
    edits: [
      { file: 'gateway/volume/durability.ts', find: 'this.#journal!.append(op);', replace: 'this.#journal!.cancel(op.op, op.length);' },
    ],
    caughtBy: { durability: 'journal', weights: { 'add-mirror': 2, disaster: 4, 'gateway-crash': 1 } },
  },
  {
    name: '10-sync-forgets-the-journal',
    breaks: 'a journal from before the policy was `sync` is replayed over newer writes',
    edits: [{ file: 'gateway/volume/durability.ts', find: '      this.#outlastJournal(op);', replace: '' }],
    caughtBy: { test: 'test/unit/volume-journal.test.ts' },
  },
  {
    name: '10-records-given-up-early',
    breaks: 'records are given up before the mirror has flushed them',
    edits: [
      {
        file: 'gateway/volume/journaling.ts',
        find: 'mirror.queue.passed().then(() => mirror.flush())',
        replace: 'mirror.queue.passed().then(() => 0)',
      },
    ],
    caughtBy: { durability: 'journal', weights: { 'add-mirror': 2, disaster: 4, 'gateway-crash': 1 } },
  },
  {
    name: '10-writes-under-way-missed',
    breaks: 'a mirror relies on the journal while writes are under way that are not in it',
    edits: [{ file: 'gateway/volume/journaling.ts', find: ' || !path.durability.allReserved', replace: ' || copies.closed' }],
    caughtBy: { test: 'test/unit/volume-journal.test.ts' },
  },
  {
    name: '10-mark-cleared-early',
    breaks: 'marks go before the journal is on disk',
    edits: [
      { file: 'gateway/volume/volume.ts', find: 'journaled: () => journaling.synced()', replace: 'journaled: () => Promise.resolve(true)' },
    ],
    caughtBy: { test: 'test/unit/volume-journal.test.ts' },
  },
  {
    name: '10-replay-unmarked',
    breaks: 'that a mirror is being replayed is not written down',
    edits: [
      {
        file: 'gateway/volume/journal-recovery.ts',
        find: 'if (changes.length > 0) await records.commit(changes);',
        replace: 'if (changes.length > 1e9) await records.commit(changes);',
      },
    ],
    caughtBy: { test: 'test/unit/volume-journal.test.ts' },
  },
  {
    name: '10-replayed-though-active-answers',
    breaks: 'a mirror that was not needed keeps what only flushes covered',
    edits: [
      {
        file: 'gateway/volume/journal-recovery.ts',
        find: "copy.mirror.recant(unsure ?? [], 'it did not have to take over');",
        replace: 'void unsure;',
      },
    ],
    caughtBy: { durability: 'journal', weights: { 'add-mirror': 2, disaster: 4, 'gateway-crash': 1 } },
  },
  {
    name: '10-old-active-not-copied',
    breaks: 'the old active target keeps what no host had flushed',
    edits: [{ file: 'gateway/volume/role-change.ts', find: '...doubtful, ...recovery.unsure(to),', replace: '...doubtful,' }],
    caughtBy: { durability: 'journal', weights: { 'add-mirror': 2, disaster: 4, 'gateway-crash': 1 } },
  },
  {
    name: '10-epoch-start-late',
    breaks: 'a flip gives up records that other mirrors still lack',
    edits: [
      {
        file: 'gateway/volume/journaling.ts',
        find: '{ firstSequence: this.#journal.epochStart(member?.id ?? Number.NaN) }',
        replace: '{ firstSequence: this.#journal.lastSequence + 1 + 0 * (member?.id ?? 0) }',
      },
    ],
    caughtBy: { test: 'test/unit/volume-journal.test.ts' },
  },
];
