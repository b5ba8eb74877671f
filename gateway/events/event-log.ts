// What happened, in order: every event gets the next id, is kept durably in batches off the I/O path, and is then told
// to whoever follows. An event is visible only once it is durable, so that an id never means two things after a crash;
// if the records cannot be written, events are told all the same, kept in memory and written when that works again.
import type { ForestallEvent, NewEvent, EventSink } from '../control.js';
import type { Change, Clock, Log, Records, Timer } from '../../replication/world.js';
import type { EventQuery } from './event-filter.js';
import { EventFollower } from './event-follower.js';
import { EventHistory } from './event-history.js';

const KEY_PREFIX = 'event/';
const KEY_DIGITS = 16;
const HISTORY_MAX = 10_000;
const BATCH_EVENTS_MAX = 500;
/** Events of one burst are written in one commit. */
const GATHER_MS = 5;
/** A write that takes longer no longer holds back the telling. */
const WRITE_DEADLINE_MS = 2_000;
const RETRY_MS = 5_000;
const MESSAGE_CHARS_MAX = 2_000;
const DETAILS_CHARS_MAX = 8_192;

const LOG_LEVEL = { info: 'info', warning: 'warn', alert: 'error' } as const;

function keyOf(id: number): string {
  return KEY_PREFIX + String(id).padStart(KEY_DIGITS, '0');
}

/** A copy that the publisher can no longer change, of bounded size. */
function boundedDetails(details: Record<string, unknown> | undefined): Record<string, unknown> {
  if (details === undefined) {
    return {};
  }
  const text = JSON.stringify(details);
  return text.length <= DETAILS_CHARS_MAX ? JSON.parse(text) : { truncated: true, characters: text.length };
}

export interface EventPage {
  events: ForestallEvent[];
  /** Ids of the oldest event kept and of the newest; null when there is none. */
  oldest: number | null;
  latest: number | null;
}

export class EventLog implements EventSink {
  readonly #records: Records;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #historyMax: number;
  readonly #visible: EventHistory;
  /** Published, not yet visible. */
  #held: ForestallEvent[] = [];
  /** Not yet durable; the oldest fall out when the history would not keep them anyway. */
  #unwritten: ForestallEvent[] = [];
  #surplusKeys: string[] = [];
  #lastId = 0;
  /** The records cannot be written: events become visible at once. */
  #failing = false;
  #writing: Promise<void> | null = null;
  #pause: { timer: Timer; end: () => void } | null = null;
  #closed = false;
  readonly #waiting = new Set<() => void>();
  readonly #published = { info: 0, warning: 0, alert: 0 };

  /** Reads what is kept; throws what `records` throws. */
  constructor(records: Records, clock: Clock, log: Log, historyMax = HISTORY_MAX) {
    this.#records = records;
    this.#clock = clock;
    this.#log = log;
    this.#historyMax = historyMax;
    this.#visible = new EventHistory(historyMax);
    const stored = [...records.list(KEY_PREFIX)];
    const surplus = Math.max(0, stored.length - historyMax);
    this.#surplusKeys = stored.slice(0, surplus).map(([key]) => key);
    for (const [, value] of stored.slice(surplus)) {
      this.#visible.append(value as ForestallEvent);
    }
    this.#lastId = this.#visible.latestId ?? 0;
  }

