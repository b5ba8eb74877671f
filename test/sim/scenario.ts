// One seed's run from its first event to its verdict: a world is drawn, hosts work while faults strike, then everything is
// mended and must answer, settle and be alike; at times all power fails at the end, after a flush. The same seed and
// options always give the same run.
import { type Device, ERRNO } from '../../replication/device.js';
import { checkAnswers, checkBlocks, checkCopies, checkErrors, type Violation } from './checker.js';
import { HostSession } from './client.js';
import { BLOCK_BYTES } from './disk.js';
import { asyncPromise } from './durability.js';
import { drawWeights, type Fault, type Stage, strike } from './faults.js';
import type { Operation } from './history.js';
import type { NodeFeatures } from './node-handshake.js';
import type { SimNode } from './node.js';
import { Random } from './random.js';
import { banRealTime } from './real-time.js';
import type { RunOutcome } from './scheduler.js';
import { SimWorld } from './sim-world.js';
import { GatewayLife } from './surroundings.js';
import type { Answer, Incarnation, NodePlace, Status, SystemUnderTest, VolumePlan } from './system.js';

export interface ScenarioOptions {
  seed: number;
  operations: number;
  sessions: number;
  faults: number;
  verbose: boolean;
  /** Instead of those the seed would draw. */
  weights?: Partial<Record<Fault, number>>;
}

export interface ScenarioResult {
  seed: number;
  violations: Violation[];
  world: SimWorld;
}

const GIVE_UP_MS = 20_000;
/** Virtual time within which the load must be over, every request answered after the faults, and the copies in step. */
const LOAD_MS = 900_000;
const ANSWER_MS = 60_000;
const SETTLE_MS = 300_000;
const EVENTS_MAX = 2_000_000;
const FINAL_BLOCKS = 256;

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
    return { seed: options.seed, violations: await run.play(), world: run.world };
  } finally {
    allowRealTime();
    process.off('uncaughtException', threw);
    process.off('unhandledRejection', threw);
  }
}

class Run {
  readonly world: SimWorld;
  readonly #system: SystemUnderTest;
  readonly #options: ScenarioOptions;
  readonly #random: Random;
  readonly #volumes: VolumePlan[] = [];
  readonly #places: NodePlace[] = [];
  readonly #sessions: HostSession[] = [];
  readonly #last = new Map<string, Status>();
  readonly #faults: { fault: Fault; afterOperations: number }[] = [];
  #life: GatewayLife | null = null;
  #incarnation: Incarnation | null = null;
  #operationsLeft: number;
  #wishes = 0;
  #mediaErrors = false;
  #faultsOver = false;

  constructor(system: SystemUnderTest, options: ScenarioOptions) {
    this.#system = system;
    this.#options = options;
    this.world = new SimWorld(options.seed, options.verbose);
    this.#random = new Random(options.seed, 'scenario');
    this.#operationsLeft = options.operations;
    this.#drawNodes();
    this.#drawSessions();
    this.#drawFaults();
  }

