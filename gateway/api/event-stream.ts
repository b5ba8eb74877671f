// Server-sent events: what a follower reads, written to one HTTP response as fast as its client takes it.
// Guarantees: events in order and without a gap, or the stream ends with a comment that says so. A client that takes
// nothing for `stallMs` is dropped: nothing is queued for it beyond one read and the socket's own buffer.
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { type EventFilter, matches } from '../events/event-filter.js';
import type { EventFollower } from '../events/event-follower.js';

export interface StreamTiming {
  /** A comment this often keeps proxies and clients sure that the stream lives. */
  heartbeatMs: number;
  stallMs: number;
}

/** Sent to clients: how long to wait before they connect again, in milliseconds. */
const RETRY_MS = 2_000;

export class EventStream {
  readonly #response: ServerResponse;
  readonly #follower: EventFollower;
  readonly #filter: EventFilter;
  readonly #timing: StreamTiming;
  #lastWriteMs = Date.now();

  constructor(response: ServerResponse, follower: EventFollower, filter: EventFilter, timing: StreamTiming) {
    this.#response = response;
    this.#follower = follower;
    this.#filter = filter;
    this.#timing = timing;
  }

  /** Resolves when the stream is over, whoever ended it; never rejects. */
  async run(firstComment: string): Promise<void> {
    const response = this.#response;
    response.on('close', () => this.#follower.close());
    response.on('error', () => this.#follower.close());
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    const heartbeat = setInterval(() => this.#heartbeat(), this.#timing.heartbeatMs);
    try {
      await this.#write(`retry: ${RETRY_MS}\n: ${firstComment}\n\n`);
      await this.#forward();
    } finally {
      clearInterval(heartbeat);
      this.#follower.close();
      await this.#finish();
    }
  }

  async #forward(): Promise<void> {
    let resumed = true;
    while (!this.#response.destroyed) {
      const next = await this.#follower.next();
      if (next === null) {
        return;
      }
      if (next.missed > 0 && !resumed) {
        await this.#write(`: dropped: this client is too slow and missed ${next.missed} events\n\n`);
        return;
      }
      let text = next.missed > 0 ? `: ${next.missed} events before ${next.events[0].id} are no longer kept\n\n` : '';
      resumed = false;
      for (const event of next.events) {
        if (matches(event, this.#filter)) {
          text += `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`;
        }
      }
      if (text !== '' && !(await this.#write(text))) {
        return;
      }
    }
  }

  /** False: the client is gone or was dropped because it took nothing. */
  async #write(text: string): Promise<boolean> {
    const response = this.#response;
    if (response.destroyed) {
      return false;
    }
    this.#lastWriteMs = Date.now();
    if (response.write(text)) {
      return true;
    }
    const patience = AbortSignal.timeout(this.#timing.stallMs);
    const gone = new AbortController();
    const onClose = () => gone.abort();
    response.once('close', onClose);
    try {
      await once(response, 'drain', { signal: AbortSignal.any([patience, gone.signal]) });
      return true;
    } catch {
      response.destroy();
      return false;
    } finally {
      response.off('close', onClose);
    }
  }

  #heartbeat(): void {
    const quiet = Date.now() - this.#lastWriteMs >= this.#timing.heartbeatMs;
    if (quiet && !this.#response.writableNeedDrain && !this.#response.destroyed) {
      this.#lastWriteMs = Date.now();
      this.#response.write(': heartbeat\n\n');
    }
  }

  /** Ends the response; a client that does not even take the end is cut off. */
  async #finish(): Promise<void> {
    const response = this.#response;
    if (response.destroyed) {
      return;
    }
    const timer = setTimeout(() => response.destroy(), this.#timing.stallMs);
    response.end();
    if (!response.closed) {
      await once(response, 'close').catch(() => {});
    }
    clearTimeout(timer);
  }
}
