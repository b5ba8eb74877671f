// The end of a run under protection, when nothing else is wrong any more: all verdicts are withdrawn, and what was made for
// them must go. Then one node is doubted out of the blue: its volume must leave, at times with the gateway crashing in the
// middle; and when the doubt is over it must be where the policy wants it, with nothing left over.
import type { AlarmSide } from './alarm-side.js';
import { ALARM_MOMENTS } from './alarms.js';
import type { Scene } from './aftermath.js';
import { BLOCK_BYTES } from './disk.js';
import type { Violation } from './checker.js';
import type { VolumePlan } from './system.js';

/** Virtual time in which protection has come to an end, with all that it tries again ever less often. */
export const CALM_MS = 1_000_000;
const DRILL_WRITES = 20;

export class Drill {
  readonly violations: Violation[] = [];
  readonly #scene: Scene;
  readonly #side: AlarmSide;
  /** Nothing more strikes. */
  #ended = false;

  constructor(scene: Scene, side: AlarmSide) {
    this.#scene = scene;
    this.#side = side;
  }

  /** False: something did not end. */
  async play(): Promise<boolean> {
    const { random } = this.#side;
    if (!(await this.#withdraw())) return false;
    const calm = random.chance(0.6) ? await this.#doubt(random.pick(this.#scene.volumes)) : true;
    this.#ended = true;
    return calm && this.#scene.phase('the end of a drill', CALM_MS, () => this.#scene.answered() && this.#scene.settled());
  }

  /** No verdict stands any more, and nothing of what was done for one is left. */
  async #withdraw(): Promise<boolean> {
    const { world, phase } = this.#scene;
    const { signs, warden } = this.#side;
    signs.clear();
    const told = (): boolean => {
      const incarnation = this.#scene.incarnation();
      for (const { name } of world.nodes) if (incarnation?.guarded?.alarmed().includes(name)) void incarnation.guarded.giveVerdict(name, 0);
      return incarnation?.guarded?.alarmed().length === 0;
    };
    for (const { name } of world.nodes) this.#scene.incarnation()?.guarded?.fresh(name);
    world.moment('verdicts withdrawn');
    const calm = (): boolean => {
      const incarnation = this.#scene.incarnation();
      return incarnation !== null && told() && this.#scene.settled() && warden.overdone(incarnation) === null;
    };
    if (await phase('calm after the verdicts', CALM_MS, calm)) return true;
    const incarnation = this.#scene.incarnation();
    const why = incarnation && warden.overdone(incarnation);
    if (why !== null) this.#note(why);
    return false;
  }

  async #doubt(volume: VolumePlan): Promise<boolean> {
    const { world, phase, status, incarnation } = this.#scene;
    const { random, signs, warden, plan } = this.#side;
    const from = status(volume.name).active;
    const may = plan.policy.flip.automatic && warden.mayLeave(volume, incarnation()!);
    world.trace(() => `${from} is doubted in a drill`);
    world.moment(`drill ${may ? 'with' : 'without'} a sound place`);
    signs.show(from, 0.9);
    incarnation()!.guarded!.fresh(from);
    this.#write(volume);
    if (random.chance(0.4))
      world.onNext(random.pick(ALARM_MOMENTS), random.range(1, 3000), () =>
        world.scheduler.after(random.chance(0.4) ? 0 : random.range(0, 20), () => {
          if (!this.#ended) this.#scene.crashGateway(random.range(0, 100));
        }),
      );
    const early = random.chance(0.3);
    let over = false;
    if (early) world.onNext(random.pick(ALARM_MOMENTS), random.range(1, 3000), () => (over = true));
    const left = (): boolean => over || status(volume.name).active !== from;
    if ((may || early) && !(await phase('a volume leaves a doubted node', CALM_MS, left))) return false;
    if (!(await phase('answers in a drill', CALM_MS, () => this.#scene.answered()))) return false;
    if (!(await this.#withdraw())) return false;
    const to = status(volume.name).active;
    const back = plan.policy.rollback.onFalseAlarm === 'flip-back';
    if (to !== from && back) this.#note(`${volume.name} is on ${to} though the alarm over ${from} was a false one`);
    if (to === from && !back && may && !early) this.#note(`${volume.name} went back to ${from} though the policy stays`);
    world.moment(`drill ended ${to === from ? 'where it began' : 'elsewhere'}`);
    return true;
  }

  /** Hosts go on meanwhile. */
  #write(volume: VolumePlan): void {
    const { random } = this.#side;
    const { world } = this.#scene;
    for (let writes = 0; writes < DRILL_WRITES; writes += 1) {
      const block = random.int(volume.sizeBytes / BLOCK_BYTES);
      world.scheduler.after(random.range(0, 1000), () => {
        if (this.#ended || !this.#scene.answered()) return;
        if (random.chance(0.2)) this.#scene.sessionOf(volume).perform('flush', 0, 0, () => {});
        else this.#scene.sessionOf(volume).perform('write', block, 1, () => {});
      });
    }
  }

  #note(text: string): void {
    this.violations.push({ property: 'protection', text });
  }
}