  async play(): Promise<Violation[]> {
    this.#startGateway();
    const { scheduler } = this.world;
    const violations: Violation[] = [];
    const phase = async (name: string, limitMs: number, done: () => boolean): Promise<boolean> => {
      this.world.trace(() => `-- ${name}`);
      const outcome = await scheduler.run(done, { untilMs: scheduler.nowMs + limitMs, events: EVENTS_MAX });
      if (outcome !== 'done') violations.push(this.#stuck(name, outcome));
      return outcome === 'done';
    };
    const ok =
      (await phase('load', LOAD_MS, () => this.#operationsLeft === 0 && this.#faults.length === 0)) &&
      (await phase('faults end', LOAD_MS, () => this.#heal())) &&
      (await phase('answers', ANSWER_MS, () => this.#answered())) &&
      (await phase('settling', SETTLE_MS, () => this.#unsettled() === null)) &&
      (await this.#compare(phase, violations)) &&
      (await this.#blackout(phase));
    if (!ok && scheduler.failure === null) violations.push(...checkAnswers(this.#sessions.flatMap((session) => session.outstanding)));
    this.#life?.crash();
    const { failure } = scheduler;
    await nextLoop();
    if (failure === null && scheduler.failure !== null) violations.push(this.#stuck('end', 'failed'));
    violations.push(...this.#judge());
    return violations;
  }

  #drawNodes(): void {
    const random = this.#random;
    const zombieMs = random.pick([100, 400, 1000]);
    for (const name of ['a', 'b', 'c']) {
      const fencing = random.chance(0.3);
      const node = this.world.addNode(name, {
        features: drawFeatures(random, fencing),
        fencing,
        zombieMs,
        serviceMs: random.pick([0.2, 1, 4]),
      });
      this.#places.push({ name, address: node.address, fencing, zombieMs: fencing ? 0 : zombieMs });
    }
    const sizeBytes = random.pick([131_072, 262_144, 524_288]);
    this.#volumes.push({ name: 'vol0', sizeBytes, node: random.pick(this.world.nodes).name });
    for (const volume of this.#volumes) {
      for (const node of this.world.nodes) node.addExport(volume.name, sizeBytes);
      this.#last.set(volume.name, { active: volume.node, activating: null, mirrors: [] });
    }
  }

  #drawSessions(): void {
    const random = this.#random;
    const thinkMs = random.pick([1, 5, 30]);
    for (let number = 0; number < this.#options.sessions; number += 1) {
      const volume = random.pick(this.#volumes);
      const blocks = volume.sizeBytes / BLOCK_BYTES;
      const hotBlocks = random.pick([2, 8, 32, 128]);
      const workload = {
        volume: volume.name,
        blocks,
        depth: random.between(1, 6),
        thinkMs,
        hotBlock: random.int(4) * 64,
        hotBlocks,
        usualBlocks: random.pick([2, 8, 24]),
        flushes: random.pick([0, 2, 10]),
        fua: random.pick([0.05, 0.2, 0.6]),
      };
      this.#sessions.push(new HostSession(number, this.world, random.fork(`session ${number}`), workload, () => this.#drawOperation()));
    }
  }

  #drawFaults(): void {
    const random = this.#random;
    const { faults, operations } = this.#options;
    const weights = this.#options.weights ?? drawWeights(random);
    const drawn: Fault[] = random.chance(0.75) ? ['add-mirror'] : [];
    for (let count = 0; count < faults; count += 1) drawn.push(random.weighted<Fault>(weights));
    for (const [index, fault] of drawn.entries()) {
      const first = index === 0 && fault === 'add-mirror';
      this.#faults.push({ fault, afterOperations: first ? random.int(10) : random.int(operations) });
    }
    this.#faults.sort((one, other) => one.afterOperations - other.afterOperations);
  }

  /** A session wants to do one more operation; faults whose turn has come strike. */
  #drawOperation(): boolean {
    if (this.#operationsLeft === 0) return false;
    this.#operationsLeft -= 1;
    const done = this.#options.operations - this.#operationsLeft;
    while (this.#faults.length > 0 && this.#faults[0].afterOperations < done) {
      const { fault } = this.#faults.shift()!;
      if (fault === 'eio' || fault === 'full') this.#mediaErrors = true;
      this.world.scheduler.after(0, () => strike(fault, this.#stage));
    }
    return true;
  }

  get #stage(): Stage {
    return {
      world: this.world,
      random: this.#random,
      over: () => this.#faultsOver,
      volumes: this.#volumes.map((volume) => volume.name),
      giveUpMs: GIVE_UP_MS,
      status: (volume) => this.#status(volume),
      witnesses: (volume, node) => this.#incarnation?.witnesses(volume, node) ?? 0,
      crashGateway: (downMs) => this.#crashGateway(downMs),
      powerLost: (node) => this.#markPowerLoss(node),
      wish: (what, volume, node) => void this.#wish(what, volume, node),
    };
  }

  #startGateway(): void {
    const life = new GatewayLife(this.world, this.#places, this.#volumes, GIVE_UP_MS);
    this.#life = life;
    this.world.trace(() => 'the gateway starts');
    this.#incarnation = this.#system.start(life);
    for (const session of this.#sessions) this.#attach(session, life);
  }

  #attach(session: HostSession, life: GatewayLife): void {
    if (life.dead) return;
    const device: Device | null = this.#incarnation!.device(session.volume);
    if (device === null) this.world.scheduler.after(10, () => this.#attach(session, life));
    else session.attach(device);
  }

  #crashGateway(downMs: number): void {
    if (this.#life === null) return;
    for (const { name } of this.#volumes) this.#last.set(name, this.#status(name));
    this.world.trace(() => 'the gateway crashes');
    this.#life.crash();
    this.#life = null;
    this.#incarnation = null;
    this.#wishes = 0;
    for (const session of this.#sessions) session.detach();
    this.world.history.mark('gateway-crash', '', [], this.world.scheduler.nowMs);
    this.world.scheduler.after(downMs, () => {
      if (this.#life === null) this.#startGateway();
    });
  }

  #markPowerLoss(node: SimNode): void {
    const concerned = this.#volumes.filter(({ name }) => {
      const { active, activating } = this.#status(name);
      return active === node.name || activating !== null;
    });
    const names = concerned.map((volume) => volume.name);
    this.world.history.mark('power-loss', node.name, names, this.world.scheduler.nowMs);
  }

  #status(volume: string): Status {
    return this.#incarnation?.status(volume) ?? this.#last.get(volume)!;
  }

  async #wish(what: 'add-mirror' | 'remove-mirror' | 'flip' | 'scrub', volume: string, node: string): Promise<void> {
    const incarnation = this.#incarnation;
    if (incarnation === null) return;
    this.#wishes += 1;
    const ask: Record<typeof what, () => Promise<Answer>> = {
      'add-mirror': () => incarnation.addMirror(volume, node),
      'remove-mirror': () => incarnation.removeMirror(volume, node),
      flip: () => incarnation.flip(volume, node),
      scrub: () => incarnation.scrub(volume),
    };
    let answer: Answer;
    try {
      answer = await ask[what]();
    } catch (error) {
      if (incarnation === this.#incarnation) this.world.scheduler.fail(error);
      return;
    }
    if (incarnation !== this.#incarnation) return;
    this.#wishes -= 1;
    this.world.trace(() => `${what} ${node}: ${answer.ok ? 'done' : 'refused'}: ${answer.text}`);
    this.world.moment(`wish ${what} ${answer.ok ? 'granted' : 'refused'}`);
  }

  /** Mends all that is broken; true when the gateway runs. */
  #heal(): boolean {
    this.#faultsOver = true;
    for (const node of this.world.nodes) {
      node.resume();
      node.start();
      node.slowness = 1;
      node.trapWrites(0);
      for (const disk of node.disks.values()) {
        disk.bad.length = 0;
        disk.full = false;
      }
    }
    this.world.store.failures = 0;
    return this.#life !== null;
  }

  #answered(): boolean {
    return this.#life !== null && this.#sessions.every((session) => session.idle);
  }

  #unsettled(): string | null {
    if (this.#incarnation === null) return 'the gateway is down';
    if (this.#wishes > 0) return 'a wish is being carried out';
    for (const { name } of this.#volumes) {
      const why = this.#incarnation.unsettled(name);
      if (why !== null) return why;
    }
    return null;
  }

  async #compare(phase: Phase, violations: Violation[]): Promise<boolean> {
    for (const volume of this.#volumes) {
      const contents = await this.#readAll(volume, phase);
      if (contents === null) return false;
      const { active, mirrors } = this.#status(volume.name);
      const names = [active, ...mirrors.filter((mirror) => mirror.state === 'synced').map((mirror) => mirror.node)];
      const copies = names.map((node) => ({ node, contents: this.world.node(node).disks.get(volume.name)!.contents }));
      violations.push(...checkCopies(volume.name, contents, copies));
      this.world.moment(`copies compared: ${copies.length}`);
    }
    return true;
  }

  /** The gateway and every node lose power at once, mostly after a flush: what it covered may not be gone. */
  async #blackout(phase: Phase): Promise<boolean> {
    if (!this.#random.chance(0.4)) return true;
    const unprepared = this.#random.chance(0.4);
    for (const volume of unprepared ? [] : this.#volumes) {
      let flushed = false;
      this.#sessionOf(volume).perform('flush', 0, 0, () => {
        flushed = true;
      });
      if (!(await phase('last flush', ANSWER_MS, () => flushed))) return false;
    }
    this.#crashGateway(5);
    for (const node of this.world.nodes) {
      this.#markPowerLoss(node);
      node.kill(true);
      node.start();
    }
    this.world.moment('blackout');
    if (!(await phase('after the blackout', ANSWER_MS, () => this.#answered()))) return false;
    for (const volume of this.#volumes) if ((await this.#readAll(volume, phase)) === null) return false;
    return true;
  }

  async #readAll(volume: VolumePlan, phase: Phase): Promise<Buffer | null> {
    const contents = Buffer.alloc(volume.sizeBytes);
    const blocks = volume.sizeBytes / BLOCK_BYTES;
    let left = 0;
    for (let block = 0; block < blocks; block += FINAL_BLOCKS) {
      left += 1;
      this.#sessionOf(volume).perform('read', block, Math.min(FINAL_BLOCKS, blocks - block), (operation, request) => {
        if (operation.errno === 0) request.data!.copy(contents, block * BLOCK_BYTES);
        left -= 1;
      });
    }
    return (await phase('last reads', ANSWER_MS, () => left === 0)) ? contents : null;
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
    const violations = checkBlocks(history, asyncPromise);
    const garbage = this.#sessions.find((session) => session.garbage !== null);
    for (const violation of violations) if (violation.property === 'garbage') violation.text += `: ${garbage?.garbage}`;
    violations.push(...checkErrors(history, (operation) => this.#excused(operation)));
    return violations;
  }

  #excused(operation: Operation): boolean {
    if (operation.kind === 'zeroes' && operation.errno === ERRNO.ENOTSUP) return true;
    if (this.#mediaErrors && (operation.errno === ERRNO.EIO || operation.errno === ERRNO.ENOSPC)) return true;
    return operation.errno === ERRNO.EIO && operation.completedMs - operation.invokedMs >= GIVE_UP_MS;
  }
}

type Phase = (name: string, limitMs: number, done: () => boolean) => Promise<boolean>;

function drawFeatures(random: Random, fencing: boolean): NodeFeatures {
  const structured = random.chance(0.7);
  const zeroes = fencing || random.chance(0.7);
  const go = fencing || random.chance(0.8);
  return {
    go,
    structured,
    status: structured && random.chance(0.7),
    fua: random.chance(0.6),
    zeroes,
    fastZero: zeroes && random.chance(0.5),
    trim: random.chance(0.5),
    multiConn: fencing || random.chance(0.5),
    blockMinimum: random.pick([1, 512]),
    // Only GO can say that it is less than everybody takes.
    maximumPayload: go ? random.pick([262_144, 33_554_432]) : 33_554_432,
  };
}
