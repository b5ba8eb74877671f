// One seed's run from its first event to its verdict: a world is drawn, hosts work while faults strike, then everything is
// mended and must answer, settle and be alike; at times all power fails at the end, after a flush. The same seed and
// options always give the same run.
import { ERRNO } from '../../replication/device.js';
import { ANSWER_MS, Aftermath, type Phase, type Scene } from './aftermath.js';
import { checkAnswers, checkBlocks, checkErrors, checkWaits, type Violation } from './checker.js';
import { HostSession } from './client.js';
import { AlarmSide } from './alarm-side.js';
import { Cast } from './cast.js';
import type { CoverageRecorder } from './coverage-recorder.js';
import { BLOCK_BYTES } from './disk.js';
import { asyncPromise } from './durability.js';
import { type PlannedFault, planFaults, type Reduction, WHOLE } from './fault-plan.js';
import { type Fault, type Stage, strike } from './faults.js';
import { CALM_MS, Drill } from './drill.js';
import { GatewayLives } from './gateway-lives.js';
import { GrowthPlan, type GrowthStage } from './growth.js';
import type { Operation } from './history.js';
import { tend } from './operator.js';
import { Random } from './random.js';
import { banRealTime } from './real-time.js';
import type { RunOutcome } from './scheduler.js';
import { SimWorld } from './sim-world.js';
import { Vigil } from './vigil.js';
import type { Answer, Surroundings, SystemUnderTest, VolumePlan } from './system.js';

export interface ScenarioOptions {
  seed: number;
  operations: number;
  sessions: number;
  faults: number;
  verbose: boolean;
  /** Instead of those the seed would draw. */
  weights?: Partial<Record<Fault, number>>;
  /** How often, by operations, nobody asks for anything for some seconds; instead of what the seed would draw. */
  lulls?: number;
  /** What policy the volumes have; instead of what the seed would draw. */
  durability?: Durability;
  whenFull?: Surroundings['whenFull'];
  /** Do verdicts move the volumes? Instead of what the seed would draw; never where `weights` are given unless told. */
  protection?: boolean;
  /** Is a volume made larger? As `protection`. */
  growth?: boolean;
  /** Is told of crashes, and may want one. */
  recorder?: CoverageRecorder;
  /** Only a part of it. */
  reduction?: Reduction;
}

export interface ScenarioResult {
  seed: number;
  violations: Violation[];
  world: SimWorld;
  /** What it was to meet. */
  faults: readonly PlannedFault[];
}

/** Share of the seeds without protection in which a volume grows. */
const GROWTH = 0.25;
const GIVE_UP_MS = 20_000;
/** Virtual time within which the load must be over. */
const LOAD_MS = 900_000;
/** The copies are in step. */
const SETTLE_MS = 300_000;
/** Virtual time between two looks at whether all has settled. */
const LOOK_MS = 2;
const EVENTS_MAX = 150_000;
/** An answer takes at most so long: a failover may be tried for as long as hosts wait, then they wait once more. */
const WAIT_MAX_MS = 2.25 * GIVE_UP_MS;
type Durability = Surroundings['durability'];
const DURABILITIES: readonly Durability[] = ['async', 'async', 'journal', 'journal', 'sync'];
/** Long enough for marks to be swept. */
const LULL_MS = [4500, 9000] as const;

/** Most buffers of a run are slices of few large ones; a buffer of its own costs more than all else that is done with it. */
Buffer.poolSize = 1_048_576;

const { setImmediate: immediate } = globalThis;

/** Node's own loop turns once: what was thrown and not handled comes to light. */
function nextLoop(): Promise<void> {
  return new Promise((resolve) => immediate(resolve));
}

