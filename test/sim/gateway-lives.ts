// The gateway of a run, one incarnation after the other: it starts, crashes, or is told to end and does so in bounded time,
// and starts again. Hosts attach to whichever runs; operators ask it for what they want.
import type { Device } from '../../replication/device.js';
import type { AlarmSide } from './alarm-side.js';
import type { Cast } from './cast.js';
import type { Violation } from './checker.js';
import type { HostSession } from './client.js';
import type { CoverageRecorder } from './coverage-recorder.js';
import type { Wish } from './faults.js';
import type { SimNode } from './node.js';
import type { SimWorld } from './sim-world.js';
import { GatewayLife, type LifePlan } from './surroundings.js';
import type { Answer, Incarnation, Policy, Status, SystemUnderTest } from './system.js';

const ATTACH_RETRY_MS = 10;
/** Virtual time in which a gateway that is told to end has ended; half of what systemd leaves it. */
const CLOSE_MAX_MS = 45_000;

export interface GatewayLivesOptions {
  world: SimWorld;
  system: SystemUnderTest;
  cast: Cast;
  sessions: readonly HostSession[];
  plan: Omit<LifePlan, 'alarms'>;
  /** Not null: volumes are under protection. */
  alarms: AlarmSide | null;
  recorder: CoverageRecorder | undefined;
}

export class GatewayLives {
  readonly violations: Violation[] = [];
  readonly #options: GatewayLivesOptions;
  readonly #last = new Map<string, Status>();
  readonly #sizes = new Map<string, number>();
  #policy: Policy;
  #life: GatewayLife | null = null;
  #incarnation: Incarnation | null = null;
  /** It is told to end. */
  #ending = false;
  #wishes = 0;
  #ended = 0;

  constructor(options: GatewayLivesOptions) {
    this.#options = options;
    const { durability, whenFull } = options.plan;
    this.#policy = { durability, whenFull };
    for (const { name, sizeBytes } of options.cast.volumes) this.#sizes.set(name, sizeBytes);
    for (const { name, node } of options.cast.volumes)
      this.#last.set(name, { active: node, export: name, activating: null, mirrors: [], refused: false });
  }

  /** The one that runs. */
  get incarnation(): Incarnation | null {
    return this.#incarnation;
  }

  /** It runs, and is not about to end. */
  get stays(): boolean {
    return this.#life !== null && !this.#ending;
  }

  get wishing(): boolean {
    return this.#wishes > 0;
  }

  /** As the one that runs has it, or the last one had. */
  status(volume: string): Status {
    return this.#incarnation?.status(volume) ?? this.#last.get(volume)!;
  }

  start(): void {
    const { world, system, cast, sessions, plan, alarms } = this.#options;
    const life = new GatewayLife(world, cast.places, cast.volumes, {
      ...plan,
      ...this.#policy,
      alarms: alarms?.surroundings(cast) ?? null,
    });
    this.#life = life;
    world.trace(() => 'the gateway starts');
    this.#incarnation = system.start(life);
    for (const session of sessions) this.#attach(session, life);
  }