  publish(event: NewEvent): void {
    const full: ForestallEvent = {
      id: ++this.#lastId,
      at: new Date(this.#clock.wallMs()).toISOString(),
      type: event.type,
      level: event.level,
      message: event.message.slice(0, MESSAGE_CHARS_MAX),
      volume: event.volume ?? null,
      node: event.node ?? null,
      labels: { ...event.labels },
      clients: [...(event.clients ?? [])],
      details: boundedDetails(event.details),
    };
    this.#published[full.level]++;
    this.#log[LOG_LEVEL[full.level]]({ event: full.type, volume: full.volume, node: full.node }, full.message);
    this.#held.push(full);
    this.#unwritten.push(full);
    if (this.#unwritten.length > this.#historyMax) {
      this.#unwritten.shift();
    }
    if (this.#failing || this.#closed) {
      this.#reveal(full.id);
    }
    if (this.#writing === null && !this.#closed) {
      this.#writing = this.#write();
    }
  }

  /** What is known of everything published before the call. */
  async history(query: EventQuery = {}): Promise<EventPage> {
    const upTo = this.#lastId;
    while (this.#held.length > 0 && this.#held[0].id <= upTo) {
      await new Promise<void>((resolve) => this.whenChanged(resolve));
    }
    return { events: this.#visible.query(query), oldest: this.#visible.oldestId, latest: this.#visible.latestId };
  }

  /** Follows from the event after id `after`; null: from now on. */
  follow(after: number | null): EventFollower {
    return new EventFollower(this, after === null || after > this.#lastId ? this.#lastId : after);
  }

  /** For followers: events above `id`, and the oldest id that is still kept. */
  after(id: number, max: number): { events: ForestallEvent[]; oldestId: number | null } {
    return { events: this.#visible.after(id, max), oldestId: this.#visible.oldestId };
  }

  get latestId(): number {
    return this.#lastId;
  }

  /** For the metrics: events since the start by level, and those that are not durable yet. */
  counters(): { info: number; warning: number; alert: number; unwritten: number } {
    return { ...this.#published, unwritten: this.#unwritten.length };
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls `run` once, when more events are visible or the log is closed. */
  whenChanged(run: () => void): void {
    this.#waiting.add(run);
  }

  /** Writes what can be written within the deadline, tells it, and lets every follower go. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#pause?.end();
    if (this.#writing !== null) {
      await this.#withinDeadline(this.#writing);
    }
    this.#reveal(this.#lastId);
    this.#wake();
  }

  async #write(): Promise<void> {
    await this.#sleep(GATHER_MS);
    let giveUp = false;
    while (this.#unwritten.length > 0 && !giveUp) {
      const batch = this.#unwritten.slice(0, BATCH_EVENTS_MAX);
      const lastId = batch[batch.length - 1].id;
      if (await this.#commit(batch)) {
        this.#failing = false;
        this.#unwritten = this.#unwritten.filter((event) => event.id > lastId);
        this.#reveal(lastId);
      } else {
        giveUp = this.#closed;
        await this.#sleep(RETRY_MS);
      }
    }
    // In the same step as the look at what is unwritten: a later publish starts the next write.
    this.#writing = null;
  }

  async #withinDeadline(work: Promise<void>): Promise<void> {
    let timer: Timer | undefined;
    const late = new Promise<void>((resolve) => {
      timer = this.#clock.after(WRITE_DEADLINE_MS, resolve);
    });
    await Promise.race([work, late]);
    timer?.cancel();
  }

  /** True: durable. False: it failed, and everything published is visible by now. */
  async #commit(batch: ForestallEvent[]): Promise<boolean> {
    const surplus = this.#surplusKeys;
    const changes: Change[] = surplus.map((remove) => ({ remove }));
    for (const event of batch) {
      changes.push({ put: keyOf(event.id), value: event });
      if (event.id > this.#historyMax) {
        changes.push({ remove: keyOf(event.id - this.#historyMax) });
      }
    }
    const deadline = this.#clock.after(WRITE_DEADLINE_MS, () => this.#fail('the write takes too long'));
    try {
      await this.#records.commit(changes);
      this.#surplusKeys = [];
      return true;
    } catch (error) {
      this.#fail((error as Error).message);
      return false;
    } finally {
      deadline.cancel();
    }
  }

  #fail(reason: string): void {
    if (!this.#failing) {
      this.#failing = true;
      this.#log.error({ reason, unwritten: this.#unwritten.length }, 'Events cannot be stored; they are kept in memory until they can.');
    }
    this.#reveal(this.#lastId);
  }

  #reveal(upToId: number): void {
    const count = this.#held.findIndex((event) => event.id > upToId);
    const shown = count === -1 ? this.#held : this.#held.slice(0, count);
    this.#held = count === -1 ? [] : this.#held.slice(count);
    for (const event of shown) {
      this.#visible.append(event);
    }
    if (shown.length > 0) {
      this.#wake();
    }
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const run of waiting) {
      run();
    }
  }

  async #sleep(delayMs: number): Promise<void> {
    if (this.#closed) {
      return;
    }
    await new Promise<void>((resolve) => {
      this.#pause = { timer: this.#clock.after(delayMs, resolve), end: resolve };
    });
    this.#pause?.timer.cancel();
    this.#pause = null;
  }
}
