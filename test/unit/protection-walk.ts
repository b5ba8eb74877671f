// Walks of the pure protection machine through a small world: a volume, four nodes, and orders that are answered well,
// badly or late. The world knows the truth (which copies exist), so that what the machine believes can be checked.
import assert from 'node:assert/strict';
import type { FlipCertificate, MirrorState, TargetRef } from '../../gateway/control.js';
import type { Effect, Fact, Transition, Wish } from '../../gateway/protection/input.js';
import { nextDueMs, request, type Stepped, step } from '../../gateway/protection/machine.js';
import {
  freshSituation,
  type ProtectionPolicy,
  type Situation,
  sameTarget,
  type Suspicion,
  wish,
} from '../../gateway/protection/situation.js';

export const NODES = ['a', 'b', 'c', 'd'];
const HOUR_MS = 3_600_000;

export function certificate(from: TargetRef, to: TargetRef, epoch: number, kind: FlipCertificate['kind'], atMs: number): FlipCertificate {
  const roots = { from: null, to: null, verifiedRegions: 0, unverifiedRegions: 0, oldestVerification: null };
  const drained = { inFlight: 0, queueBytes: 0 };
  const at = new Date(atMs).toISOString();
  return { volume: 'vol0', epoch, from, to, kind, at, pauseMs: 1, held: 0, drained, dirtyRegions: 0, roots, cause: kind, verdict: null };
}

export function suspicion(probability: number, origin: 'model' | 'outside', atMs: number): Suspicion {
  return { verdict: 'v1', probability, origin, atMs, failsAtMs: null, text: 'pending sectors rose' };
}