export async function runScenario(system: SystemUnderTest, options: ScenarioOptions): Promise<ScenarioResult> {
  const run = new Run(system, options);
  const { scheduler } = run.world;
  const threw = (error: unknown): void => scheduler.fail(error);
  process.on('uncaughtException', threw);
  process.on('unhandledRejection', threw);
  const allowRealTime = banRealTime();
  try {
    const faults = [...run.faults];
    return { seed: options.seed, violations: await played(run), world: run.world, faults };
  } finally {
    allowRealTime();
    process.off('uncaughtException', threw);
    process.off('unhandledRejection', threw);
  }
}

/** What the judge itself trips over is a violation of this seed, not the end of all others. */
async function played(run: Run): Promise<Violation[]> {
  try {
    return await run.play();
  } catch (error) {
    return [{ property: 'crash', text: error instanceof Error ? (error.stack ?? error.message) : String(error) }];
  }
}

class Run {
  readonly world: SimWorld;
  /** Those to come. */
  readonly faults: PlannedFault[];
  readonly #options: ScenarioOptions;
  readonly #reduction: Reduction;
  readonly #random: Random;
  readonly #volumes: readonly VolumePlan[];
  readonly #cast: Cast;
  /** Not null: volumes are under protection. */
  readonly #alarms: AlarmSide | null;
  readonly #sessions: HostSession[] = [];
  readonly #gateway: GatewayLives;
  readonly #vigil: Vigil;
  readonly #lulls: number;
  #lullUntilMs = 0;
  #operationsLeft: number;
  #mediaErrors = false;
  #faultsOver = false;
  #lookAgainMs = 0;
  /** A gateway that is made to crash may do so also then. */
  #mayCrash = false;

