// The real gateway's data path in the simulated world: volumes, upstreams, mirrors, flips, scrubs and recovery as they
// ship, wired to the simulation's clock, network and records. Small regions and extents, so that small volumes have many.
import type { FlipCertificate, Outcome, TargetRef } from '../../gateway/control.js';
import { sameTarget } from '../../gateway/volume/copy.js';
import { Volume, type VolumeSettings } from '../../gateway/volume/volume.js';
import { putVolume, readVolume, type VolumeRecord } from '../../gateway/volume/volume-record.js';
import { type Device, OP } from '../../replication/device.js';
import { RegionSums } from '../../replication/region-sums.js';
import { ReplicationQueue } from '../../replication/replication-queue.js';
import type { Records } from '../../replication/world.js';
import { Guard, type Served } from './guard.js';
import { HASHER, sum } from './hasher.js';
import type { Answer, Incarnation, Policy, Status, Surroundings, SystemUnderTest, VolumePlan } from './system.js';
import { connectIn } from './upstreams.js';

const REGION_BYTES = 4096;
const EXTENT_BYTES = 32_768;
const QUEUE_BYTES = 64 * 1024;
const RETRY_MS = 50;
/** Why a target is blocked that does not hold what it must. */
const OTHER_CONTENTS = 'it came back with other contents';

const NO_RECORDS: Records = { get: () => undefined, list: () => [], commit: async () => {} };