/** xorshift32: the same seed gives the same walk. */
export function random(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

export class Walk {
  situation: Situation;
  nowMs = Date.parse('2026-01-01T00:00:00Z');
  readonly policy: ProtectionPolicy;
  readonly transitions: Transition[] = [];
  /** The truth. */
  active: TargetRef = { node: 'a', export: 'vol0' };
  epoch = 0;
  mirrors: { target: TargetRef; state: MirrorState }[] = [];
  pending: Effect[] = [];
  /** Targets that were made and not given back. */
  made: TargetRef[] = [];
  /** Tickets of wishes that were taken up and not answered. */
  owed = new Set<number>();
  #names = 0;

  constructor(policy: ProtectionPolicy) {
    this.policy = policy;
    this.situation = freshSituation('vol0', this.active, 0, this.nowMs);
  }

  tell(fact: Fact): void {
    this.#take(step(this.situation, fact, this.nowMs, this.policy));
  }

  ask(wished: Wish): string {
    const stepped = request(this.situation, wished, this.nowMs, this.policy);
    if (stepped.taken.ok) this.owed.add(stepped.taken.value);
    this.#take(stepped);
    return stepped.taken.ok ? 'ok' : stepped.taken.code;
  }

  /** Carries out the oldest order, or fails it. */
  answer(well: boolean): void {
    const effect = this.pending.shift();
    if (effect) this.#answer(effect, well);
  }

  /** One random thing that may happen in the world. */
  stir(pick: (below: number) => number): void {
    const node = NODES[pick(NODES.length)];
    const mirror = this.mirrors[pick(Math.max(1, this.mirrors.length))];
    const chance = pick(20);
    if (chance < 7) this.answer(pick(4) > 0);
    else if (chance < 9)
      this.tell({ type: 'verdict-fired', node, suspicion: suspicion(0.5 + pick(50) / 100, pick(2) ? 'model' : 'outside', this.nowMs) });
    else if (chance < 10) this.tell({ type: 'verdict-cleared', node });
    else if (chance < 12) this.tell({ type: 'turn' });
    else if (chance < 14 && mirror) this.#stirMirror(mirror, pick);
    else if (chance < 15) this.#moveByItself(pick(4) === 0 ? 'rollback' : 'failover');
    else if (chance < 16) this.#wish(node, pick);
    else if (chance < 17) this.#scrubbed(pick(2) === 0);
    else this.pass([1000, 60_000, HOUR_MS, 25 * HOUR_MS][pick(4)]);
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.tell({ type: 'tick' });
  }

  /** The machine's picture must be one of this world. */
  check(): void {
    const s = this.situation;
    assert(!s.copies.some((copy) => sameTarget(copy.target, s.active)), 'the active target is no copy');
    const nodes = [s.active.node, ...s.copies.map((copy) => copy.target.node)];
    assert.equal(new Set(nodes).size, nodes.length, `a node twice: ${nodes}`);
    assert.equal(s.state === 'rolling-back', s.rollback !== null, 'rolling back and its order go together');
    if (s.state === 'flipping') assert(s.flip, 'flipping without an order');
    if (s.flip) assert(s.state === 'flipping' || s.state === 'rolling-back', `an order to flip in ${s.state}`);
    assert.deepEqual(s.active, this.active);
    assert.equal(s.epoch, this.epoch);
    if (s.choice && !s.choice.asked) assert.fail('a choice nobody was asked for');
  }

  /** Nothing bad happens any more: everything is answered well, copies complete, verdicts clear, time passes. */
  calmDown(): void {
    for (const node of NODES) this.tell({ type: 'verdict-cleared', node });
    for (let turn = 0; turn < 400; turn++) {
      for (const mirror of this.mirrors) if (mirror.state !== 'synced') this.#set(mirror, 'synced');
      const full = this.#freeNodes().length === 0;
      if (!full && wish(this.situation, this.policy, this.nowMs)) this.tell({ type: 'turn' });
      if (this.pending.length > 0) {
        this.answer(true);
        continue;
      }
      // Where nothing is free, it is tried for ever.
      const rest = full ? { ...this.situation, choiceRetry: null } : this.situation;
      const due = nextDueMs(rest, this.policy, this.nowMs);
      if (due === null) return;
      this.pass(due - this.nowMs);
    }
    assert.fail(`never calm: ${JSON.stringify(this.situation)}`);
  }

  #take(stepped: Stepped): void {
    this.situation = stepped.situation;
    this.transitions.push(...stepped.transitions);
    for (const effect of stepped.effects) {
      if (effect.type === 'free-target') this.#free(effect.target);
      else if (effect.type === 'answer') this.owed.delete(effect.ticket);
      else if (effect.type !== 'tell' && effect.type !== 'node-failed' && effect.type !== 'false-alarm') this.pending.push(effect);
    }
  }

  #free(target: TargetRef): void {
    assert(!sameTarget(target, this.active), `the active target ${target.node} is freed`);
    assert(!this.mirrors.some((mirror) => sameTarget(mirror.target, target)), `the mirror on ${target.node} is freed`);
    this.made = this.made.filter((other) => !sameTarget(other, target));
  }

  #answer(effect: Effect, well: boolean): void {
    switch (effect.type) {
      case 'choose-target':
        this.#choose(effect, well);
        break;
      case 'start-mirror':
        this.#start(effect, well);
        break;
      case 'drop-mirror':
        this.#drop(effect.target, well);
        break;
      case 'flip':
        this.#flip(effect, well);
        break;
      case 'scrub':
        this.#scrub(well);
        break;
      default:
        assert.fail(effect.type);
    }
  }

  #drop(target: TargetRef, well: boolean): void {
    if (sameTarget(target, this.active)) return;
    if (well) this.mirrors = this.mirrors.filter((mirror) => !sameTarget(mirror.target, target));
    this.tell(well ? { type: 'mirror-dropped', target } : { type: 'drop-refused', target, reason: 'busy' });
  }

  #flip({ ticket, to, kind }: Extract<Effect, { type: 'flip' }>, well: boolean): void {
    const ready = this.mirrors.find((mirror) => sameTarget(mirror.target, to))?.state === 'synced';
    if (well && ready) this.move(to, kind, 'synced');
    else this.tell({ type: 'flip-refused', ticket, code: 'deadline', reason: 'too slow' });
  }

  #choose({ ticket, origin, node }: Extract<Effect, { type: 'choose-target' }>, well: boolean): void {
    const free = this.#freeNodes().find((id) => node === null || node === id);
    if (!well || !free) {
      this.tell({ type: 'no-placement', ticket, reason: 'nothing is free' });
      return;
    }
    const target = { node: free, export: `vol0.${++this.#names}` };
    this.made.push(target);
    this.tell({ type: 'target-chosen', ticket, target, origin });
  }

  #freeNodes(): string[] {
    const taken = [this.active, ...this.mirrors.map(({ target }) => target), ...this.made].map((target) => target.node);
    return NODES.filter((id) => !taken.includes(id));
  }

  #start({ ticket, target }: Extract<Effect, { type: 'start-mirror' }>, well: boolean): void {
    const copy = this.situation.copies.find((other) => sameTarget(other.target, target));
    const stands = well && copy && copy.drop === null && this.situation.choice?.ticket === ticket;
    if (!stands) {
      this.tell({ type: 'mirror-refused', ticket, target, code: 'no', reason: 'not now' });
      return;
    }
    this.mirrors.push({ target, state: 'copying' });
    this.tell({ type: 'mirror-started', ticket, target });
  }

  #scrub(well: boolean): void {
    if (!well) {
      this.tell({ type: 'scrub-refused', reason: 'busy' });
      return;
    }
    this.#scrubbed(true);
  }

  #scrubbed(clean: boolean): void {
    const at = new Date(this.nowMs).toISOString();
    const wrong = { offset: 0, lengthBytes: 4096, wrong: 'b', repaired: false, reason: 'both differ' };
    const numbers = { comparedBytes: 1, totalBytes: 1, bytesPerSecond: 1, mismatches: clean ? [] : [wrong] };
    this.tell({ type: 'scrub-finished', report: { volume: 'vol0', startedAt: at, finishedAt: at, state: 'done', ...numbers } });
  }

  move(to: TargetRef, kind: FlipCertificate['kind'], reverse: MirrorState): void {
    const from = this.active;
    this.epoch += 1;
    this.active = to;
    this.mirrors = [...this.mirrors.filter((mirror) => !sameTarget(mirror.target, to)), { target: from, state: reverse }];
    this.tell({ type: 'flip-done', certificate: certificate(from, to, this.epoch, kind, this.nowMs) });
  }

  #moveByItself(kind: 'failover' | 'rollback'): void {
    const ready = this.mirrors.find((mirror) => mirror.state === 'synced');
    if (ready) this.move(ready.target, kind, kind === 'failover' ? 'lost' : 'synced');
  }

  #stirMirror(mirror: Walk['mirrors'][number], pick: (below: number) => number): void {
    const to: MirrorState[] = ['copying', 'catching-up', 'synced', 'synced', 'synced', 'lost', 'failed'];
    this.#set(mirror, to[pick(to.length)]);
  }

  #set(mirror: Walk['mirrors'][number], to: MirrorState): void {
    mirror.state = to;
    this.tell({ type: 'mirror-state', target: mirror.target, to, reason: null });
  }

  #wish(node: string, pick: (below: number) => number): void {
    const wishes: Wish[] = [
      { type: 'operator-mirror', node: pick(2) ? node : null },
      { type: 'operator-drop', node },
      { type: 'operator-flip', node: pick(2) ? node : null },
      { type: 'operator-rollback' },
    ];
    this.ask(wishes[pick(wishes.length)]);
  }
}