  constructor(system: SystemUnderTest, options: ScenarioOptions) {
    this.#options = options;
    this.#reduction = options.reduction ?? WHOLE;
    this.world = new SimWorld(options.seed, options.verbose, this.#reduction.variant);
    this.#random = new Random(options.seed, 'scenario');
    this.#operationsLeft = this.#operations;
    this.#vigil = new Vigil(this.world, () => this.#gateway.incarnation);
    const wanted = options.weights === undefined ? options.protection : (options.protection ?? false);
    this.#alarms = system.protects ? AlarmSide.draw(this.world, options.seed, wanted) : null;
    const growth = new Random(options.seed, 'growth');
    const mayGrow = system.grows && this.#alarms === null;
    const grows = options.growth ?? (options.weights === undefined && growth.chance(GROWTH));
    this.#cast = new Cast(
      this.world,
      this.#random,
      this.#alarms?.random ?? null,
      (lastBytes) => (mayGrow && grows ? new GrowthPlan(growth, lastBytes, this.#operations) : null),
      (node, name) => this.#alarms?.warden.frees({ node, export: name }),
    );
    this.#volumes = this.#cast.volumes;
    this.#alarms?.warden.plays(this.#cast);
    // A stream of its own: all else is the same whatever is drawn.
    const durability = options.durability ?? new Random(options.seed, 'durability').pick(DURABILITIES);
    const whenFull = options.whenFull ?? (new Random(options.seed, 'when full').chance(0.25) ? 'fall-back' : 'slow');
    const hedgeAfterMs = new Random(options.seed, 'hedge').pick([null, null, 2, 10]);
    this.#lulls = options.lulls ?? this.#random.pick([0, 0, 0.01, 0.03]);
    this.#drawSessions();
    this.#gateway = new GatewayLives({
      world: this.world,
      system,
      cast: this.#cast,
      sessions: this.#sessions,
      plan: { giveUpAfterMs: GIVE_UP_MS, hedgeAfterMs, durability, whenFull },
      alarms: this.#alarms,
      recorder: options.recorder,
    });
    this.faults = planFaults(this.#random, {
      ...options,
      weights: options.weights,
      withJournal: durability === 'journal',
      withProtection: this.#alarms !== null,
      reduction: this.#reduction,
    });
  }

  async play(): Promise<Violation[]> {
    const { recorder } = this.#options;
    const { scheduler } = this.world;
    recorder?.arm(() =>
      scheduler.after(0, () => {
        if (recorder.isDue() && (!this.#faultsOver || this.#mayCrash)) this.#gateway.crash(this.#random.range(0, 50));
      }),
    );
    this.#gateway.start();
    const violations: Violation[] = [];
    const phase = async (name: string, limitMs: number, done: () => boolean): Promise<boolean> => {
      this.world.trace(() => `-- ${name}`);
      const outcome = await scheduler.run(done, { untilMs: scheduler.nowMs + limitMs, events: EVENTS_MAX });
      if (outcome !== 'done') violations.push(this.#stuck(name, outcome));
      return outcome === 'done';
    };
    let ok =
      (await phase('load', LOAD_MS, () => this.#operationsLeft === 0 && this.faults.length === 0)) &&
      (await phase('faults end', LOAD_MS, () => this.#heal()));
    tend(this.#stage, (what, volume, node) => this.#gateway.wish(what, volume, node));
    ok &&=
      (await phase('answers', ANSWER_MS, () => this.#answered())) &&
      (await phase('settling', this.#settleMs, () => this.#settled())) &&
      (await this.#lastGrowth(phase, violations)) &&
      (await this.#aftermath(phase, violations));
    if (!ok && scheduler.failure === null) violations.push(...checkAnswers(this.#sessions.flatMap((session) => session.outstanding)));
    this.#gateway.finish();
    const { failure } = scheduler;
    await nextLoop();
    if (failure === null && scheduler.failure !== null) violations.push(this.#stuck('end', 'failed'));
    violations.push(...this.#judge());
    return violations;
  }

  /** With nothing wrong any more a volume can be made larger. */
  async #lastGrowth(phase: Phase, violations: Violation[]): Promise<boolean> {
    const { growth } = this.#cast;
    const sizeBytes = growth?.finalBytes ?? null;
    if (growth === null || sizeBytes === null) return true;
    const { volume } = this.#growthStage;
    growth.enlargeAll(this.world.nodes, volume, sizeBytes);
    const lives = this.#gateway.ended;
    let answer: Answer | null | undefined;
    void this.#gateway.grow(volume, sizeBytes).then((given) => {
      answer = given;
    });
    const over = (): boolean => answer !== undefined || this.#gateway.ended > lives;
    if (!(await phase('a last growth', SETTLE_MS, over))) return false;
    if (answer?.ok === false && !this.#damaged())
      violations.push({ property: 'liveness', text: `with nothing wrong any more a growth was refused: ${answer.text}` });
    return phase('settling after the last growth', SETTLE_MS, () => this.#answered() && this.#settled());
  }

  async #aftermath(phase: Phase, violations: Violation[]): Promise<boolean> {
    // As large as it is now: nothing grows any more.
    const volumes = this.#volumes.map((volume) => ({ ...volume, sizeBytes: this.#gateway.sizeOf(volume.name) }));
    const scene: Scene = {
      ...this.#stage,
      volumes,
      phase,
      incarnation: () => this.#gateway.incarnation,
      sessionOf: (volume) => this.#sessionOf(volume),
      answered: () => this.#answered(),
      settled: () => this.#settled(),
      settleMs: this.#settleMs,
      ended: () => this.#gateway.ended,
      mayCrash: (may) => {
        this.#mayCrash = may;
      },
      wish: (what, volume, node) => this.#gateway.wish(what, volume, node),
    };
    const aftermath = new Aftermath(scene);
    const drill = this.#alarms && new Drill(scene, this.#alarms);
    const ended = (drill === null || ((await aftermath.compare()) && (await drill.play()))) && (await aftermath.play());
    violations.push(...aftermath.violations, ...(drill?.violations ?? []));
    return ended;
  }

  #drawSessions(): void {
    const random = this.#random;
    const thinkMs = random.pick([1, 5, 30]);
    for (let number = 0; number < this.#options.sessions; number += 1) {
      const volume = this.#alarms === null ? random.pick(this.#volumes) : this.#volumes[number % this.#volumes.length];
      const blocks = volume.sizeBytes / BLOCK_BYTES;
      const hotBlocks = random.pick([2, 8, 32, 128]);
      const workload = {
        volume: volume.name,
        blocks,
        depth: random.between(1, 6) * (this.#reduction.idle.includes(number) ? 0 : 1),
        thinkMs,
        hotBlock: random.int(4) * 64,
        hotBlocks,
        usualBlocks: random.pick([2, 8, 24]),
        flushes: random.pick([0, 2, 10]),
        fua: random.pick([0.05, 0.2, 0.6]),
        lullMs: () => Math.max(0, this.#lullUntilMs - this.world.scheduler.nowMs),
      };
      this.#sessions.push(
        new HostSession(number, this.world, random.fork(`session ${number}`), workload, () => this.#drawOperation(), this.#vigil),
      );
    }
  }

  /** Protection tries again for as long as it takes, ever less often. */
  get #settleMs(): number {
    return this.#alarms === null ? SETTLE_MS : CALM_MS;
  }

  get #operations(): number {
    return this.#reduction.load ?? this.#options.operations;
  }

  /** A session wants to do one more operation; faults whose turn has come strike. */
  #drawOperation(): boolean {
    if (this.#operationsLeft === 0) return false;
    this.#operationsLeft -= 1;
    const done = this.#operations - this.#operationsLeft;
    if (this.#lulls > 0 && this.#random.chance(this.#lulls))
      this.#lullUntilMs = this.world.scheduler.nowMs + this.#random.range(...LULL_MS);
    while (this.faults.length > 0 && this.faults[0].afterOperations < done) {
      const { number, fault, random } = this.faults.shift()!;
      if (fault === 'eio' || fault === 'full') this.#mediaErrors = true;
      this.world.trace(() => `fault ${number}, ${fault}, is due after ${done} operations`);
      this.world.scheduler.after(0, () => strike(fault, { ...this.#stage, random }));
    }
    this.#cast.growth?.play(done, this.#growthStage);
    return true;
  }

  get #growthStage(): GrowthStage {
    const volume = this.#volumes[0].name;
    return {
      world: this.world,
      volume,
      over: () => this.#faultsOver,
      sizeBytes: () => this.#gateway.sizeOf(volume),
      crashGateway: (downMs) => this.#gateway.crash(downMs),
      grow: (sizeBytes) => this.#gateway.grow(volume, sizeBytes),
    };
  }

  get #stage(): Stage {
    return {
      world: this.world,
      random: this.#random,
      over: () => this.#faultsOver,
      volumes: this.#volumes.map((volume) => volume.name),
      giveUpMs: GIVE_UP_MS,
      status: (volume) => this.#gateway.status(volume),
      blocks: (volume) => this.#gateway.sizeOf(volume) / BLOCK_BYTES,
      setPolicy: (policy) => this.#gateway.setPolicy(policy),
      witnesses: (volume, node) => this.#gateway.incarnation?.witnesses(volume, node) ?? 0,
      crashGateway: (downMs) => this.#gateway.crash(downMs),
      stopGateway: (downMs) => this.#gateway.stop(downMs),
      powerLost: (node) => this.#gateway.markPowerLoss(node),
      wish: (what, volume, node) => void this.#gateway.wish(what, volume, node),
      alarms: this.#alarms && { signs: this.#alarms.signs, guarded: () => this.#gateway.incarnation?.guarded ?? null },
    };
  }

  /** Mends all that is broken; true when the gateway runs. */
  #heal(): boolean {
    this.#faultsOver = true;
    for (const node of this.world.nodes) {
      node.resume();
      node.start();
      node.slowness = 1;
      node.trapWrites(0);
      node.stutters = 0;
      for (const disk of node.disks.values()) {
        disk.bad.length = 0;
        disk.full = false;
      }
    }
    this.world.store.failures = 0;
    this.world.journals.failures = 0;
    this.world.journals.damage = false;
    return this.#gateway.stays;
  }

  #answered(): boolean {
    return this.#gateway.stays && this.#sessions.every((session) => session.idle);
  }

  /** To look costs more than most events do: not for each of them. */
  #settled(): boolean {
    const { nowMs } = this.world.scheduler;
    if (nowMs < this.#lookAgainMs) return false;
    if (this.#unsettled() === null) return true;
    this.#lookAgainMs = nowMs + LOOK_MS;
    return false;
  }

  #unsettled(): string | null {
    const { incarnation } = this.#gateway;
    if (incarnation === null) return 'the gateway is down';
    if (this.#gateway.wishing) return 'a wish is being carried out';
    for (const { name } of this.#volumes) {
      const why = incarnation.unsettled(name);
      if (why !== null) return why;
    }
    // What nobody answered may still take effect: what hosts read before would differ from the disks.
    for (const node of this.world.nodes) if (node.hasOldRequests) return `requests that nobody waits for may still land on ${node.name}`;
    return this.#alarms?.warden.unrest(incarnation) ?? null;
  }

  #sessionOf(volume: VolumePlan): HostSession {
    return this.#sessions.find((session) => session.volume === volume.name) ?? this.#sessions[0];
  }

  #stuck(phase: string, outcome: RunOutcome): Violation {
    const { failure, nowMs, events } = this.world.scheduler;
    if (failure !== null)
      return { property: 'crash', text: failure instanceof Error ? (failure.stack ?? failure.message) : String(failure) };
    const why = this.#unsettled();
    return { property: 'liveness', text: `phase "${phase}" did not end (${outcome} at ${nowMs.toFixed(0)} ms, ${events} events): ${why}` };
  }

  #judge(): Violation[] {
    const { history } = this.world;
    const { rotten } = this.world;
    const violations = checkBlocks(history, asyncPromise, (volume, block) => rotten.has(volume, block));
    const garbage = this.#sessions.find((session) => session.garbage !== null);
    for (const violation of violations) if (violation.property === 'garbage') violation.text += `: ${garbage?.garbage}`;
    violations.push(...checkErrors(history, (operation) => this.#excused(operation)), ...checkWaits(history, WAIT_MAX_MS));
    violations.push(...this.#gateway.violations, ...this.#vigil.violations, ...(this.#alarms?.warden.violations ?? []));
    if (this.world.counts.has('fact damage') && !this.#damaged())
      violations.push({ property: 'integrity', text: 'copies were said to be damaged where nothing was' });
    for (const { node, disk, contents } of this.#cast.foreign) {
      if (disk.contents.subarray(0, contents.length).equals(contents)) continue;
      violations.push({ property: 'integrity', text: `somebody else's data on ${node.name} was overwritten` });
    }
    return violations;
  }

  /** Were bytes changed behind the gateway's back, or refused? */
  #damaged(): boolean {
    // A disk that was given back is gone.
    return this.world.rotten.any || this.world.nodes.some((node) => node.refused || [...node.disks.values()].some((disk) => disk.tampered));
  }

  #excused(operation: Operation): boolean {
    const { volume, block, count } = operation;
    if (operation.kind === 'zeroes' && operation.errno === ERRNO.ENOTSUP) return true;
    if (operation.errno === ERRNO.EIO && operation.kind === 'read' && this.world.worn.excuses(operation, this.world.history)) return true;
    if (operation.errno === ERRNO.EIO && operation.kind === 'read' && this.world.rotten.touches(volume, block, count)) return true;
    if (this.#mediaErrors && (operation.errno === ERRNO.EIO || operation.errno === ERRNO.ENOSPC)) return true;
    return operation.errno === ERRNO.EIO && operation.completedMs - operation.invokedMs >= GIVE_UP_MS;
  }
}
