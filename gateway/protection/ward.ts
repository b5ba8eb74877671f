// One volume under protection: holds its machine's situation, writes it down before anything is done because of it, and
// carries out the effects one after the other. A step is taken at once, when its fact comes; only what it orders waits.
// It decides nothing itself.
import type { NewEvent, Outcome, PolicyVerdict, Verdict, VolumeFact } from '../control.js';
import { refuse } from '../control.js';
import type { NodeFacts } from '../placement/node-facts.js';
import { ClockSteps, moved } from './clock-steps.js';
import { chooseTarget, dropMirror, type EffectOf, type Errand, flip, freeTarget, scrub, startMirror, teach } from './errands.js';
import type { Answer, Effect, Fact, Transition, Wish } from './input.js';
import { nextDueMs, request, type Stepped, step } from './machine.js';
import { decodeRecord, encodeRecord, recordKey } from './record.js';
import { resume } from './resume.js';
import { type Situation, type Suspicion, threat } from './situation.js';
import type { ProtectedVolume, ProtectionWorld } from './world.js';

/** A verdict whose probability moved less is no news. */
const PROBABILITY_STEP = 0.05;
/** Transitions people should look at. */
const WARNING_STATES: ReadonlySet<string> = new Set(['suspect', 'flipped', 'rolling-back']);

/** A verdict, and since when it stands: an outside one since it was given, a model's since it fires. */
export interface Judgement {
  verdict: Verdict;
  sinceMs: number;
}

/** Scrubs run beside everything else, in two queues of the whole gateway: those after a flip, and the regular ones. */
export type ScrubQueue = (after: boolean, run: () => Promise<void>) => void;

export class Ward {
  readonly volume: ProtectedVolume;
  /** The node on which a target is being made for it. */
  promised: string | null = null;
  #situation: Situation;
  /** Wall time of the newest step: what was due by then has been done. */
  #steppedMs: number;
  readonly #world: ProtectionWorld;
  /** Something changed that the planner and the clock should know. */
  readonly #changed: () => void;
  readonly #scrubs: ScrubQueue;
  readonly #errand: Errand;
  readonly #clockSteps: ClockSteps;
  readonly #answers = new Map<number, (outcome: Outcome<Answer>) => void>();
  #stored = '';
  /** The record as the last step left it is durable, or it could not be written. */
  #written: Promise<void> = Promise.resolve();
  #jobs: (() => Promise<void>)[] = [];
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(
    volume: ProtectedVolume,
    world: ProtectionWorld,
    judgements: Iterable<Judgement>,
    hooks: { changed: () => void; scrubs: ScrubQueue; candidates: () => NodeFacts[] },
  ) {
    this.volume = volume;
    this.#world = world;
    this.#clockSteps = new ClockSteps(world.clock);
    this.#changed = hooks.changed;
    this.#scrubs = hooks.scrubs;
    this.#errand = {
      world,
      volume,
      situation: () => this.#situation,
      candidates: hooks.candidates,
      promise: (node) => {
        this.promised = node;
      },
      refusals: new Map(),
    };
    const { control } = volume;
    const seen = { active: control.active, epoch: control.epoch, mirrors: control.mirrors() };
    const doubts = this.#doubts(judgements);
    this.#steppedMs = world.clock.wallMs();
    const stepped = resume(control.name, this.#recall(), seen, doubts, volume.policy(), this.#steppedMs);
    this.#situation = stepped.situation;
    this.#take(stepped);
  }

  get situation(): Situation {
    return this.#situation;
  }

