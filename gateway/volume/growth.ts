// Makes a volume larger while hosts go on. Every copy is large enough, and reads as zero in the new part, durably, before the
// one transaction that makes the volume larger; memory follows in the same turn. So no host reads there what somebody
// else left behind, copies are alike from the start, and a crash before leaves copies that are larger than they need be.
import { OP, PromisedRequest, perform } from '../../replication/device.js';
import type { IntentLog } from '../../replication/intent-log.js';
import { hold } from '../../replication/range-lock.js';
import type { RegionSums } from '../../replication/region-sums.js';
import { type Change, type Clock, sleep, within } from '../../replication/world.js';
import { type Outcome, refuse, type TargetRef, type VolumeFact } from '../control.js';
import type { Copies } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import type { IoPath } from './io-path.js';
import type { RecordKeeper } from './record-keeper.js';
import { scrubKey } from './scrub-record.js';
import type { Scrubbing } from './scrubbing.js';

/** Zeroed at a time: no longer for a node than what a mirror's copy sends at once. */
const PIECE_BYTES = 8 * 1024 * 1024;
const CONNECT_MS = 10_000;
const CONNECT_POLL_MS = 5;
const ANSWER_MS = 30_000;

/** Makes a target at least this large on its node, durably; where only its owner can do that, it does nothing. */
export type Enlarge = (target: TargetRef, sizeBytes: number) => Promise<Outcome<unknown>>;

export interface GrowthOptions {
  volume: string;
  copies: Copies;
  keeper: RecordKeeper;
  path: IoPath;
  intents: IntentLog;
  sums: RegionSums;
  scrubbing: Scrubbing;
  clock: Clock;
  /** A flip or failover is under way. */
  flipping(): boolean;
  /** Resolves when nothing that an earlier gateway sent can land in these copies any more. */
  landed(copies: readonly Copy[]): Promise<void>;
  fact(fact: VolumeFact): void;
}

export class Growth {
  readonly #options: GrowthOptions;

  constructor(options: GrowthOptions) {
    this.#options = options;
  }

  /** To more than it has. Resolves when it is durable; hosts that attach from then on see it. Refused, it is as large as before. */
  async grow(sizeBytes: number, enlarge: Enlarge): Promise<Outcome<null>> {
    const { copies, scrubbing, landed } = this.#options;
    const { list } = copies;
    const differ = scrubbing.refusal();
    if (differ !== null) return differ;
    const kept = list.filter(isKept);
    const there = this.#allThere(kept);
    if (there !== null) return there;
    for (const copy of list) {
      const enlarged = await enlarge(copy.target, sizeBytes);
      // One that was given up is of no use before it is dropped; if it stays too small it says so.
      if (!enlarged.ok && isKept(copy)) return enlarged;
    }
    const flaw =
      (await this.#see(kept, sizeBytes)) ??
      // What a gateway that was killed in a growth has sent would undo what is written there after this one.
      (await landed(list).then(() => this.#moved(list))) ??
      (await this.#zero(list, kept, sizeBytes)) ??
      (await scrubbing.beforeGrowth());
    return flaw ?? this.#commit(list, kept, sizeBytes);
  }

  /** Not null: it is no time to grow. */
  #moved(list: readonly Copy[]): Outcome<never> | null {
    const { volume, copies, flipping } = this.#options;
    if (copies.closed) return refuse('closing', `${volume} is shutting down`);
    if (copies.list === list && !flipping()) return null;
    return refuse('busy', `the copies of ${volume} changed while it was to grow: try again`);
  }

  #allThere(kept: readonly Copy[]): Outcome<never> | null {
    const { volume } = this.#options;
    const away = kept.filter(({ upstream }) => !upstream.ready);
    if (away.length === 0) return null;
    const which = away.map(({ target, upstream }) => `${describeTarget(target)} (${upstream.reason})`).join(', ');
    return refuse('copy-unreachable', `every copy of ${volume} must answer for it to grow: wait for ${which}, or drop that mirror`, {
      copies: away.map(({ target }) => target),
    });
  }

  /** Connects anew where a target's size was not seen since it became larger. Not null: some are too small, or do not answer. */
  async #see(kept: readonly Copy[], sizeBytes: number): Promise<Outcome<never> | null> {
    const { volume } = this.#options;
    for (const copy of kept) {
      if (sizeOf(copy) < sizeBytes) await this.#connectAnew(copy);
    }
    const there = this.#allThere(kept);
    if (there !== null) return there;
    const small = kept.filter((copy) => sizeOf(copy) < sizeBytes);
    if (small.length === 0) return null;
    const which = small.map((copy) => `${describeTarget(copy.target)} has ${sizeOf(copy)} bytes`).join(', ');
    return refuse('copies-too-small', `${volume} cannot have ${sizeBytes} bytes: ${which}; make these exports larger, then try again`, {
      copies: small.map((copy) => ({ ...copy.target, sizeBytes: sizeOf(copy) })),
    });
  }

  async #connectAnew({ upstream }: Copy): Promise<void> {
    const { clock } = this.#options;
    // There is less to send again then.
    await within(clock, CONNECT_MS, perform(upstream, new PromisedRequest(OP.FLUSH, 0, 0)));
    upstream.renew('its size is looked at anew');
    const untilMs = clock.nowMs() + CONNECT_MS;
    while ((upstream.renewing || !upstream.ready) && clock.nowMs() < untilMs) await sleep(clock, CONNECT_POLL_MS);
  }

