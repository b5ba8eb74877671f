// One volume of the configuration in service: finds its place (the store's, or the first placement), holds the volume
// and what people want to know of it. A place that does not answer or does not fit stops this volume alone.
import type { VolumeConfig } from '../../config/config.js';
import { formatBytes } from '../../config/units.js';
import type { Hasher } from '../../replication/hasher.js';
import type { Latches } from '../../replication/latch.js';
import type { Clock, Log, Records, Timer } from '../../replication/world.js';
import { type Outcome, refuse, type ScrubReport, type TargetRef, type VolumeFact, type VolumeView } from '../control.js';
import type { Fleet } from '../fleet/fleet.js';
import { LatencyHistogram } from '../metrics/histogram.js';
import type { IoProfile, LatencyFacts } from '../placement/node-facts.js';
import { describeTarget } from '../volume/copy.js';
import type { JournalFiles } from '../volume/journaling.js';
import { Volume, type VolumeSettings } from '../volume/volume.js';
import { oursKey, putVolume, RECORD_FORMAT, readVolume, type VolumeRecord } from '../volume/volume-record.js';
import { findPlace } from './first-placement.js';

const RETRY_MS = 1000;
const CLOSING = refuse('closing', 'the gateway is shutting down');
const PROFILE_MS = 5000;

export interface ServiceWorld {
  fleet: Fleet;
  records: Records;
  clock: Clock;
  log: Log;
  hasher: Hasher;
  journals: JournalFiles;
  latches: Latches;
  /** Take targets of a data directory nobody knows (rule 19). */
  adopt: boolean;
  /** The volume that has a copy on the target, but for `except` (rule 20). */
  usedBy(target: TargetRef, except: string): Outcome<string | null>;
  fact(name: string, fact: VolumeFact): void;
  /** The volume is there and hosts can attach it. */
  opened(served: ServedVolume): void;
}

export interface FlipCounts {
  flip: number;
  failover: number;
  rollback: number;
}

export class ServedVolume {
  config: VolumeConfig;
  volume: Volume | null = null;
  /** Why there is no volume yet. */
  problem: string | null = null;
  readonly flips: FlipCounts = { flip: 0, failover: 0, rollback: 0 };
  readonly flipPause = new LatencyHistogram();
  readonly scrubs = { finished: 0, comparedBytes: 0, mismatches: 0, repaired: 0, lastEndMs: null as number | null };
  readonly #world: ServiceWorld;
  readonly #clients = new Map<number, string>();
  #profile: IoProfile = { readShare: 0.5, iops: 0, bytesPerSecond: 0, blockBytes: 4096 };
  #latency: LatencyFacts | null = null;
  #last = { reads: 0, writes: 0, bytes: 0, atMs: 0 };
  #timer: Timer | null = null;
  readonly #awaitScrub: ((report: ScrubReport) => void)[] = [];
  #stopped = false;
  /** The start of the volume that was begun last. */
  #starting: Promise<unknown> = Promise.resolve();
  /** The configured size that was last found to be another than the volume's. */
  #comparedBytes: number | null = null;

  constructor(config: VolumeConfig, world: ServiceWorld) {
    this.config = config;
    this.#world = world;
  }

  get name(): string {
    return this.config.name;
  }

