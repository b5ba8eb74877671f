// The newest events in memory, oldest first, at most so many. Followers hold no queue of their own, only the id of the
// event they saw last: what they have not read yet is read from here, so a slow one costs nothing and can be told
// exactly how many it missed. Pure.
import assert from 'node:assert/strict';
import type { ForestallEvent } from '../control.js';
import { type EventQuery, matches } from './event-filter.js';

export class EventHistory {
  readonly #max: number;
  readonly #events: ForestallEvent[] = [];

  constructor(max: number) {
    assert(max > 0, 'a history has room');
    this.#max = max;
  }

  get oldestId(): number | null {
    const first = this.#firstIndex();
    return first < this.#events.length ? this.#events[first].id : null;
  }

  get latestId(): number | null {
    return this.#events.at(-1)?.id ?? null;
  }

  append(event: ForestallEvent): void {
    assert(event.id > (this.latestId ?? 0), 'event ids grow');
    this.#events.push(event);
    // In steps, so that the array is not moved for every event.
    if (this.#events.length >= this.#max * 2) {
      this.#events.splice(0, this.#events.length - this.#max);
    }
  }

  /** Up to `max` events with an id above `id`, by id. */
  after(id: number, max: number): ForestallEvent[] {
    const from = this.#indexAfter(id);
    return this.#events.slice(from, from + max);
  }

  query({ since, limit = 100, ...filter }: EventQuery): ForestallEvent[] {
    const from = this.#indexAfter(since ?? 0);
    const found: ForestallEvent[] = [];
    if (since === undefined) {
      for (let i = this.#events.length - 1; i >= from && found.length < limit; i--) {
        if (matches(this.#events[i], filter)) {
          found.push(this.#events[i]);
        }
      }
      return found.reverse();
    }
    for (let i = from; i < this.#events.length && found.length < limit; i++) {
      if (matches(this.#events[i], filter)) {
        found.push(this.#events[i]);
      }
    }
    return found;
  }

  #firstIndex(): number {
    return Math.max(0, this.#events.length - this.#max);
  }

  /** Index of the first kept event with an id above `id`; ids grow but may have gaps after a failed write. */
  #indexAfter(id: number): number {
    let low = this.#firstIndex();
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#events[middle].id > id) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
}
