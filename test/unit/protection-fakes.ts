// What protection is tested against: a clock that waits for what each timer starts, records and a volume in memory.
// The volume does what it is told, or refuses or waits when a test says so; it asserts what no caller may do.
import assert from 'node:assert/strict';
import {
  type FlipCertificate,
  type MirrorState,
  type MirrorView,
  type Outcome,
  refuse,
  type ScrubReport,
  type TargetRef,
  type VolumeControl,
  type VolumeFact,
} from '../../gateway/control.js';
import { describeTarget, sameTarget } from '../../gateway/protection/situation.js';
import type { WardPolicy } from '../../gateway/protection/world.js';
import type { Change, Clock, RecordKey, Records, RecordValue, Timer } from '../../replication/world.js';

const START_MS = Date.parse('2026-01-01T00:00:00Z');

/** Stands still until told; lets everything settle between two timers. */
export class SettlingClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; run: () => void }[] = [];
  /** As real ones may: timers fire a millisecond before their time, which comes before anything else is done. */
  early = false;
  /** By so much it was set while time passed; negative: back. */
  setMs = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return START_MS + this.#nowMs + this.setMs;
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, run };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Lets `ms` pass; what each timer starts has run before the next fires. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      const next = this.#timers.filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs - (this.early ? 1 : 0));
      next.run();
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      await settle();
    }
    this.#nowMs = endMs;
    await settle();
  }
}

/** Everything that can go on without time passing has done so. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export class MemoryRecords implements Records {
  readonly map = new Map<RecordKey, string>();
  failing: string | null = null;
  appliesWhatFails = false;

  get(key: RecordKey): RecordValue | undefined {
    const text = this.map.get(key);
    return text === undefined ? undefined : JSON.parse(text);
  }

  *list(prefix: string): Iterable<[RecordKey, RecordValue]> {
    for (const key of [...this.map.keys()].sort()) if (key.startsWith(prefix)) yield [key, this.get(key)];
  }

  /** What a restart finds; what the old process still writes is lost. */
  copy(): MemoryRecords {
    const copy = new MemoryRecords();
    for (const [key, text] of this.map) copy.map.set(key, text);
    return copy;
  }

  async commit(changes: Change[]): Promise<void> {
    await Promise.resolve();
    for (const change of this.failing === null || this.appliesWhatFails ? changes : []) {
      if ('put' in change) this.map.set(change.put, JSON.stringify(change.value));
      else this.map.delete(change.remove);
    }
    if (this.failing !== null) throw new Error(this.failing);
  }
}

export function policy(change: Record<string, unknown> = {}): WardPolicy {
  const { standing = 0, onPrediction = 1, automatic = true, afterSyncedMs = 0, observeMs = 86_400_000 } = change;
  const { onFalseAlarm = 'flip-back', afterMirror = true, everyMs = 604_800_000, threshold = 'adaptive' } = change;
  return {
    name: `${threshold}`,
    mirror: { standing, onPrediction },
    flip: { automatic, afterSyncedMs },
    rollback: { observeMs, onFalseAlarm },
    scrub: { afterMirror, everyMs },
    copy: { bytesPerSecond: 100 * 2 ** 20 },
  } as WardPolicy;
}

/** Calls that can be made to wait; `told`: a flip is committed, and is not told yet. */
type Held = 'add' | 'remove' | 'flip' | 'told' | 'scrub';

export class FakeVolume implements VolumeControl {
  epoch = 0;
  views: MirrorView[] = [];
  fact: (fact: VolumeFact) => void = () => {};
  /** What the next calls answer; null: they succeed. */
  refuses: { add: string | null; remove: string | null; flip: string | null; scrub: string | null } = {
    add: null,
    remove: null,
    flip: null,
    scrub: null,
  };
  /** A call that is to wait until it is let go. */
  held: Partial<Record<Held, () => void>> = {};
  holds = new Set<Held>();
  damage: 'none' | 'repaired' | 'lasting' = 'none';
  scrubs = 0;
  policy = policy();
  priority = 100;

  constructor(
    readonly name: string,
    readonly sizeBytes: number,
    public active: TargetRef,
    readonly clock: Clock,
  ) {}

  mirrors(): MirrorView[] {
    return this.views.map((view) => ({ ...view }));
  }

  /** A mirror is durably begun. */
  begun: (target: TargetRef) => void = () => {};

