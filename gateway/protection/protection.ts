// Runs the protection machines of all volumes: hands them facts, verdicts and wishes, lets the planner decide whose turn
// it is to copy, wakes them when a time has come, and says at once which volume will not be gone in time. A thin shell:
// what to do is decided in machine.ts and planner.ts.
import assert from 'node:assert/strict';
import type { Timer } from '../../replication/world.js';
import {
  type FlipCertificate,
  type MirrorView,
  type Outcome,
  refuse,
  type ScrubReport,
  type TargetRef,
  type Verdict,
  type VolumeFact,
} from '../control.js';
import { formatBytes, formatDuration } from '../../config/units.js';
import { withClaims } from './claims.js';
import { EVACUATION_LIMITS, type EvacuationLimits, type Late, type Leaving, plan } from './planner.js';
import { sameTarget, type Situation, threat, wish } from './situation.js';
import { type ProtectionView, viewOf } from './view.js';
import { type Judgement, type ScrubQueue, Ward } from './ward.js';
import type { ProtectedVolume, ProtectionWorld } from './world.js';

/** Wall time may jump: no timer is trusted for longer. */
const LOOK_AGAIN_MS = 60_000;

/** What a rollback did. */
export interface RolledBack {
  volume: string;
  kind: 'mirrors-dropped' | 'flipped-back';
  dropped: TargetRef[];
  certificate: FlipCertificate | null;
}

export class Protection {
  readonly #world: ProtectionWorld;
  readonly #limits: EvacuationLimits;
  readonly #wards = new Map<string, Ward>();
  readonly #judgements = new Map<string, Judgement>();
  /** Volumes that were said to be late, with the time of failure they were told against. */
  readonly #late = new Map<string, number>();
  readonly #scrubs: ScrubQueue = oneAfterTheOther();
  #timer: Timer | null = null;
  #planned = false;
  #stopped = false;

  constructor(world: ProtectionWorld, limits: EvacuationLimits = EVACUATION_LIMITS) {
    assert(limits.perNode >= 1 && limits.inAll >= 1, 'at least one copy may be made at a time');
    this.#world = world;
    this.#limits = limits;
  }

