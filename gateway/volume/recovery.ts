// What a restart of the gateway takes up from the one before: which extents of a mirror may differ, and what that gateway's
// requests, which nobody can stop, may hit yet (rule 13).
import type { IntentLog } from '../../replication/intent-log.js';
import type { Clock, Timer } from '../../replication/world.js';
import type { Copies, MirrorCopy } from './copies.js';

export class Recovery {
  readonly #intents: IntentLog;
  readonly #copies: Copies;
  readonly #clock: Clock;
  readonly #sizeBytes: number;
  #timer: Timer | null = null;

  constructor(options: { intents: IntentLog; copies: Copies; clock: Clock; sizeBytes: number }) {
    this.#intents = options.intents;
    this.#copies = options.copies;
    this.#clock = options.clock;
    this.#sizeBytes = options.sizeBytes;
  }

  /** Something was marked at the start that an earlier gateway's requests may hit yet. */
  get pending(): boolean {
    return this.#timer !== null;
  }

  /** Dirty after a restart: what its durable record says, and every extent that is marked. */
  markDirty(copy: MirrorCopy): void {
    const { extentBytes, extents } = this.#intents;
    for (let extent = 0; extent < extents; extent += 1) {
      if (this.#intents.isMarked(extent) || copy.dirtyRecord!.has(extent)) copy.mirror.markDirty(extent * extentBytes, extentBytes);
    }
  }

  /**
   * Requests of the gateway process before this one may still land in a plain node, on the active target or on top of what
   * is copied now. Once they cannot any more, whatever was marked at the start is copied again.
   */
  copyAgainLater(): void {
    const zombieMs = Math.max(...this.#copies.list.map((copy) => copy.upstream.zombieMs));
    const { extentBytes, extents } = this.#intents;
    const marked: number[] = [];
    for (let extent = 0; extent < extents; extent += 1) if (this.#intents.isMarked(extent)) marked.push(extent);
    if (zombieMs === 0 || marked.length === 0) return;
    const reason = `requests of the gateway before this one may still land for ${Math.ceil(zombieMs / 1000)} s`;
    for (const { mirror } of this.#copies.mirrors) mirror.distrust(reason);
    this.#timer = this.#clock.after(zombieMs, () => {
      this.#timer = null;
      for (const { mirror } of this.#copies.mirrors) {
        for (const extent of marked) mirror.copyAgain(extent * extentBytes, Math.min(extentBytes, this.#sizeBytes - extent * extentBytes));
        mirror.trust();
      }
    });
  }

  close(): void {
    this.#timer?.cancel();
  }
}
