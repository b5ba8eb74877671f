// How the demo sees the gateway: through its API, as anybody would. Waits are bounded; while it waits it tells the
// gateway's own events of the kinds that belong to the story.
import { type Clock, sleep } from '../../replication/world.js';
import type { ApiClient } from '../cli/api-client.js';
import type { ForestallEvent, VolumeView } from '../control.js';
import type { Narrator } from './narrator.js';
import { VOLUME } from './pace.js';

const POLL_MS = 100;
const TOLD = ['placement.chosen', 'volume.flipped', 'target.freed', 'target.lost', 'protection.transition', 'protection.exposed'];

export class Watch {
  readonly #api: ApiClient;
  readonly #clock: Clock;
  readonly #narrator: Narrator;
  readonly events: ForestallEvent[] = [];
  #latest = 0;

  constructor(api: ApiClient, clock: Clock, narrator: Narrator) {
    this.#api = api;
    this.#clock = clock;
    this.#narrator = narrator;
  }

  volume(): Promise<VolumeView> {
    return this.#api.get<VolumeView>(`/v1/volumes/${VOLUME}`);
  }

  /** Tells what happened since it was last asked. */
  async catchUp(): Promise<void> {
    const { events } = await this.#api.get<{ events: ForestallEvent[] }>(`/v1/events?since=${this.#latest}&limit=1000`);
    for (const event of events) {
      this.#latest = event.id;
      this.events.push(event);
      if (TOLD.some((type) => event.type.startsWith(type))) this.#narrator.quote(event.message);
    }
  }

  /** Asks until the answer is right; rejects when it is not within `timeoutMs`, and says what was waited for. */
  async until<T>(what: string, timeoutMs: number, ask: () => Promise<T>, right: (answer: T) => boolean): Promise<T> {
    const deadlineMs = this.#clock.nowMs() + timeoutMs;
    for (;;) {
      await this.catchUp();
      const answer = await ask();
      if (right(answer)) {
        await this.catchUp();
        return answer;
      }
      if (this.#clock.nowMs() > deadlineMs) throw new Error(`waited ${timeoutMs / 1000} s in vain: ${what}`);
      await sleep(this.#clock, POLL_MS);
    }
  }

  untilVolume(what: string, timeoutMs: number, right: (volume: VolumeView) => boolean): Promise<VolumeView> {
    return this.until(what, timeoutMs, () => this.volume(), right);
  }

  /** Lets time pass, telling what happens. */
  async pass(durationMs: number): Promise<void> {
    const untilMs = this.#clock.nowMs() + durationMs;
    while (this.#clock.nowMs() < untilMs) {
      await this.catchUp();
      await sleep(this.#clock, Math.min(POLL_MS, Math.max(1, untilMs - this.#clock.nowMs())));
    }
  }
}
