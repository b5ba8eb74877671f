// Mutations of protection and placement: what moves volumes by verdicts, and what space it makes and gives back (14, 19, 20, 22).
import type { Mutation } from './mutations.js';

const DECIDE = 'gateway/protection/decide.ts';
const DRAFT = 'gateway/protection/draft.ts';
const ERRANDS = 'gateway/protection/errands.ts';
const NODE_CONTROL = 'gateway/placement/node-control.ts';
const RESUME = 'gateway/protection/resume.ts';
const ALARMS = { verdict: 3, 'false-alarm': 2 };

export const PROTECTION_MUTATIONS: readonly Mutation[] = [
  {
    name: '14-false-alarm-never-goes-back',
    breaks: 'a volume stays where a false alarm drove it, against its policy',
    edits: [{ file: DECIDE, find: "const stays = policy.rollback.onFalseAlarm === 'stay';", replace: 'const stays = true;' }],
    caughtBy: { protection: true, weights: ALARMS },
  },
  {
    name: '19-flip-before-a-crash-not-noticed',
    breaks: 'after a crash in the middle of an evacuation protection does not know that the volume has left',
    edits: [
      {
        file: RESUME,
        find: "if (seen.epoch > d.s.epoch) learn(d, { type: 'flip-done', certificate: unseenFlip(d.s, seen, nowMs) });",
        replace: '',
      },
    ],
    caughtBy: { protection: true, weights: { verdict: 3, 'gateway-crash': 4 } },
  },
  {
    name: '20-spare-zeroed-that-is-not-ours',
    breaks: "somebody else's data on a spare is zeroed after the mirror there was refused",
    edits: [{ file: NODE_CONTROL, find: 'if (!this.#isOurs(entry)) return { ok: true, value: null };', replace: '' }],
    caughtBy: { protection: true, weights: ALARMS },
  },
  {
    name: '20-deleted-while-a-volume-uses-it',
    breaks: 'the space of a copy is given back while the store still names it',
    edits: [
      {
        file: ERRANDS,
        find: 'isMirror(errand, target) ? await control.removeMirror(target, cause) : null',
        replace: 'null as Outcome<TargetRef> | null',
      },
      { file: NODE_CONTROL, find: 'const user = owner.ok ? owner.value : null;', replace: 'const user = null as string | null;' },
    ],
    caughtBy: { protection: true, weights: ALARMS },
  },
  {
    name: '20-dropped-copy-not-freed',
    breaks: 'the space of copies made for alarms that were withdrawn is never given back',
    edits: [{ file: DRAFT, find: "d.effects.push({ type: 'free-target', target: copy.target });", replace: '' }],
    caughtBy: { protection: true, weights: ALARMS },
  },
  {
    name: '20-target-made-without-a-note',
    breaks: 'a crash leaves exports on nodes that no volume uses and nobody knows',
    edits: [{ file: NODE_CONTROL, find: 'records.commit([{ put: key, value: entry }]).then(', replace: 'Promise.resolve().then(' }],
    caughtBy: { protection: true, weights: { verdict: 3, 'false-alarm': 1, 'gateway-crash': 4 } },
  },
  {
    name: '22-refused-target-tried-for-ever',
    breaks: 'a volume stays on a node that is said to fail, because the best other target cannot take it',
    edits: [{ file: ERRANDS, find: 'else if (TARGET_FAULTS.has(code))', replace: 'else if (code === null)' }],
    caughtBy: { protection: true, weights: ALARMS },
  },
  {
    name: '22-alarms-become-a-storm',
    breaks: 'a wave of alarms floods the nodes with copies',
    edits: [
      {
        file: 'gateway/protection/planner.ts',
        find: 'if (!hasRoom(leaving, started, limits)) continue;',
        replace: '',
      },
    ],
    caughtBy: { protection: true, weights: { verdicts: 4, verdict: 2 } },
  },
  {
    name: '22-observation-without-an-end',
    breaks: 'a volume never goes back from a false alarm, and the copy is never freed',
    edits: [{ file: 'gateway/protection/machine.ts', find: '    s.home?.observeUntilMs,\n', replace: '' }],
    caughtBy: { protection: true, weights: ALARMS },
  },
  {
    name: '22-overruled-for-ever',
    breaks: 'a verdict that was once overruled is never acted on again',
    edits: [{ file: RESUME, find: ', pardons: standing(situation.pardons, doubts) }', replace: ' }' }],
    caughtBy: { test: 'test/unit/protection-restart.test.ts' },
  },
];