  /** Takes a volume under protection, going on from its record. Verdicts in force must have been given before. */
  add(volume: ProtectedVolume): void {
    const { name } = volume.control;
    assert(!this.#wards.has(name), `${name} is protected already`);
    const candidates = () => withClaims(this.#world.candidates(), this.#wards.values());
    const hooks = { changed: () => this.#look(), scrubs: this.#scrubs, candidates };
    this.#wards.set(name, new Ward(volume, this.#world, this.#judgements.values(), hooks));
  }

  /** The volume is served no more; its record stays. */
  async remove(name: string): Promise<void> {
    const ward = this.#wards.get(name);
    this.#wards.delete(name);
    this.#late.delete(name);
    await ward?.stop();
  }

  /** What a volume tells. Facts of volumes that are not protected (any more) are of no interest. */
  fact(name: string, fact: VolumeFact): void {
    this.#wards.get(name)?.volumeFact(fact);
  }

  /** The judge's verdict over a node; `sinceMs`: since when it stands (wall time). */
  judged(verdict: Verdict, sinceMs: number): void {
    const judgement = { verdict, sinceMs };
    this.#judgements.set(verdict.node, judgement);
    for (const ward of this.#wards.values()) ward.judged(judgement);
  }

  /** Policies may have changed: everything is looked at again. */
  policiesChanged(): void {
    for (const ward of this.#wards.values()) {
      for (const judgement of this.#judgements.values()) ward.judged(judgement);
      ward.tell({ type: 'tick' });
    }
  }

  state(name: string): ProtectionView | undefined {
    const ward = this.#wards.get(name);
    return ward && viewOf(ward.situation);
  }

  /** Null: placement chooses. Resolves when copying has begun. */
  async operatorMirror(name: string, node: string | null): Promise<Outcome<MirrorView>> {
    const ward = this.#wards.get(name);
    if (!ward) return unknown(name);
    if (node !== null && !this.#world.candidates().some(({ id }) => id === node))
      return refuse('node-not-found', `there is no node ${node}`);
    const answer = await ward.ask({ type: 'operator-mirror', node });
    if (!answer.ok) return answer;
    const { target } = answer.value;
    const view = ward.volume.control.mirrors().find((mirror) => target !== null && sameTarget(mirror, target));
    return view ? { ok: true, value: view } : refuse('mirror-lost', `the mirror of ${name} was started and is gone again`);
  }

  async operatorDropMirror(name: string, node: string): Promise<Outcome<TargetRef>> {
    const ward = this.#wards.get(name);
    if (!ward) return unknown(name);
    const answer = await ward.ask({ type: 'operator-drop', node });
    if (!answer.ok) return answer;
    assert(answer.value.target, 'what was dropped is named');
    return { ok: true, value: answer.value.target };
  }

  /** Null: to the best complete mirror. */
  async operatorFlip(name: string, node: string | null): Promise<Outcome<FlipCertificate>> {
    const ward = this.#wards.get(name);
    if (!ward) return unknown(name);
    const answer = await ward.ask({ type: 'operator-flip', node });
    if (!answer.ok) return answer;
    assert(answer.value.certificate, 'a flip has a certificate');
    return { ok: true, value: answer.value.certificate };
  }

  /** Before a flip the mirrors made since are dropped; after it the volume goes back and the copy it left is dropped. */
  async rollback(name: string): Promise<Outcome<RolledBack>> {
    const ward = this.#wards.get(name);
    if (!ward) return unknown(name);
    const answer = await ward.ask({ type: 'operator-rollback' });
    if (!answer.ok) return answer;
    const { dropped, certificate } = answer.value;
    return { ok: true, value: { volume: name, kind: certificate ? 'flipped-back' : 'mirrors-dropped', dropped, certificate } };
  }

  /** One pass over every copy; resolves when it ends. */
  async scrub(name: string): Promise<Outcome<ScrubReport>> {
    const ward = this.#wards.get(name);
    if (!ward) return unknown(name);
    const scrubbed = await ward.volume.control.scrub('asked for by an operator');
    if (scrubbed.ok) ward.tell({ type: 'scrub-finished', report: scrubbed.value });
    return scrubbed;
  }

  /** Gives no further orders; resolves when those under way have ended (scrubs are not waited for). */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await Promise.all([...this.#wards.values()].map((ward) => ward.stop()));
  }

  /** Plans once for everything that changes in this turn of the event loop. */
  #look(): void {
    if (this.#planned || this.#stopped) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      if (this.#stopped) return;
      this.#plan();
      this.#wake();
    });
  }

  #wake(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const dues = [...this.#wards.values()].map((ward) => ward.nextDueMs()).filter((due) => due !== null);
    const nowMs = this.#world.clock.wallMs();
    if (dues.length === 0) return;
    this.#timer = this.#world.clock.after(Math.min(LOOK_AGAIN_MS, Math.max(1, Math.min(...dues) - nowMs)), () => this.#tick());
  }

  #tick(): void {
    this.#timer = null;
    for (const ward of this.#wards.values()) ward.tell({ type: 'tick' });
    this.#look();
  }

  #plan(): void {
    const nowMs = this.#world.clock.wallMs();
    const waiting: Leaving[] = [];
    const running: Leaving[] = [];
    for (const ward of this.#wards.values()) {
      const { situation, volume } = ward;
      const purpose = wish(situation, volume.policy(), nowMs);
      if (purpose) waiting.push(leaving(ward, purpose, volume.control.sizeBytes));
      running.push(...copying(ward));
    }
    const { start, late } = plan(waiting, running, nowMs, this.#limits);
    this.#sayLate(late, nowMs);
    for (const name of start) this.#wards.get(name)?.tell({ type: 'turn' });
  }

  #sayLate(late: Late[], nowMs: number): void {
    const named = new Set(late.map(({ volume }) => volume));
    for (const volume of this.#late.keys()) if (!named.has(volume)) this.#late.delete(volume);
    for (const { volume, node, completeAtMs, failsAtMs, remainingBytes, bytesPerSecond } of late) {
      if (this.#late.get(volume) === failsAtMs) continue;
      this.#late.set(volume, failsAtMs);
      const ends = formatDuration(Math.max(0, Math.round(completeAtMs - nowMs)));
      const fails = formatDuration(Math.max(0, Math.round(failsAtMs - nowMs)));
      this.#wards.get(volume)?.publish({
        type: 'protection.late',
        level: 'alert',
        message: `${volume} will not be gone in time: its copy (${formatBytes(remainingBytes)} at ${formatBytes(bytesPerSecond)}/s) is complete in ${ends}, ${node} is expected to fail in ${fails}.`,
        node,
        details: {
          completeAt: new Date(completeAtMs).toISOString(),
          failsAt: new Date(failsAtMs).toISOString(),
          remainingBytes,
          bytesPerSecond,
        },
      });
    }
  }
}

function unknown(name: string): Outcome<never> {
  return refuse('volume-not-found', `there is no volume ${name}`);
}

function leaving({ situation, volume }: Ward, purpose: Leaving['purpose'], remainingBytes: number, measured = 0): Leaving {
  return {
    volume: situation.volume,
    node: situation.active.node,
    purpose,
    priority: volume.priority(),
    remainingBytes,
    bytesPerSecond: Math.max(1, measured > 0 ? measured : volume.policy().copy.bytesPerSecond),
    failsAtMs: purpose === 'prediction' ? (threat(situation)?.failsAtMs ?? null) : null,
  };
}

/** Copies under way that count against the limits: not those an operator asked for. */
function copying(ward: Ward): Leaving[] {
  const { situation, volume } = ward;
  const purposeOf = (origin: string) => (origin === 'standing' && !threat(situation) ? 'standing' : 'prediction');
  const { choice } = situation;
  const found: Leaving[] = [];
  if (choice && choice.target === null && choice.origin !== 'operator')
    found.push(leaving(ward, purposeOf(choice.origin), volume.control.sizeBytes));
  for (const copy of situation.copies) {
    if (!isCopying(situation, copy)) continue;
    const view = volume.control.mirrors().find((mirror) => sameTarget(mirror, copy.target));
    const leftBytes = view ? Math.max(view.dirtyBytes, volume.control.sizeBytes - view.copiedBytes) : volume.control.sizeBytes;
    found.push(leaving(ward, purposeOf(copy.origin), leftBytes, view?.copyBytesPerSecond));
  }
  return found;
}

function isCopying(s: Situation, { state, origin, drop, target }: Situation['copies'][number]): boolean {
  const copies = state === 'starting' || state === 'copying' || state === 'catching-up';
  const isHome = s.home !== null && sameTarget(s.home.target, target);
  return copies && origin !== 'operator' && drop === null && !isHome;
}

/** A scrub after a flip does not wait for a regular one, which may take days. */
function oneAfterTheOther(): ScrubQueue {
  const last = { after: Promise.resolve(), regular: Promise.resolve() };
  return (after, run) => {
    const queue = after ? 'after' : 'regular';
    last[queue] = last[queue].then(run);
  };
}