  /** Tries until the volume is open; what is wrong meanwhile is `problem`. */
  async open(): Promise<void> {
    const opened = await this.#open();
    if (this.#stopped) return;
    if (opened.ok) {
      this.problem = null;
      this.#measure();
      this.#world.opened(this);
      return;
    }
    if (this.problem !== opened.message)
      this.#world.log.error({ volume: this.name, code: opened.code }, `the volume is not served: ${opened.message}`);
    this.problem = opened.message;
    this.#timer = this.#world.clock.after(RETRY_MS, () => void this.open());
  }

  async close(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    // One that is just being opened still looks at the store.
    await this.#starting;
    await this.volume?.close();
  }

  configure(config: VolumeConfig): void {
    this.config = config;
    this.volume?.configure(settingsOf(config));
  }

  attached(lane: number, client: string): void {
    this.#clients.set(lane, client);
  }

  detached(lane: number): void {
    this.#clients.delete(lane);
  }

  clients(): string[] {
    return [...this.#clients.values()];
  }

  profile(): IoProfile {
    return this.#profile;
  }

  latency(): LatencyFacts | null {
    return this.#latency;
  }

  /** Where its copies are, also before it is open, as far as the store or the configuration say. */
  targets(): { target: TargetRef; role: 'active' | 'mirror' }[] {
    if (this.volume !== null)
      return this.volume.copies.map((copy) => ({ target: copy.target, role: copy.mirror === null ? 'active' : 'mirror' }));
    const stored = readVolume(this.#world.records, this.name);
    if (stored.ok && stored.value !== undefined) {
      return [
        { target: stored.value.active, role: 'active' },
        ...stored.value.mirrors.map((mirror) => ({ target: mirror.target, role: 'mirror' as const })),
      ];
    }
    return [{ target: this.#firstTarget(), role: 'active' }];
  }

  view(state: VolumeView['state']): VolumeView {
    const { volume, config } = this;
    const service = volume === null ? { state: 'blocked' as const, reason: this.problem ?? 'it is starting' } : volume.service;
    return {
      name: this.name,
      size: volume?.sizeBytes ?? config.sizeBytes,
      epoch: volume?.epoch ?? 0,
      state,
      service: service.state,
      reason: service.reason,
      priority: config.priority,
      policy: config.policy.name,
      labels: config.labels,
      active: volume?.active ?? this.targets()[0].target,
      mirrors: volume?.mirrors() ?? [],
      journal: volume?.journal ?? null,
      clients: this.clients(),
      lostBytes: volume?.lostBytes ?? 0,
      scrub: volume?.scrubReport ?? null,
      lastFlip: volume?.lastFlip ?? null,
    };
  }

  /** Resolves with the report of the scrub under way, when it ends. */
  scrubEnded(): Promise<ScrubReport> {
    return new Promise((resolve) => this.#awaitScrub.push(resolve));
  }

  noteFact(fact: VolumeFact): void {
    if (fact.type === 'flipped') {
      this.flips[fact.certificate.kind] += 1;
      this.flipPause.record(fact.certificate.pauseMs * 1000);
    } else if (fact.type === 'scrub-finished') {
      for (const resolve of this.#awaitScrub.splice(0)) resolve(fact.report);
      this.scrubs.finished += 1;
      this.scrubs.comparedBytes += fact.report.comparedBytes;
      this.scrubs.mismatches += fact.report.mismatches.length;
      this.scrubs.repaired += fact.report.mismatches.filter((mismatch) => mismatch.repaired).length;
      this.scrubs.lastEndMs = this.#world.clock.wallMs();
    }
  }

  async #open(): Promise<Outcome<null>> {
    const { records, fleet, clock, log, hasher } = this.#world;
    const stored = readVolume(records, this.name);
    if (!stored.ok) return stored;
    let record = stored.value;
    const fresh = record === undefined;
    if (record === undefined) {
      const placed = await this.#place();
      if (!placed.ok) return placed;
      record = placed.value;
    } else this.#compareSize(record.sizeBytes);
    if (this.#stopped) return CLOSING;
    const volume = new Volume({
      record,
      settings: settingsOf(this.config),
      fresh,
      records,
      clock,
      log,
      hasher,
      journals: this.#world.journals,
      latches: this.#world.latches,
      connect: (target, needs, events, memory) => fleet.connect(target, needs, events, memory),
      fact: (fact) => {
        this.noteFact(fact);
        this.#world.fact(this.name, fact);
      },
    });
    const starting = volume.start().then((started) => {
      if (started.ok) this.volume = volume;
      return started;
    });
    this.#starting = starting;
    return starting;
  }

  /** The configuration has the first size only. What of it is not so is said once. */
  #compareSize(sizeBytes: number): void {
    const { log } = this.#world;
    const configured = this.config.sizeBytes;
    if (configured === sizeBytes || configured === this.#comparedBytes) return;
    this.#comparedBytes = configured;
    const has = `the volume has ${formatBytes(sizeBytes)} (${sizeBytes} bytes)`;
    if (configured < sizeBytes)
      log.info(
        { volume: this.name },
        `${has}, the configuration ${formatBytes(configured)}, which was its first size or is wrong: nothing shrinks`,
      );
    else
      log.warn(
        { volume: this.name },
        `the configuration says ${formatBytes(configured)}, but ${has}: "forestall grow ${this.name} ${configured}" grows it`,
      );
  }

  #firstTarget(): TargetRef {
    const { node, export: name } = this.config;
    const plain = this.#world.fleet.get(node)?.kind === 'plain';
    return { node, export: name === '' && !plain ? this.name : name };
  }

  /** The first placement: checked, claimed, and written down before anything is served from it. */
  async #place(): Promise<Outcome<VolumeRecord>> {
    const target = this.#firstTarget();
    const used = this.#world.usedBy(target, this.name);
    if (!used.ok) return used;
    if (used.value !== null) {
      const right = 'give this volume a place of its own';
      return refuse('target-in-use', `${describeTarget(target)} holds a copy of volume ${used.value}: ${right}`);
    }
    const found = await findPlace(this.#world, target, { name: this.name, sizeBytes: this.config.sizeBytes });
    if (!found.ok) return found;
    if (this.#stopped) return CLOSING;
    const record: VolumeRecord = {
      format: RECORD_FORMAT,
      name: this.name,
      sizeBytes: this.config.sizeBytes,
      blockMinimum: found.value.blockMinimum,
      epoch: found.value.epoch,
      active: target,
      mirrors: [],
      nextMirror: 1,
      lastFlip: null,
    };
    try {
      await this.#world.records.commit([putVolume(record), { put: oursKey(target), value: { volume: this.name } }]);
    } catch (error) {
      return refuse('store-unwritable', `where the volume is cannot be written down: ${(error as Error).message}`);
    }
    return { ok: true, value: record };
  }

  /** Keeps the I/O profile that placement weighs. */
  #measure(): void {
    if (this.#stopped || this.volume === null) return;
    const { counters } = this.volume.path;
    const nowMs = this.#world.clock.nowMs();
    const bytes = counters.readBytes + counters.writtenBytes;
    const seconds = (nowMs - this.#last.atMs) / 1000;
    if (this.#last.atMs > 0 && seconds > 0) {
      const reads = counters.reads - this.#last.reads;
      const requests = reads + counters.writes - this.#last.writes;
      const moved = bytes - this.#last.bytes;
      if (requests > 0) {
        this.#profile = {
          readShare: reads / requests,
          iops: requests / seconds,
          bytesPerSecond: moved / seconds,
          blockBytes: moved / requests,
        };
      } else this.#profile = { ...this.#profile, iops: 0, bytesPerSecond: 0 };
    }
    const p50Us = counters.latency.quantile(0.5);
    const p99Us = counters.latency.quantile(0.99);
    this.#latency = p50Us === null || p99Us === null ? null : { p50Us, p99Us };
    this.#last = { reads: counters.reads, writes: counters.writes, bytes, atMs: nowMs };
    this.#timer = this.#world.clock.after(PROFILE_MS, () => this.#measure());
  }
}

export function settingsOf({ policy }: VolumeConfig): VolumeSettings {
  return {
    durability: policy.mirror.durability,
    queueBytesMax: policy.mirror.queueBytes,
    whenFull: policy.mirror.whenFull,
    flipDeadlineMs: policy.flip.deadlineMs,
    flipDeadlineMaxMs: policy.flip.deadlineMaxMs,
    hangAfterMs: policy.failover.hangAfterMs,
    giveUpAfterMs: policy.failover.giveUpAfterMs,
    hedgeAfterMs: policy.reads.hedgeAfterMs,
    copyBytesPerSecond: policy.copy.bytesPerSecond,
    copyBytesPerSecondMin: policy.copy.minimumBytesPerSecond,
    scrubBytesPerSecond: policy.scrub.bytesPerSecond,
    hostLatencyGuard: policy.copy.hostLatencyGuard,
  };
}
