// What a careful operator does, by docs/faults.md, once all faults are over and a volume stays blocked or may not go home: where a
// byte of a copy went bad and the active one is refused as another's, or nobody can tell which is right and a flip is refused for
// it, its mirrors are removed, which declares the active copy right.
import type { Stage } from './faults.js';

/** A gateway mends by itself what it can until then. */
const PATIENCE_MS = 60_000;

export function tend(stage: Stage, ask: (what: 'remove-mirror', volume: string, node: string) => Promise<unknown>): void {
  const { world, status } = stage;
  const look = async (): Promise<void> => {
    for (const volume of stage.volumes) {
      const { refused, mirrors } = status(volume);
      const undecided = world.counts.has('fact damage') && world.counts.has('event protection.flip-refused');
      if (!(refused || undecided) || !world.rotten.of(volume)) continue;
      world.trace(() => `an operator declares the active copy of ${volume} right`);
      world.moment('operator declares a copy right');
      for (const { node } of mirrors) await ask('remove-mirror', volume, node);
    }
    world.scheduler.after(PATIENCE_MS, () => void look());
  };
  world.scheduler.after(PATIENCE_MS, () => void look());
}