  /** Wall time at which `tick` should be called, or should have been meanwhile; null: only facts change anything. */
  nextDueMs(): number | null {
    this.#now();
    return nextDueMs(this.#situation, this.volume.policy(), this.#steppedMs);
  }

  tell(fact: Fact): void {
    if (this.#stopped) return;
    this.#steppedMs = this.#now();
    this.#take(step(this.#situation, fact, this.#steppedMs, this.volume.policy()));
  }

  /** What the volume itself tells. */
  volumeFact(fact: VolumeFact): void {
    switch (fact.type) {
      case 'flipped':
        this.tell({ type: 'flip-done', certificate: fact.certificate });
        this.tell({ type: 'mirrors-seen', mirrors: this.volume.control.mirrors() });
        return;
      case 'mirror-state':
        this.tell({ type: 'mirror-state', target: fact.target, to: fact.to, reason: fact.reason });
        return;
      case 'journal-state':
      case 'journal-replayed':
      case 'unmarked':
      case 'lost':
      case 'grown':
        return;
      default:
        this.tell(fact);
    }
  }

  judged({ verdict, sinceMs }: Judgement): void {
    const before: Suspicion | undefined = this.#situation.doubts[verdict.node];
    if (!this.#concerns(verdict)) {
      if (before) this.tell({ type: 'verdict-cleared', node: verdict.node });
      return;
    }
    const suspicion = suspicionOf({ verdict, sinceMs }, this.volume.policy().name, before);
    if (before && !isNews(suspicion, before)) return;
    this.tell({ type: 'verdict-fired', node: verdict.node, suspicion });
  }

  /** Resolves when the wish is fulfilled or refused. */
  ask(wish: Wish): Promise<Outcome<Answer>> {
    if (this.#stopped) return Promise.resolve(refuse('shutting-down', 'the gateway is shutting down'));
    const nowMs = this.#now();
    const stepped = request(this.#situation, wish, nowMs, this.volume.policy());
    const { taken } = stepped;
    if (!taken.ok) return Promise.resolve(taken);
    this.#steppedMs = nowMs;
    return new Promise((resolve) => {
      this.#answers.set(taken.value, resolve);
      this.#take(stepped);
    });
  }

  publish(event: NewEvent): void {
    this.#world.events.publish({
      volume: this.volume.control.name,
      labels: this.volume.labels(),
      clients: this.volume.clients(),
      ...event,
    });
  }

  /** No further orders; resolves when the one under way has ended. Who still waits is told. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#jobs = [];
    await this.#running;
    await this.#written;
    const refusal = refuse('shutting-down', 'the gateway is shutting down before this is done: look again after its restart');
    for (const resolve of this.#answers.values()) resolve(refusal);
    this.#answers.clear();
  }

  /** Wall time, with the situation as it is by it. */
  #now(): number {
    const { clock, log } = this.#world;
    const stepMs = this.#clockSteps.take();
    if (stepMs !== 0) {
      log.warn({ volume: this.volume.control.name, stepMs }, 'the clock of this machine was set: what protection waits for moves with it');
      this.#situation = moved(this.#situation, stepMs);
      this.#steppedMs += stepMs;
    }
    return clock.wallMs();
  }

  #recall() {
    const { records, log } = this.#world;
    const { name } = this.volume.control;
    const value = records.get(recordKey(name));
    if (value === undefined) return null;
    const record = decodeRecord(value);
    if (record.ok) return record.value;
    log.error({ volume: name, reason: record.message }, "protection's record cannot be used; it starts from what the volume says");
    return null;
  }

  #doubts(judgements: Iterable<Judgement>): Record<string, Suspicion> {
    const doubts: Record<string, Suspicion> = {};
    for (const judgement of judgements) {
      const { verdict } = judgement;
      if (this.#concerns(verdict)) doubts[verdict.node] = suspicionOf(judgement, this.volume.policy().name, undefined);
    }
    return doubts;
  }

