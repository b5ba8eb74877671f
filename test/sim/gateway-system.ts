// The real gateway's data path in the simulated world: volumes, upstreams, mirrors, flips, scrubs and recovery as they
// ship, wired to the simulation's clock, network and records. Small regions and extents, so that small volumes have many.
import type { FlipCertificate, Outcome } from '../../gateway/control.js';
import { refuse } from '../../gateway/control.js';
import { Upstream } from '../../gateway/upstream/upstream.js';
import { Volume, type VolumeSettings } from '../../gateway/volume/volume.js';
import { putVolume, readVolume, type VolumeRecord } from '../../gateway/volume/volume-record.js';
import { type Device, OP } from '../../replication/device.js';
import { RegionSums } from '../../replication/region-sums.js';
import { ReplicationQueue } from '../../replication/replication-queue.js';
import type { Records } from '../../replication/world.js';
import { HASHER, sum } from './hasher.js';
import type { Answer, Incarnation, Status, Surroundings, SystemUnderTest, VolumePlan } from './system.js';

const REGION_BYTES = 4096;
const EXTENT_BYTES = 32_768;
const UNFLUSHED_BYTES = 128 * 1024;
const QUEUE_BYTES = 64 * 1024;
const RETRY_MS = 50;

const NO_RECORDS: Records = { get: () => undefined, list: () => [], commit: async () => {} };

class GatewayIncarnation implements Incarnation {
  readonly #surroundings: Surroundings;
  readonly #volumes = new Map<string, Volume>();
  readonly regionBytes = REGION_BYTES;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
    for (const plan of surroundings.volumes) void this.#open(plan);
  }

  device(name: string): Device | null {
    return this.#volumes.get(name) ?? null;
  }

  addMirror(name: string, node: string): Promise<Answer> {
    return this.#ask(name, (volume) => volume.addMirror({ node, export: name }, 'the simulation wants it'));
  }

  removeMirror(name: string, node: string): Promise<Answer> {
    return this.#ask(name, (volume) => volume.removeMirror({ node, export: name }, 'the simulation wants it'));
  }

  flip(name: string, node: string): Promise<Answer> {
    let certificate: FlipCertificate | undefined;
    return this.#ask(name, async (volume) => {
      const outcome = await volume.flip({ node, export: name }, { kind: 'flip', reason: 'the simulation wants it', verdict: null });
      if (outcome.ok) certificate = outcome.value;
      return outcome;
    }).then((answer) => ({ ...answer, certificate }));
  }

  scrub(name: string): Promise<Answer> {
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
        activating: null,
        mirrors: record?.mirrors.map((mirror) => ({ node: mirror.target.node, state: 'lost' })) ?? [],
      };
    }
    return {
      active: volume.active.node,
      activating: volume.flippingTo?.node ?? null,
      mirrors: volume.mirrors().map(({ node, state }) => ({ node, state })),
    };
  }

  witnesses(name: string, node: string): number {
    const copy = this.#volumes.get(name)?.copies.find(({ target }) => target.node === node);
    return copy?.witnesses.samples().length ?? 0;
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
    for (const { target, upstream } of volume.copies) if (upstream.guardedRanges > 0) return `ranges on ${target.node} are in doubt`;
    if (volume.mayStillCopyAgain) return 'what earlier requests may have hit is not copied again yet';
    return null;
  }

  async #ask(name: string, wish: (volume: Volume) => Promise<Outcome<unknown>>): Promise<Answer> {
    const volume = this.#volumes.get(name);
    if (volume === undefined) return { ok: false, text: 'not open' };
    const outcome = await wish(volume);
    return outcome.ok ? { ok: true, text: 'done' } : { ok: false, text: `${outcome.code}: ${outcome.message}` };
  }

  async #open(plan: VolumePlan): Promise<void> {
    const { records, clock } = this.#surroundings;
    try {
      const stored = readVolume(records, plan.name);
      if (!stored.ok) throw new Error(stored.message);
      const record = stored.value ?? firstRecord(plan);
      if (stored.value === undefined) await records.commit([putVolume(record)]);
      this.#volumes.set(plan.name, await this.#volume(record, stored.value === undefined));
    } catch {
      clock.after(RETRY_MS, () => void this.#open(plan));
    }
  }

  async #volume(record: VolumeRecord, fresh: boolean): Promise<Volume> {
    const { clock, dialer, log, nodes, records, journals, durability, whenFull, count, giveUpAfterMs, hedgeAfterMs } = this.#surroundings;
    const settings: VolumeSettings = {
      durability,
      queueBytesMax: QUEUE_BYTES,
      whenFull,
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
    let replayed = false;
    const volume = new Volume({
      record,
      settings,
      fresh,
      records,
      clock,
      log,
      hasher: HASHER,
      journals,
      regionBytes: REGION_BYTES,
      extentBytes: EXTENT_BYTES,
      connect: (target, needs, events, memory) => {
        const place = nodes.find((node) => node.name === target.node);
        if (place === undefined) return refuse('node-not-found', `no node ${target.node}`);
        const options = {
          target,
          address: () => place.address,
          exportName: target.export,
          connections: 3,
          zombieMs: place.zombieMs,
          unflushedBytesMax: UNFLUSHED_BYTES,
          memory,
          needs,
          dialer,
          clock,
          log,
        };
        return { ok: true, value: new Upstream(options, events) };
      },
      fact: (fact) => {
        if (fact.type === 'journal-replayed') replayed = true;
        if (fact.type === 'flipped' && fact.certificate.kind === 'failover' && replayed) {
          replayed = false;
          this.#surroundings.takeover(record.name, fact.certificate.to.node);
          count.call(this.#surroundings, 'journal takeover');
        }
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
  start: (surroundings) => new GatewayIncarnation(surroundings),
};