class GatewayIncarnation implements Incarnation {
  readonly #surroundings: Surroundings;
  readonly #volumes = new Map<string, Volume>();
  readonly #connect: ReturnType<typeof connectIn>;
  readonly regionBytes = REGION_BYTES;
  readonly guarded: Guard | null;
  #policy: Policy;
  #closed = false;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
    const { durability, whenFull } = surroundings;
    this.#policy = { durability, whenFull };
    this.#connect = connectIn(surroundings);
    const { alarms, volumes } = surroundings;
    const served = new Map(volumes.map((plan) => [plan.name, this.#served(plan)]));
    this.guarded = alarms && new Guard(surroundings, alarms, served, this.#connect);
    for (const plan of surroundings.volumes) void this.#open(plan);
  }

  /** As the composition root does it. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.guarded?.stop();
    for (const volume of this.#volumes.values()) await volume.close();
  }

  setPolicy(policy: Policy): void {
    this.#policy = policy;
    for (const volume of this.#volumes.values()) volume.configure(this.#settings());
  }

  device(name: string): Device | null {
    return this.#volumes.get(name) ?? null;
  }

  grow(name: string, sizeBytes: number): Promise<Answer> {
    return this.#ask(name, (volume) => volume.grow(sizeBytes, (target, wanted) => this.#surroundings.enlarge(target, wanted)));
  }

  addMirror(name: string, node: string): Promise<Answer> {
    if (this.guarded !== null) return this.guarded.addMirror(name, node);
    return this.#ask(name, (volume) => volume.addMirror({ node, export: name }, 'the simulation wants it'));
  }

  removeMirror(name: string, node: string): Promise<Answer> {
    if (this.guarded !== null) return this.guarded.removeMirror(name, node);
    return this.#ask(name, (volume) => volume.removeMirror({ node, export: name }, 'the simulation wants it'));
  }

  flip(name: string, node: string): Promise<Answer> {
    if (this.guarded !== null) return this.guarded.flip(name, node);
    let certificate: FlipCertificate | undefined;
    return this.#ask(name, async (volume) => {
      const outcome = await volume.flip({ node, export: name }, { kind: 'flip', reason: 'the simulation wants it', verdict: null });
      if (outcome.ok) certificate = outcome.value;
      return outcome;
    }).then((answer) => ({ ...answer, certificate }));
  }

  scrub(name: string): Promise<Answer> {
    if (this.guarded !== null) return this.guarded.scrub(name);
    return this.#ask(name, (volume) => volume.scrub('the simulation wants it'));
  }

  status(name: string): Status {
    const volume = this.#volumes.get(name);
    if (volume === undefined) {
      const stored = readVolume(this.#surroundings.records, name);
      const plan = this.#surroundings.volumes.find((each) => each.name === name)!;
      const record = stored.ok ? stored.value : undefined;
      return {
        active: record?.active.node ?? plan.node,
        export: record?.active.export ?? plan.name,
        activating: null,
        mirrors: record?.mirrors.map(({ target }) => ({ ...target, state: 'lost' })) ?? [],
        refused: false,
      };
    }
    return {
      active: volume.active.node,
      export: volume.active.export,
      activating: volume.flippingTo?.node ?? null,
      mirrors: volume.mirrors().map(({ node, export: name, state }) => ({ node, export: name, state })),
      refused: volume.service.reason?.startsWith(OTHER_CONTENTS) ?? false,
    };
  }

  witnesses(name: string, node: string): number {
    const copy = this.#volumes.get(name)?.copies.find(({ target }) => target.node === node);
    return copy?.witnesses.samples().filter(({ offset, length }) => !copy.upstream.inDoubt(offset, length)).length ?? 0;
  }

  rootOf(contents: Buffer, regions: readonly number[]): string | null {
    const options = {
      records: NO_RECORDS,
      volume: '',
      sizeBytes: contents.length,
      regionBytes: REGION_BYTES,
      extentBytes: EXTENT_BYTES,
      isMarked: () => true,
      isDoubtful: () => false,
      isClean: () => false,
      isLost: () => false,
    };
    const sums = new RegionSums(options);
    for (const region of regions) sums.verify(region, sum(contents.subarray(region * REGION_BYTES, (region + 1) * REGION_BYTES)));
    return sums.root;
  }

  excess(name: string, largestBytes: number): string | null {
    const most = Math.max(QUEUE_BYTES, ReplicationQueue.cost(largestBytes, OP.WRITE));
    for (const { target, mirror } of this.#volumes.get(name)?.copies ?? []) {
      if (mirror === null || mirror.queue.hostBytes <= most) continue;
      return `${mirror.queue.hostBytes} bytes of hosts' writes are kept for the mirror on ${target.node}, ${most} are the most`;
    }
    return null;
  }

  unsettled(name: string): string | null {
    const volume = this.#volumes.get(name);
    if (volume === undefined) return `${name} is not open`;
    if (volume.service.state !== 'served') return `${name} is ${volume.service.state}: ${volume.service.reason}`;
    for (const mirror of volume.mirrors()) {
      if (mirror.state === 'failed') continue;
      if (mirror.state !== 'synced') return `the mirror on ${mirror.node} is ${mirror.state}: ${mirror.reason}`;
      if (mirror.dirtyBytes > 0 || mirror.lagBytes > 0)
        return `the mirror on ${mirror.node} lacks ${mirror.dirtyBytes + mirror.lagBytes} bytes`;
    }
    for (const { target, upstream, mirror } of volume.copies) {
      // One that was given up and has become too small since, or holds something else, is not written to any more.
      const isOut = mirror?.condition === 'failed' && upstream.state === 'blocked';
      if (!isOut && upstream.guardedRanges > 0) return `ranges on ${target.node} are in doubt`;
    }
    if (volume.mayStillCopyAgain) return 'what earlier requests may have hit is not copied again yet';
    return null;
  }

  /** The volume as protection's neighbours see it: open, or as far as its record says. */
  #served({ name, node }: VolumePlan): Served {
    const of = (): Volume | null => this.#volumes.get(name) ?? null;
    return {
      get volume() {
        return of();
      },
      targets: () => {
        const volume = of();
        if (volume !== null) return volume.copies.map(({ target, mirror }) => roleOf(target, mirror === null));
        const stored = readVolume(this.#surroundings.records, name);
        if (!stored.ok || stored.value === undefined) return [roleOf({ node, export: name }, true)];
        return [roleOf(stored.value.active, true), ...stored.value.mirrors.map(({ target }) => roleOf(target, false))];
      },
    };
  }

  async #ask(name: string, wish: (volume: Volume) => Promise<Outcome<unknown>>): Promise<Answer> {
    const volume = this.#volumes.get(name);
    if (volume === undefined) return { ok: false, text: 'not open' };
    const outcome = await wish(volume);
    return outcome.ok ? { ok: true, text: 'done' } : { ok: false, text: `${outcome.code}: ${outcome.message}` };
  }

  async #open(plan: VolumePlan): Promise<void> {
    if (this.#closed) return;
    const { records, clock } = this.#surroundings;
    let volume: Volume;
    try {
      const stored = readVolume(records, plan.name);
      if (!stored.ok) throw new Error(stored.message);
      const record = stored.value ?? firstRecord(plan);
      if (stored.value === undefined) await records.commit([putVolume(record)]);
      volume = await this.#volume(record, stored.value === undefined);
    } catch {
      clock.after(RETRY_MS, () => void this.#open(plan));
      return;
    }
    if (this.#closed) {
      await volume.close();
      return;
    }
    volume.configure(this.#settings());
    this.#volumes.set(plan.name, volume);
    this.guarded?.protect(volume);
  }

  #settings(): VolumeSettings {
    const { giveUpAfterMs, hedgeAfterMs } = this.#surroundings;
    return {
      ...this.#policy,
      queueBytesMax: QUEUE_BYTES,
      flipDeadlineMs: 250,
      flipDeadlineMaxMs: 1000,
      hangAfterMs: 3000,
      giveUpAfterMs,
      hedgeAfterMs,
      copyBytesPerSecond: 500 * 1024 * 1024,
      copyBytesPerSecondMin: 8 * 1024 * 1024,
      scrubBytesPerSecond: 500 * 1024 * 1024,
      hostLatencyGuard: 2,
    };
  }

  async #volume(record: VolumeRecord, fresh: boolean): Promise<Volume> {
    const { clock, log, records, journals, latches, count } = this.#surroundings;
    let replayed = false;
    const volume = new Volume({
      record,
      settings: this.#settings(),
      fresh,
      records,
      clock,
      log,
      hasher: HASHER,
      journals,
      latches,
      regionBytes: REGION_BYTES,
      extentBytes: EXTENT_BYTES,
      connect: this.#connect,
      fact: (fact) => {
        if (fact.type === 'journal-replayed') replayed = true;
        // It is copied again then, and no longer takes over with what was flushed alone.
        if (fact.type === 'target-back' && sameTarget(fact.target, volume.active)) {
          replayed = false;
          this.#surroundings.answers('return', record.name, fact.target.node);
        }
        if (fact.type === 'flipped' && replayed) {
          replayed = false;
          this.#surroundings.answers('takeover', record.name, fact.certificate.to.node);
          count.call(this.#surroundings, 'journal takeover');
        }
        if (fact.type === 'flipped' && fact.certificate.kind === 'failover')
          this.#surroundings.answers('failover', record.name, fact.certificate.to.node);
        this.guarded?.fact(record.name, fact);
        if (fact.type === 'mirror-state' && fact.to === 'catching-up' && fact.reason !== 'a write failed on the active target')
          count.call(this.#surroundings, 'mirror out of step by itself');
        count.call(
          this.#surroundings,
          `fact ${fact.type}${fact.type === 'flipped' ? ` ${fact.certificate.kind}` : ''}${fact.type === 'mirror-state' ? ` ${fact.to}` : ''}`,
        );
      },
    });
    const started = await volume.start();
    if (!started.ok) throw new Error(started.message);
    return volume;
  }
}

function roleOf(target: TargetRef, isActive: boolean): { target: TargetRef; role: 'active' | 'mirror' } {
  return { target, role: isActive ? 'active' : 'mirror' };
}

function firstRecord(plan: VolumePlan): VolumeRecord {
  return {
    format: 1,
    name: plan.name,
    sizeBytes: plan.sizeBytes,
    blockMinimum: 512,
    epoch: 0,
    active: { node: plan.node, export: plan.name },
    mirrors: [],
    nextMirror: 1,
    lastFlip: null,
  };
}

export const gatewaySystem: SystemUnderTest = {
  name: 'gateway',
  protects: true,
  grows: true,
  start: (surroundings) => new GatewayIncarnation(surroundings),
};