  /** Nodes are judged by each policy; a volume acts on what its own says. */
  #concerns(verdict: Verdict): boolean {
    return byPolicy(verdict, this.volume.policy().name).firing;
  }

  #take({ situation, transitions, effects }: Stepped): void {
    this.#situation = situation;
    for (const transition of transitions) this.#announce(transition);
    this.#store();
    for (const effect of effects) this.#carryOut(effect);
    this.#changed();
  }

  #announce({ from, to, move, cause }: Transition): void {
    const { active, epoch } = this.#situation;
    this.publish({
      type: 'protection.transition',
      level: WARNING_STATES.has(to) ? 'warning' : 'info',
      message: `${this.volume.control.name} is ${to} (was ${from}): ${cause}.`,
      node: active.node,
      details: { from, to, move, cause, active, epoch, verdict: threat(this.#situation)?.verdict ?? null },
    });
  }

  /** At once, whatever errand is under way; what the same step orders and answers waits for it, and finds it durable. */
  #store(): void {
    const text = JSON.stringify(encodeRecord(this.#situation));
    if (text === this.#stored || this.#stopped) return;
    this.#stored = text;
    this.#written = this.#written.then(async () => {
      const { records, log } = this.#world;
      const { name } = this.volume.control;
      try {
        await records.commit([{ put: recordKey(name), value: encodeRecord(this.#situation) }]);
      } catch (error) {
        // What matters is durable in the volume's own records; protecting it goes on.
        this.#stored = '';
        log.error(
          { volume: name, reason: (error as Error).message },
          "protection's record cannot be written; after a restart it is derived anew",
        );
      }
    });
  }

  #carryOut(effect: Effect): void {
    switch (effect.type) {
      case 'choose-target':
        this.#order(() => chooseTarget(this.#errand, effect));
        break;
      case 'start-mirror':
        this.#order(() => startMirror(this.#errand, effect));
        break;
      case 'drop-mirror':
        this.#order(() => dropMirror(this.#errand, effect));
        break;
      case 'free-target':
        this.#order(() => freeTarget(this.#errand, effect));
        break;
      case 'flip':
        this.#order(() => this.#flip(effect));
        break;
      case 'scrub':
        this.#scrubs(effect.after, () => this.#scrub(effect));
        break;
      case 'node-failed':
      case 'false-alarm':
        this.#order(() => teach(this.#errand, effect));
        break;
      case 'tell':
        this.publish(effect.event);
        break;
      case 'answer':
        // Behind the record of why: a restart knows what an operator was told.
        void this.#written.then(() => {
          this.#answers.get(effect.ticket)?.(effect.outcome);
          this.#answers.delete(effect.ticket);
        });
    }
  }

  async #flip(effect: EffectOf<'flip'>): Promise<Fact | null> {
    const fact = await flip(this.#errand, effect);
    if (fact?.type !== 'flip-done') return fact;
    this.tell(fact);
    return { type: 'mirrors-seen', mirrors: this.volume.control.mirrors() };
  }

  async #scrub(effect: EffectOf<'scrub'>): Promise<void> {
    const fact = this.#stopped ? null : await scrub(this.#errand, effect);
    if (fact) this.tell(fact);
  }

  #order(errand: () => Promise<Fact | null>): void {
    this.#queue(async () => {
      const fact = await errand();
      if (fact) this.tell(fact);
    });
  }

  #queue(job: () => Promise<void>): void {
    if (this.#stopped) return;
    const written = this.#written;
    this.#jobs.push(async () => {
      await written;
      if (!this.#stopped) await job();
    });
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    // The step that queued the first job ends before it begins.
    await Promise.resolve();
    for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) await job();
    this.#running = null;
  }
}

/** A verdict of before a policy was made stands for it, too, until the next one. */
function byPolicy(verdict: Verdict, policy: string): PolicyVerdict {
  return verdict.policies[policy] ?? verdict;
}

function suspicionOf({ verdict, sinceMs }: Judgement, policy: string, before: Suspicion | undefined): Suspicion {
  const text = verdict.reasons[0]?.text ?? (verdict.origin === 'outside' ? 'an outside verdict' : 'the model gave no reason');
  return {
    verdict: verdict.id,
    probability: byPolicy(verdict, policy).probability ?? before?.probability ?? 1,
    origin: verdict.origin,
    atMs: sinceMs,
    failsAtMs: verdict.predictedFailureAt === null ? null : Date.parse(verdict.predictedFailureAt),
    text,
  };
}

function isNews(now: Suspicion, before: Suspicion): boolean {
  return (
    now.origin !== before.origin ||
    now.atMs !== before.atMs ||
    now.failsAtMs !== before.failsAtMs ||
    Math.abs(now.probability - before.probability) >= PROBABILITY_STEP
  );
}
