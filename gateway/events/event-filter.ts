// Which events somebody wants to see. Pure.
import type { ForestallEvent } from '../control.js';

export interface EventFilter {
  /** `volume.flipped` alone, or `volume` for every type that starts with `volume.`. */
  type?: string;
  volume?: string;
  node?: string;
}

export interface EventQuery extends EventFilter {
  /** Only events with a greater id, the first `limit` of them; without it the newest `limit`. */
  since?: number;
  limit?: number;
}

export function matches(event: ForestallEvent, filter: EventFilter): boolean {
  return (
    (filter.type === undefined || event.type === filter.type || event.type.startsWith(`${filter.type}.`)) &&
    (filter.volume === undefined || event.volume === filter.volume) &&
    (filter.node === undefined || event.node === filter.node)
  );
}
