// One reader of the event log: a position in it and nothing else. Reads in order, without a gap it is not told of.
import type { ForestallEvent } from '../control.js';

const READ_EVENTS_MAX = 256;

/** What a follower reads from; gateway/events/event-log.ts. */
export interface EventSource {
  readonly closed: boolean;
  after(id: number, max: number): { events: ForestallEvent[]; oldestId: number | null };
  whenChanged(run: () => void): void;
}

/** `missed`: how many events between the last read and this one are no longer kept. */
export interface FollowedEvents {
  events: ForestallEvent[];
  missed: number;
}

export class EventFollower {
  readonly #source: EventSource;
  #lastId: number;
  #closed = false;
  #wake: () => void = () => {};

  constructor(source: EventSource, lastId: number) {
    this.#source = source;
    this.#lastId = lastId;
  }

  /** The next events, as soon as there are some; null: the log or this follower was closed. */
  async next(max = READ_EVENTS_MAX): Promise<FollowedEvents | null> {
    while (!this.#closed) {
      const { events, oldestId } = this.#source.after(this.#lastId, max);
      if (events.length > 0) {
        const missed = Math.max(0, oldestId! - this.#lastId - 1);
        this.#lastId = events[events.length - 1].id;
        return { events, missed };
      }
      if (this.#source.closed) {
        return null;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#source.whenChanged(resolve);
      });
    }
    return null;
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }
}
