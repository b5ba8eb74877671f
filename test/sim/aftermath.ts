// What is looked at when the faults are over and all is settled: that the copies are alike, and then one of: wrong bytes
// planted in a copy are mended from the right side, a flip's certificate is true, or nothing that was flushed is gone
// after all power failed at once. Compares with the nodes' disks, never with what the gateway believes.
import { checkCopies, type Violation } from './checker.js';
import type { HostSession } from './client.js';
import { BLOCK_BYTES, type SimDisk } from './disk.js';
import type { Random } from './random.js';
import type { SimWorld } from './sim-world.js';
import type { SimNode } from './node.js';
import { type Answer, exportOn, type Incarnation, type Status, type VolumePlan } from './system.js';

/** Runs the world until `done`; false: it did not come to that, which is a violation already. */
export type Phase = (name: string, limitMs: number, done: () => boolean) => Promise<boolean>;

export interface Scene {
  readonly world: SimWorld;
  readonly random: Random;
  readonly volumes: readonly VolumePlan[];
  readonly phase: Phase;
  incarnation(): Incarnation | null;
  status(volume: string): Status;
  sessionOf(volume: VolumePlan): HostSession;
  /** Every session is attached and nothing is unanswered. */
  answered(): boolean;
  settled(): boolean;
  /** Virtual time within which it must be settled. */
  readonly settleMs: number;
  /** Gateways that have ended so far. */
  ended(): number;
  /** From now on, or no more, a gateway that is made to crash may do so. */
  mayCrash(may: boolean): void;
  /** Null: the gateway crashed meanwhile. */
  wish(what: 'flip' | 'scrub', volume: string, node: string): Promise<Answer | null>;
  crashGateway(downMs: number): void;
  powerLost(node: SimNode): void;
}

/** Virtual time within which everything is answered. */
export const ANSWER_MS = 60_000;
const FINAL_BLOCKS = 256;
/** Sets of regions that may have been verified again are few enough to try. */
const TOUCHED_MAX = 6;