  async addMirror(target: TargetRef): Promise<Outcome<MirrorView>> {
    await this.#wait('add');
    if (this.refuses.add !== null) return refuse('target-unusable', this.refuses.add);
    assert(!sameTarget(target, this.active), 'a mirror on the active target');
    assert(!this.views.some((view) => sameTarget(view, target)), 'a mirror twice');
    const view = this.view(target, 'copying', false);
    this.views.push(view);
    this.begun(target);
    return { ok: true, value: { ...view } };
  }

  async removeMirror(target: TargetRef): Promise<Outcome<TargetRef>> {
    await Promise.resolve();
    await this.#wait('remove');
    if (!this.views.some((view) => sameTarget(view, target))) return refuse('no-such-mirror', `no mirror on ${describeTarget(target)}`);
    if (this.refuses.remove !== null) return refuse('busy', this.refuses.remove);
    this.views = this.views.filter((view) => !sameTarget(view, target));
    return { ok: true, value: target };
  }

  async flip(
    to: TargetRef,
    cause: { reason: string; verdict: string | null; kind: 'flip' | 'rollback' },
  ): Promise<Outcome<FlipCertificate>> {
    await this.#wait('flip');
    if (this.refuses.flip !== null) return refuse('deadline', this.refuses.flip);
    const view = this.views.find((other) => sameTarget(other, to));
    if (view?.state !== 'synced') return refuse('mirror-not-synced', `${describeTarget(to)} is ${view?.state ?? 'no mirror'}`);
    const certificate = this.move(to, cause.kind, 'synced', cause.reason);
    if (this.holds.has('told')) await this.#wait('told');
    this.fact({ type: 'flipped', certificate });
    return { ok: true, value: certificate };
  }

  async scrub(): Promise<Outcome<ScrubReport>> {
    this.scrubs += 1;
    const startedAt = new Date(this.clock.wallMs()).toISOString();
    await this.#wait('scrub');
    if (this.refuses.scrub !== null) return refuse('busy', this.refuses.scrub);
    const mismatch = { offset: 0, lengthBytes: 65536, wrong: 'b', repaired: this.damage === 'repaired', reason: 'planted' };
    const report: ScrubReport = {
      volume: this.name,
      startedAt,
      finishedAt: new Date(this.clock.wallMs()).toISOString(),
      state: 'done',
      comparedBytes: this.sizeBytes,
      totalBytes: this.sizeBytes,
      mismatches: this.damage === 'none' ? [] : [mismatch],
      bytesPerSecond: 1,
    };
    this.fact({ type: 'scrub-finished', report });
    return { ok: true, value: report };
  }

  /** What the volume layer does at a commit. */
  move(to: TargetRef, kind: FlipCertificate['kind'], reverse: MirrorState, cause: string): FlipCertificate {
    const from = this.active;
    this.epoch += 1;
    this.active = to;
    this.views = [...this.views.filter((view) => !sameTarget(view, to)), this.view(from, reverse, true)];
    const roots = { from: null, to: null, verifiedRegions: 0, unverifiedRegions: 0, oldestVerification: null };
    const at = new Date(this.clock.wallMs()).toISOString();
    return {
      volume: this.name,
      epoch: this.epoch,
      from,
      to,
      kind,
      at,
      pauseMs: 3,
      held: 0,
      drained: { inFlight: 0, queueBytes: 0 },
      dirtyRegions: 0,
      roots,
      cause,
      verdict: null,
    };
  }

  set(node: string, to: MirrorState, reason: string | null = null): void {
    const view = this.views.find((other) => other.node === node);
    assert(view, `${this.name} has no mirror on ${node}`);
    const from = view.state;
    view.state = to;
    this.fact({ type: 'mirror-state', target: { node, export: view.export }, from, to, reason });
  }

  view(target: TargetRef, state: MirrorState, reverse: boolean): MirrorView {
    const zero = { dirtyBytes: 0, lagBytes: 0, lagSeconds: 0, copyBytesPerSecond: 0 };
    return { ...target, state, reverse, copiedBytes: 0, etaSeconds: null, reason: null, ...zero };
  }

  async #wait(call: Held): Promise<void> {
    if (!this.holds.has(call)) return;
    await new Promise<void>((resolve) => {
      this.held[call] = resolve;
    });
  }
}