  crash(downMs: number): void {
    if (this.#life === null) return;
    this.#options.world.trace(() => 'the gateway crashes');
    this.#options.recorder?.crashed();
    this.#leave();
    this.#restart(downMs);
  }

  /** For those that run now, and after a restart. */
  setPolicy({ durability, whenFull }: Policy): void {
    this.#policy = { durability, whenFull };
    this.#options.world.trace(() => `the policy is ${durability}, and ${whenFull} when a mirror's queue is full`);
    this.#incarnation?.setPolicy(this.#policy);
  }

  /** So many have ended in whichever way. */
  get ended(): number {
    return this.#ended;
  }

  /** Nothing starts any more. */
  finish(): void {
    this.#life?.crash();
  }

  /** It is told to end, as by SIGTERM; what hosts had asked for and was not answered stays unknown. */
  stop(downMs: number): void {
    const { world, sessions } = this.#options;
    const life = this.#life;
    if (life === null || this.#ending) return;
    world.trace(() => 'the gateway is told to end');
    this.#ending = true;
    for (const session of sessions) session.detach();
    this.#mark();
    const beganMs = world.scheduler.nowMs;
    const late = world.scheduler.after(CLOSE_MAX_MS, () => {
      // One that crashed while it was ending has nothing left to end.
      if (this.#life !== life) return;
      this.violations.push({ property: 'liveness', text: `the gateway was told to end at ${beganMs.toFixed(0)} ms and has not` });
      this.crash(downMs);
    });
    void this.#incarnation!.close().then(
      () => {
        late.cancel();
        if (this.#life !== life) return;
        world.moment('gateway ended');
        world.trace(() => 'the gateway has ended');
        this.#leave();
        this.#restart(downMs);
      },
      (error: unknown) => world.scheduler.fail(error),
    );
  }

  /** Null: the gateway crashed meanwhile. */
  async wish(what: Wish, volume: string, node: string): Promise<Answer | null> {
    const { world, alarms } = this.#options;
    const incarnation = this.#incarnation;
    if (incarnation === null) return null;
    this.#wishes += 1;
    world.moment(`wish ${what}`);
    const ask: Record<typeof what, () => Promise<Answer>> = {
      'add-mirror': () => incarnation.addMirror(volume, node),
      'remove-mirror': () => incarnation.removeMirror(volume, node),
      flip: () => incarnation.flip(volume, node),
      scrub: () => incarnation.scrub(volume),
      rollback: async () => (await incarnation.guarded?.rollback(volume)) ?? { ok: false, text: 'nothing is protected' },
    };
    alarms?.warden.asked(what, volume, node);
    let answer: Answer;
    try {
      answer = await ask[what]();
    } catch (error) {
      if (incarnation === this.#incarnation) world.scheduler.fail(error);
      return null;
    }
    if (incarnation !== this.#incarnation) return null;
    this.#wishes -= 1;
    // What was taken up before the gateway was told to end may go on after its restart.
    if (!answer.ok && !this.#ending) alarms?.warden.refused(what, volume, node);
    world.trace(() => `${what} ${node}: ${answer.ok ? 'done' : 'refused'}: ${answer.text}`);
    world.moment(`wish ${what} ${answer.ok ? 'granted' : 'refused'}`);
    return answer;
  }

  /** Bytes of a volume, as the last gateway had it that served it. */
  sizeOf(volume: string): number {
    return this.#sizes.get(volume)!;
  }

  /** Null: the gateway crashed meanwhile. */
  async grow(volume: string, sizeBytes: number): Promise<Answer | null> {
    const { world, sessions } = this.#options;
    const incarnation = this.#incarnation;
    if (incarnation === null) return null;
    this.#wishes += 1;
    world.moment('wish grow');
    let answer: Answer;
    try {
      answer = await incarnation.grow(volume, sizeBytes);
    } catch (error) {
      if (incarnation === this.#incarnation) world.scheduler.fail(error);
      return null;
    }
    if (incarnation !== this.#incarnation) return null;
    this.#wishes -= 1;
    world.trace(() => `grow ${volume} to ${sizeBytes}: ${answer.ok ? 'done' : 'refused'}: ${answer.text}`);
    world.moment(`wish grow ${answer.ok ? 'granted' : `refused ${answer.text.split(':')[0]}`}`);
    if (answer.ok) {
      this.#seeSize(volume);
      for (const session of sessions) if (session.volume === volume && session.number !== 1) session.look();
    }
    return answer;
  }

  /** What it has once is never less afterwards. */
  #seeSize(volume: string): void {
    const sizeBytes = this.#incarnation!.device(volume)!.sizeBytes;
    const before = this.#sizes.get(volume)!;
    if (sizeBytes < before) this.violations.push({ property: 'integrity', text: `${volume} has ${sizeBytes} bytes and had ${before}` });
    this.#sizes.set(volume, sizeBytes);
  }

  /** A node loses its power: of which volumes it is, or may just have become or ceased to be, the active target. */
  markPowerLoss(node: SimNode): void {
    const { world, cast } = this.#options;
    const concerned = cast.volumes.filter(({ name }) => {
      const { active, activating } = this.status(name);
      return active === node.name || activating !== null;
    });
    const names = concerned.map((volume) => volume.name);
    world.history.mark('power-loss', node.name, names, world.scheduler.nowMs);
  }

  #attach(session: HostSession, life: GatewayLife): void {
    if (life.dead || this.#ending) return;
    const device: Device | null = this.#incarnation!.device(session.volume);
    if (device === null) this.#options.world.scheduler.after(ATTACH_RETRY_MS, () => this.#attach(session, life));
    else {
      this.#seeSize(session.volume);
      session.attach(device);
    }
  }

  #leave(): void {
    const { world, cast, sessions } = this.#options;
    for (const node of world.nodes) node.putDisksBack();
    for (const { name } of cast.volumes) this.#last.set(name, this.status(name));
    this.#life!.crash();
    this.#life = null;
    this.#incarnation = null;
    this.#ending = false;
    this.#ended += 1;
    this.#wishes = 0;
    for (const session of sessions) session.detach();
    this.#mark();
  }

  /** Its memory is gone. */
  #mark(): void {
    const { world } = this.#options;
    world.history.mark('gateway-crash', '', [], world.scheduler.nowMs);
  }

  #restart(downMs: number): void {
    this.#options.world.scheduler.after(downMs, () => {
      if (this.#life === null) this.start();
    });
  }
}
