// Verdicts as faults: they fall at moments that matter, over the node that serves a volume rather than another, over several
// at once, and are withdrawn in the middle of what they caused.
import type { Stage } from './faults.js';
import type { Random } from './random.js';
import type { Signs } from './signs.js';
import type { Guarded } from './system.js';

export const ALARMS = ['verdict', 'false-alarm', 'verdicts', 'withdrawal', 'outside-verdict'] as const;
export type Alarm = (typeof ALARMS)[number];

/** How often each is drawn, beside other faults and wishes, in a run under protection. */
export const ALARM_WEIGHTS: Record<Alarm | 'rollback' | 'contents' | 'clock-jump', number> = {
  verdict: 16,
  'false-alarm': 14,
  verdicts: 6,
  withdrawal: 6,
  'outside-verdict': 8,
  rollback: 5,
  contents: 1,
  'clock-jump': 2,
};

/** Moments of protection that a fault may wait for. */
export const ALARM_MOMENTS = [
  'commit of protection',
  'commit of free',
  'commit of verdict',
  'export made',
  'export deleted',
  'protection mirroring',
  'protection synced',
  'protection flipping',
  'protection flipped',
  'protection rolling-back',
  'protection healthy',
  'fact mirror-state copying',
  'fact flipped rollback',
] as const;

/** What alarms act on. */
export interface AlarmStage {
  signs: Signs;
  guarded(): Guarded | null;
}

export function playAlarm(alarm: Alarm, stage: Stage, { signs, guarded }: AlarmStage): void {
  const { world, random } = stage;
  const show = (node: string, probability: number | null): void => {
    if (stage.over()) return;
    world.trace(() => `${node} ${probability === null ? 'shows nothing any more' : `is said to fail with ${probability.toFixed(2)}`}`);
    signs.show(node, probability);
    guarded()?.fresh(node);
  };
  const node = drawDoubted(stage);
  switch (alarm) {
    case 'verdict':
      show(node, drawProbability(random));
      break;
    case 'false-alarm':
      show(node, drawProbability(random));
      world.onNext(random.pick(ALARM_MOMENTS), random.range(1, 10_000), () =>
        world.scheduler.after(random.chance(0.4) ? 0 : random.range(0, 30), () => show(node, null)),
      );
      break;
    case 'verdicts':
      for (const { name } of world.nodes) if (name === node || random.chance(0.4)) show(name, drawProbability(random));
      break;
    case 'withdrawal':
      for (const { name } of world.nodes) show(name, null);
      break;
    case 'outside-verdict':
      void guarded()?.giveVerdict(node, random.chance(0.8) ? drawProbability(random) : 0);
  }
}

function drawProbability(random: Random): number {
  return random.range(0.55, 0.99);
}

/** Mostly a node that serves a volume. */
function drawDoubted({ world, random, volumes, status }: Stage): string {
  return random.chance(0.75) ? status(random.pick(volumes)).active : random.pick(world.nodes).name;
}
