// What a restart of the gateway takes up from the one before: which extents of a mirror may differ, and what that gateway's
// requests, which nobody can stop, may hit yet (rule 13).
import type { IntentLog } from '../../replication/intent-log.js';
import { type Clock, sleep, type Timer } from '../../replication/world.js';
import type { Copies, MirrorCopy } from './copies.js';
import type { Copy } from './copy.js';

export class Recovery {
  readonly #intents: IntentLog;
  readonly #copies: Copies;
  readonly #clock: Clock;
  readonly #fresh: boolean;
  readonly #startedMs: number;
  #timer: Timer | null = null;

  /** `fresh`: no gateway served the volume before. */
  constructor(options: { intents: IntentLog; copies: Copies; clock: Clock; fresh: boolean }) {
    this.#intents = options.intents;
    this.#copies = options.copies;
    this.#clock = options.clock;
    this.#fresh = options.fresh;
    this.#startedMs = options.clock.nowMs();
  }

  /** Something may have differed at the start that an earlier gateway's requests may hit yet. */
  get pending(): boolean {
    return this.#timer !== null;
  }

  /** Dirty after a restart: what its durable record says, and every extent that is marked. */
  markDirty(copy: MirrorCopy): void {
    const { extentBytes } = this.#intents;
    for (const extent of this.#lacking(copy)) copy.mirror.markDirty(extent * extentBytes, extentBytes);
  }

  /**
   * Requests of the gateway process before this one may still land in a plain node, on the active target or on top of what
   * is copied now. Once they cannot any more, whatever a mirror may have lacked at the start is copied again.
   */
  copyAgainLater(): void {
    const zombieMs = Math.max(...this.#copies.list.map((copy) => copy.upstream.zombieMs));
    const mirrors = this.#copies.mirrors.map((copy) => ({ mirror: copy.mirror, extents: this.#lacking(copy) }));
    if (zombieMs === 0 || mirrors.every(({ extents }) => extents.length === 0)) return;
    const { extentBytes } = this.#intents;
    const reason = `requests of the gateway before this one may still land for ${Math.ceil(zombieMs / 1000)} s`;
    for (const { mirror } of mirrors) mirror.distrust(reason);
    this.#timer = this.#clock.after(zombieMs, () => {
      this.#timer = null;
      for (const { mirror, extents } of mirrors) {
        for (const extent of extents)
          mirror.copyAgain(extent * extentBytes, Math.min(extentBytes, mirror.dirty.sizeBytes - extent * extentBytes));
        mirror.trust();
      }
    });
  }

  /** Extents of a mirror that may differ: those that are marked, and those of its own durable record. */
  #lacking(copy: MirrorCopy): number[] {
    const lacking: number[] = [];
    for (let extent = 0; extent < this.#intents.extents; extent += 1) {
      if (this.#intents.isMarked(extent) || copy.dirtyRecord!.has(extent)) lacking.push(extent);
    }
    return lacking;
  }

  /** Resolves when requests of an earlier gateway can no longer land in a copy, where nothing says what they may hit. */
  landed(copies: readonly Copy[]): Promise<void> {
    const zombieMs = this.#fresh ? 0 : Math.max(...copies.map(({ upstream }) => upstream.zombieMs));
    const leftMs = this.#startedMs + zombieMs - this.#clock.nowMs();
    return leftMs > 0 ? sleep(this.#clock, leftMs) : Promise.resolve();
  }

  close(): void {
    this.#timer?.cancel();
  }
}
