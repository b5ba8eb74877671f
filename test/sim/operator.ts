// What a careful operator does, by docs/faults.md, once all faults are over and a volume stays blocked: where a byte of its
// active copy went bad and that copy is refused as another's, its mirrors are removed, which declares the copy right.
import type { Stage } from './faults.js';

/** A gateway mends by itself what it can until then. */
const PATIENCE_MS = 60_000;

export function tend(stage: Stage, ask: (what: 'remove-mirror', volume: string, node: string) => Promise<unknown>): void {
  const { world, status } = stage;
  const look = async (): Promise<void> => {
    for (const volume of stage.volumes) {
      const { refused, mirrors } = status(volume);
      if (!refused || !world.rotten.of(volume)) continue;
      world.trace(() => `an operator declares the active copy of ${volume} right`);
      world.moment('operator declares a copy right');
      for (const { node } of mirrors) await ask('remove-mirror', volume, node);
    }
    world.scheduler.after(PATIENCE_MS, () => void look());
  };
  world.scheduler.after(PATIENCE_MS, () => void look());
}
