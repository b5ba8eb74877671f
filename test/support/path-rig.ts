// A volume's I/O path over devices in memory, with its intent log, checksums and mirrors, on a clock that stands still.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { IoPath } from '../../gateway/volume/io-path.js';
import type { VolumeOp } from '../../gateway/volume/volume-op.js';
import { type Device, OP, type Op } from '../../replication/device.js';
import type { Hasher } from '../../replication/hasher.js';
import { IntentLog } from '../../replication/intent-log.js';
import { Mirror } from '../../replication/mirror.js';
import type { MirrorOptions, QueueSettings } from '../../replication/mirror-options.js';
import { RegionSums } from '../../replication/region-sums.js';
import { Throttle } from '../../replication/throttle.js';
import { ManualClock } from './manual-clock.js';
import { MemoryDevice } from './memory-device.js';
import { MemoryRecords } from './memory-records.js';
import { QuietLog } from './quiet-log.js';
import { turns } from './scripted-node.js';
import { TestLost } from './test-lost.js';
import { WatchedRequest } from './upstream-rig.js';

/** Not xxh64, but as good for tests: equal bytes, equal sums. */
export class TestHasher implements Hasher {
  sum(bytes: Uint8Array): bigint {
    return createHash('sha1').update(bytes).digest().readBigUInt64LE();
  }

  async sums(bytes: Buffer, regionBytes: number): Promise<bigint[]> {
    const sums: bigint[] = [];
    for (let at = 0; at < bytes.length; at += regionBytes) sums.push(this.sum(bytes.subarray(at, at + regionBytes)));
    await new Promise((resolve) => setImmediate(resolve));
    return sums;
  }
}

export interface PathRigOptions {
  sizeBytes?: number;
  regionBytes?: number;
  extentBytes?: number;
  records?: MemoryRecords;
}

type MirrorChoices = Partial<MirrorOptions & QueueSettings>;

export class PathRig {
  readonly sizeBytes: number;
  readonly regionBytes: number;
  readonly extentBytes: number;
  readonly clock = new ManualClock();
  readonly records: MemoryRecords;
  readonly hasher = new TestHasher();
  readonly lost = new TestLost();
  readonly throttle = new Throttle(this.clock, 1e12, 1e6);
  readonly source: MemoryDevice;
  readonly intents: IntentLog;
  readonly sums: RegionSums;
  readonly path: IoPath;
  readonly mirrors: Mirror[] = [];
  /** `copying>synced`, in order, of all mirrors. */
  readonly conditions: string[] = [];
  readonly readRepairs: string[] = [];
  /** What the path asks when its active device refuses a write or a flush. */
  activeFailed: (op: VolumeOp, errno: number) => boolean = () => false;
  /** Offsets of reads that nobody may have the active target's answer to. */
  readonly fenced = new Set<number>();
  /** Offsets of regions that reads found to be other than their checksums say. */
  readonly wrong: number[] = [];

  constructor(options: PathRigOptions = {}) {
    this.sizeBytes = options.sizeBytes ?? 64 * 1024;
    this.regionBytes = options.regionBytes ?? 1024;
    this.extentBytes = options.extentBytes ?? 4096;
    this.records = options.records ?? new MemoryRecords();
    this.source = new MemoryDevice(this.sizeBytes, { completion: 'later' });
    this.intents = new IntentLog({
      records: this.records,
      clock: this.clock,
      log: new QuietLog(),
      volume: 'v',
      sizeBytes: this.sizeBytes,
      extentBytes: this.extentBytes,
      onMark: (extent) => [this.sums.onMark(extent)],
      unmarked: () => {},
    });
    this.sums = new RegionSums({
      records: this.records,
      volume: 'v',
      sizeBytes: this.sizeBytes,
      regionBytes: this.regionBytes,
      extentBytes: this.extentBytes,
      isMarked: (extent) => this.intents.isMarked(extent),
      isDoubtful: () => false,
      isClean: (extent) => this.intents.isClean(extent),
      isLost: (offset, length) => this.lost.overlaps(offset, length),
    });
    this.path = new IoPath({
      clock: this.clock,
      log: this.intents,
      sums: this.sums,
      sum: (bytes) => this.hasher.sum(bytes),
      active: this.source,
      activeTells: () => true,
      hedgeAfterMs: () => null,
      latencyOf: () => null,
      events: {
        wrong: (offset) => this.wrong.push(offset),
        fenced: (offset) => this.fenced.has(offset),
        rotten: () => false,
        givesUp: async () => {},
        lost: (offset, length) => this.lost.overlaps(offset, length),
        filled: (offset, length) => this.lost.filled(offset, length),
        activeFailed: (op, errno) => this.activeFailed(op, errno),
        readRepaired: (offset, length) => this.readRepairs.push(`${offset}+${length}`),
      },
    });
  }

  mirror(device: Device, { queueBytesMax = 1024 * 1024, whenFull = 'slow', ...options }: MirrorChoices = {}): Mirror {
    const mirror: Mirror = new Mirror({
      device,
      sizeBytes: this.sizeBytes,
      regionBytes: this.regionBytes,
      blockBytes: 128,
      lost: this.lost,
      blank: false,
      reverse: false,
      settings: () => ({ queueBytesMax, whenFull }),
      stallMs: 2000,
      lock: this.path.lock,
      sums: this.sums,
      hasher: this.hasher,
      throttle: this.throttle,
      clock: this.clock,
      source: () => this.source,
      others: () => this.mirrors.filter((other) => other !== mirror),
      sourceWrong: (offset) => this.wrong.push(offset),
      changed: (from, to) => this.conditions.push(`${from}>${to}`),
      room: () => this.path.roomCame(),
      ...options,
    });
    this.mirrors.push(mirror);
    return mirror;
  }

  /** A device with a mirror on it that has everything. */
  async synced(options: MirrorChoices & { sync?: boolean } = {}): Promise<{ device: MemoryDevice; mirror: Mirror }> {
    const device = new MemoryDevice(this.sizeBytes, { completion: 'later' });
    const mirror = this.mirror(device, options);
    mirror.markDirty(0, this.sizeBytes);
    this.path.setMirrors(this.mirrors, options.sync ? 'sync' : 'async');
    mirror.connected();
    for (let round = 0; round < 200 && !mirror.usable; round += 1) await turns(5);
    assert(mirror.usable, `${mirror.condition}: ${mirror.reason}`);
    assert.deepEqual(device.bytes, this.source.bytes);
    return { device, mirror };
  }

  submit(op: Op, offset = 0, length = 0, data: Buffer | null = null, fua = false): WatchedRequest {
    const request = new WatchedRequest(op, offset, length, data);
    request.fua = fua;
    this.path.submit(request);
    return request;
  }

  write(offset: number, data: Buffer, fua = false): WatchedRequest {
    return this.submit(OP.WRITE, offset, data.length, data, fua);
  }

  read(offset: number, length: number): WatchedRequest {
    return this.submit(OP.READ, offset, length);
  }

  flush(): WatchedRequest {
    return this.submit(OP.FLUSH);
  }
}