export class Aftermath {
  readonly violations: Violation[] = [];
  readonly #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  /** False: something did not end. */
  async play(): Promise<boolean> {
    const { random, volumes } = this.#scene;
    if (!(await this.compare())) return false;
    if (this.#scene.world.rotten.any) return true;
    const draw = random.fraction();
    if (draw < 0.2) return this.#plant(random.pick(volumes));
    if (draw < 0.35) return this.#certify(random.pick(volumes));
    return draw < 0.65 ? this.#blackout() : true;
  }

  /** What a disk could not read is written again: from then on it can be read everywhere. */
  async #refill(): Promise<boolean> {
    const { world, volumes } = this.#scene;
    let any = false;
    for (const volume of volumes) {
      for (const block of world.worn.missing(volume.name, world.history)) {
        any = true;
        if (!(await this.#perform(volume, 'write', block, 1))) return false;
      }
    }
    return !any || this.#quiet('settling after what was lost was written');
  }

  /** The copies are alike. */
  async compare(): Promise<boolean> {
    const { world, volumes } = this.#scene;
    if (!(await this.#refill())) return false;
    for (const volume of volumes) {
      const contents = await this.#readAll(volume);
      if (contents === null) return false;
      const copies = this.#copiesOf(volume).map((node) => ({ node, contents: this.#disk(volume, node).contents }));
      const { rotten } = world;
      // A host cannot read all where a copy went bad: then the copies must be alike but for that.
      const expected = rotten.any ? copies[0].contents.subarray(0, volume.sizeBytes) : contents;
      this.violations.push(...checkCopies(volume.name, expected, copies, (block) => rotten.has(volume.name, block)));
      world.moment(`copies compared: ${copies.length}`);
    }
    return true;
  }

  /** The gateway and every node lose power at once, mostly after a flush: what it covered may not be gone, and the copies must become alike. */
  async #blackout(): Promise<boolean> {
    const { world, random, volumes, phase } = this.#scene;
    const unprepared = random.chance(0.4);
    for (const volume of unprepared ? [] : volumes) if (!(await this.#perform(volume, 'flush', 0, 0))) return false;
    this.#scene.crashGateway(5);
    for (const node of world.nodes) {
      this.#scene.powerLost(node);
      node.kill(true);
      node.start();
    }
    world.moment('blackout');
    if (!(await phase('after the blackout', ANSWER_MS, () => this.#scene.answered()))) return false;
    return (await phase('settling after the blackout', this.#scene.settleMs, () => this.#scene.settled())) && this.compare();
  }

  /** A byte goes bad on one copy. A scrub mends it where checksums were known, and never overwrites a copy that was right. */
  async #plant(volume: VolumePlan): Promise<boolean> {
    const { world, random } = this.#scene;
    const copies = this.#copiesOf(volume);
    if (copies.length < 2) return true;
    let known = false;
    if (random.chance(0.7)) {
      const scrubbed = await this.#scrub(volume);
      if (scrubbed === null) return false;
      known = scrubbed;
    }
    const { regionBytes } = this.#scene.incarnation()!;
    const regions = Math.max(1, Math.floor(volume.sizeBytes / regionBytes));
    const region = random.int(regions);
    const wrong = random.pick(copies);
    const regionOf = (node: string): Buffer =>
      Buffer.from(this.#disk(volume, node).contents.subarray(region * regionBytes, (region + 1) * regionBytes));
    const right = regionOf(wrong);
    const blocks = regionBytes / BLOCK_BYTES;
    this.#disk(volume, wrong).corrupt(region * blocks + random.int(blocks));
    const planted = regionOf(wrong);
    world.rotten.plant(volume.name);
    world.moment(`wrong byte planted, checksums ${known ? 'known' : 'as they were'}`);
    world.trace(() => `a byte of region ${region} goes bad on ${wrong}`);
    // What has no checksum a host may see as it is.
    if (known && !(await this.#perform(volume, 'read', region * blocks, blocks))) return false;
    const lives = this.#scene.ended();
    this.#scene.mayCrash(true);
    if (random.chance(0.2)) world.scheduler.after(random.range(0, 40), () => this.#scene.crashGateway(random.range(0, 50)));
    if (!(await this.#writeBeside(volume, region, blocks)) || (await this.#scrub(volume)) === null) return false;
    this.#scene.mayCrash(false);
    if (!(await this.#quiet('settling after the scrub'))) return false;
    if (this.#scene.ended() > lives) {
      // What was known of extents that were marked is gone, and they are copied again, as they are.
      known = false;
      if ((await this.#scrub(volume)) === null || !(await this.#quiet('settling after another scrub'))) return false;
    }
    // It was declared right, because it is the active one and nobody could tell that it is a few bytes that are wrong; others may be copied from it since.
    const left = this.#copiesOf(volume);
    if (!copies.every((node) => left.includes(node))) return true;
    const after = regionOf(wrong);
    const mended = after.equals(right);
    const crashed = this.#scene.ended() > lives;
    for (const node of copies) {
      const has = regionOf(node);
      if (node !== wrong && !has.equals(right) && !(crashed && has.equals(planted)))
        this.#note(`a scrub overwrote region ${region} of the copy on ${node}, which was right`);
    }
    if (!mended && !after.equals(planted))
      this.#note(`region ${region} on ${wrong} has neither the planted bytes nor the right ones after a scrub`);
    if (!mended && known) this.#note(`a scrub did not mend region ${region} on ${wrong}, though its checksum was known`);
    if (mended) world.moment('wrong byte mended');
    return true;
  }

  #quiet(name: string): Promise<boolean> {
    return this.#scene.phase(name, this.#scene.settleMs, () => this.#scene.answered() && this.#scene.settled());
  }

  /** Some regions are written after a scrub, then the volume flips: its certificate says of every other that it was verified, and of none that was not. */
  async #certify(volume: VolumePlan): Promise<boolean> {
    const { world, random, phase } = this.#scene;
    const { active, mirrors } = this.#scene.status(volume.name);
    if (mirrors.length === 0 || mirrors.some(({ state }) => state !== 'synced')) return true;
    const scrubbed = await this.#scrub(volume);
    if (scrubbed === null) return false;
    if (!scrubbed) return true;
    const incarnation = this.#scene.incarnation()!;
    const touched = new Set<number>();
    const blocks = incarnation.regionBytes / BLOCK_BYTES;
    for (let writes = random.int(4); writes > 0; writes -= 1) {
      const block = random.int(volume.sizeBytes / BLOCK_BYTES);
      touched.add(Math.floor(block / blocks));
      if (!(await this.#perform(volume, 'write', block, 1))) return false;
    }
    if (!(await phase('settling before the flip', this.#scene.settleMs, () => this.#scene.settled()))) return false;
    const to = random.pick(mirrors).node;
    const answer = await this.#wished('flip', volume, to);
    if (answer === undefined) return false;
    if (answer === null || answer.certificate === undefined) return true;
    world.moment('certificate checked');
    const { certificate } = answer;
    if (certificate.from.node !== active || certificate.to.node !== to || certificate.dirtyRegions !== 0)
      this.#note(`a certificate of a flip from ${active} to ${to} says ${JSON.stringify(certificate)}`);
    const regions = Array.from({ length: Math.ceil(volume.sizeBytes / incarnation.regionBytes) }, (_, region) => region);
    const { roots } = certificate;
    const contents = this.#disk(volume, to).contents.subarray(0, volume.sizeBytes);
    const isTrue = subsets([...touched].slice(0, TOUCHED_MAX)).some((again) => {
      const verified = regions.filter((region) => !touched.has(region) || again.includes(region));
      const root = incarnation.rootOf(contents, verified);
      return roots.verifiedRegions === verified.length && roots.from === root && roots.to === root;
    });
    if (!isTrue || roots.unverifiedRegions !== regions.length - roots.verifiedRegions)
      this.#note(
        `a certificate says ${JSON.stringify(roots)}, but of ${regions.length} verified regions ${[...touched].join(', ')} were written since`,
      );
    return true;
  }

  /** Does it say that it is done? Null: it did not end. The first may be the rest of one that was interrupted. */
  async #scrub(volume: VolumePlan): Promise<boolean | null> {
    if ((await this.#wished('scrub', volume, '')) === undefined) return null;
    const answer = await this.#wished('scrub', volume, '');
    return answer === undefined ? null : (answer?.ok ?? false);
  }

  /** Undefined: it did not end. */
  async #wished(what: 'flip' | 'scrub', volume: VolumePlan, node: string): Promise<Answer | null | undefined> {
    const lives = this.#scene.ended();
    let answer: Answer | null | undefined;
    void this.#scene.wish(what, volume.name, node).then((given) => {
      answer = given;
    });
    // A gateway that is gone answers nothing.
    const over = (): boolean => answer !== undefined || this.#scene.ended() > lives;
    return (await this.#scene.phase(`a last ${what}`, this.#scene.settleMs, over)) ? (answer ?? null) : undefined;
  }

  /** Hosts go on, but not there. */
  async #writeBeside(volume: VolumePlan, region: number, blocks: number): Promise<boolean> {
    const { random } = this.#scene;
    for (let writes = random.int(4); writes > 0; writes -= 1) {
      const block = random.int(volume.sizeBytes / BLOCK_BYTES);
      if (Math.floor(block / blocks) !== region) this.#scene.sessionOf(volume).perform('write', block, 1, () => {});
    }
    return true;
  }

  async #perform(volume: VolumePlan, kind: 'flush' | 'read' | 'write', block: number, count: number): Promise<boolean> {
    let done = false;
    this.#scene.sessionOf(volume).perform(kind, block, count, () => {
      done = true;
    });
    return this.#scene.phase(`a last ${kind}`, ANSWER_MS, () => done);
  }

  async #readAll(volume: VolumePlan): Promise<Buffer | null> {
    const contents = Buffer.alloc(volume.sizeBytes);
    const blocks = volume.sizeBytes / BLOCK_BYTES;
    let left = 0;
    for (let block = 0; block < blocks; block += FINAL_BLOCKS) {
      left += 1;
      this.#scene.sessionOf(volume).perform('read', block, Math.min(FINAL_BLOCKS, blocks - block), (operation, request) => {
        if (operation.errno === 0) request.data!.copy(contents, block * BLOCK_BYTES);
        left -= 1;
      });
    }
    return (await this.#scene.phase('last reads', ANSWER_MS, () => left === 0)) ? contents : null;
  }

  /** Nodes whose copies must be alike: the active one first. */
  #copiesOf(volume: VolumePlan): string[] {
    const { active, mirrors } = this.#scene.status(volume.name);
    return [active, ...mirrors.filter((mirror) => mirror.state === 'synced').map((mirror) => mirror.node)];
  }

  #disk(volume: VolumePlan, node: string): SimDisk {
    return this.#scene.world.node(node).disks.get(exportOn(this.#scene.status(volume.name), node, volume.name))!;
  }

  #note(text: string): void {
    this.violations.push({ property: 'integrity', text });
  }
}

function subsets(items: number[]): number[][] {
  return items.reduce<number[][]>((sets, item) => sets.concat(sets.map((set) => [...set, item])), [[]]);
}