  /** Every byte of the new part reads as zero on every copy, and goes on to. */
  async #zero(list: readonly Copy[], kept: readonly Copy[], sizeBytes: number): Promise<Outcome<never> | null> {
    const { clock, sums } = this.#options;
    for (let at = sums.sizeBytes; at < sizeBytes; at += PIECE_BYTES) {
      const flaw = (await this.#zeroPiece(kept, at, Math.min(PIECE_BYTES, sizeBytes - at))) ?? this.#moved(list);
      if (flaw !== null) return flaw;
    }
    for (const { target, upstream } of kept) {
      const errno = await within(clock, ANSWER_MS, perform(upstream, new PromisedRequest(OP.FLUSH, 0, 0)));
      if (errno !== 0) return unfit(target, 'flush', errno);
    }
    return this.#moved(list);
  }

  /** What is late may come when the volume has grown in another try: hosts' writes there wait until it has. */
  async #zeroPiece(kept: readonly Copy[], offset: number, length: number): Promise<Outcome<never> | null> {
    const { clock, path } = this.#options;
    const holding = hold(path.lock, offset, length);
    const entry = await within(clock, ANSWER_MS, holding);
    if (entry === undefined) {
      void holding.then((late) => path.lock.release(late));
      return refuse('copy-unreachable', `zeroes of an earlier try to grow ${this.#options.volume} are still under way: try again later`);
    }
    const zeroed = kept.map(({ upstream }) => {
      const request = new PromisedRequest(OP.ZEROES, offset, length);
      request.punch = true;
      return perform(upstream, request);
    });
    void Promise.all(zeroed).then(() => path.lock.release(entry));
    const answers = await Promise.all(zeroed.map((answer) => within(clock, ANSWER_MS, answer)));
    const wrong = answers.findIndex((errno) => errno !== 0);
    return wrong < 0 ? null : unfit(kept[wrong].target, 'zero its new part', answers[wrong]);
  }

  async #commit(list: readonly Copy[], kept: readonly Copy[], sizeBytes: number): Promise<Outcome<null>> {
    const { volume, keeper, path, intents, sums, scrubbing, copies, fact } = this.#options;
    const from = sums.sizeBytes;
    const short = from % sums.regionBytes > 0;
    const last = Math.floor(from / sums.regionBytes);
    // Nobody learns anything of a region that is about to be another.
    const entry = short ? await hold(path.lock, last * sums.regionBytes, sums.regionBytes) : null;
    const extents = Math.ceil(sizeBytes / intents.extentBytes);
    let flaw: Outcome<never> | null = null;
    try {
      await keeper.change((current) => {
        flaw = this.#moved(list) ?? scrubbing.openIn(last);
        if (flaw !== null) throw new Error('it is no time to grow');
        const changes: Change[] = short ? [...sums.retract(last), { remove: scrubKey(volume) }] : [{ remove: scrubKey(volume) }];
        for (const copy of copies.mirrors) {
          const dirtyRecord = copy.dirtyRecord!;
          dirtyRecord.grow(extents);
          if (!kept.includes(copy)) changes.push(...dirtyRecord.add(extentsFrom(from, extents, intents)));
        }
        return { record: { ...current, sizeBytes }, changes, durable: () => this.#grown(kept, sizeBytes) };
      });
    } catch (error) {
      if (flaw !== null) return flaw;
      const reason = (error as Error).message;
      return refuse('store-unwritable', `that ${volume} is larger cannot be written down, so it is as large as before: ${reason}`);
    } finally {
      if (entry !== null) path.lock.release(entry);
    }
    fact({ type: 'grown', from, sizeBytes });
    return { ok: true, value: null };
  }

  /** It is durable. */
  #grown(kept: readonly Copy[], sizeBytes: number): void {
    const { copies, intents, sums, scrubbing } = this.#options;
    intents.grow(sizeBytes);
    for (const copy of copies.list) {
      copy.upstream.require(sizeBytes);
      copy.mirror?.grow(sizeBytes, kept.includes(copy));
    }
    sums.grow(sizeBytes);
    scrubbing.grown();
  }
}

/** It was not given up: what it holds counts. */
function isKept({ mirror }: Copy): boolean {
  return mirror === null || mirror.condition !== 'failed';
}

function sizeOf({ upstream }: Copy): number {
  return upstream.features?.sizeBytes ?? 0;
}

function extentsFrom(offset: number, extents: number, { extentBytes }: IntentLog): number[] {
  const first = Math.floor(offset / extentBytes);
  return Array.from({ length: extents - first }, (_, at) => first + at);
}

function unfit(target: TargetRef, what: string, errno: number | undefined): Outcome<never> {
  const why = errno === undefined ? `did not ${what} within ${ANSWER_MS / 1000} s` : `refused to ${what} (error ${errno})`;
  return refuse('copy-unfit', `${describeTarget(target)} ${why}: the volume stays as it is`, { target, errno: errno ?? null });
}
