// A whole volume on scripted nodes: real upstreams, mirrors, flips and records, on a clock that the test moves.
import assert from 'node:assert/strict';
import { refuse, type TargetRef, type VolumeFact } from '../../gateway/control.js';
import { Upstream } from '../../gateway/upstream/upstream.js';
import { Volume, type VolumeSettings } from '../../gateway/volume/volume.js';
import { putVolume, type VolumeRecord } from '../../gateway/volume/volume-record.js';
import { OP, type Op } from '../../replication/device.js';
import type { Latches } from '../../replication/latch.js';
import { ManualClock } from './manual-clock.js';
import { MemoryJournals } from './memory-journals.js';
import { MemoryRecords } from './memory-records.js';
import { TestHasher } from './path-rig.js';
import { QuietLog } from './quiet-log.js';
import { ScriptedNode, turns } from './scripted-node.js';
import { WatchedRequest } from './upstream-rig.js';

export const SETTINGS: VolumeSettings = {
  durability: 'async',
  queueBytesMax: 1024 * 1024,
  whenFull: 'slow',
  flipDeadlineMs: 250,
  flipDeadlineMaxMs: 250,
  hangAfterMs: 5000,
  giveUpAfterMs: 30_000,
  hedgeAfterMs: null,
  copyBytesPerSecond: 1e12,
  copyBytesPerSecondMin: 1e6,
  scrubBytesPerSecond: 1e12,
  hostLatencyGuard: 2,
};

export function target(node: string): TargetRef {
  return { node, export: '' };
}

export class VolumeRig {
  readonly clock: ManualClock;
  readonly log = new QuietLog();
  readonly records: MemoryRecords;
  readonly nodes: Record<string, ScriptedNode>;
  readonly volume: Volume;
  /** As they were when they were told. */
  readonly facts: VolumeFact[] = [];
  readonly sizeBytes = 64 * 1024;

  constructor(
    options: {
      settings?: Partial<VolumeSettings>;
      records?: MemoryRecords;
      nodes?: Record<string, ScriptedNode>;
      zombieMs?: number;
      journals?: MemoryJournals;
      latches?: Latches;
      clock?: ManualClock;
    } = {},
  ) {
    this.clock = options.clock ?? new ManualClock();
    this.records = options.records ?? new MemoryRecords();
    this.nodes = options.nodes ?? {
      a: new ScriptedNode(this.sizeBytes),
      b: new ScriptedNode(this.sizeBytes),
      c: new ScriptedNode(this.sizeBytes),
    };
    const stored = this.records.get('volume/v') as VolumeRecord | undefined;
    const record: VolumeRecord = stored ?? {
      format: 1,
      name: 'v',
      sizeBytes: this.sizeBytes,
      blockMinimum: 1,
      epoch: 0,
      active: target('a'),
      mirrors: [],
      nextMirror: 1,
      lastFlip: null,
    };
    this.volume = new Volume({
      record,
      settings: { ...SETTINGS, ...options.settings },
      fresh: stored === undefined,
      records: this.records,
      clock: this.clock,
      log: this.log,
      hasher: new TestHasher(),
      journals: options.journals ?? new MemoryJournals(),
      latches: options.latches,
      regionBytes: 1024,
      extentBytes: 4096,
      connect: (to, needs, events, memory) => {
        if (this.nodes[to.node] === undefined) return refuse('node-not-found', `no node ${to.node}`);
        const upstream = new Upstream(
          {
            target: to,
            address: () => ({ host: to.node, port: 1 }),
            exportName: to.export,
            connections: 1,
            zombieMs: options.zombieMs ?? 0,
            unflushedBytesMax: 1024 * 1024,
            memory,
            needs,
            dialer: this.nodes[to.node],
            clock: this.clock,
            log: this.log,
          },
          events,
        );
        return { ok: true, value: upstream };
      },
      fact: (fact) => this.facts.push(structuredClone(fact)),
    });
  }

  static async start(options: ConstructorParameters<typeof VolumeRig>[0] = {}): Promise<VolumeRig> {
    const rig = new VolumeRig(options);
    if (rig.records.get('volume/v') === undefined) await rig.records.commit([putVolume(rig.record())]);
    assert((await rig.volume.start()).ok);
    await turns();
    return rig;
  }

  /** A volume on node a with a mirror on b that has everything and was read back. */
  static async mirrored(options: ConstructorParameters<typeof VolumeRig>[0] = {}): Promise<VolumeRig> {
    const rig = await VolumeRig.start(options);
    await rig.addMirror('b');
    await rig.pass(1000);
    return rig;
  }

  /** What a gateway that was killed now would find when it starts again. */
  async restarted(options: { latches?: Latches; zombieMs?: number } = {}): Promise<VolumeRig> {
    const records = this.records.crashed();
    for (const node of Object.values(this.nodes)) node.cut();
    await turns();
    return VolumeRig.start({ records, nodes: this.nodes, ...options });
  }

  record(): VolumeRecord {
    const { volume } = this;
    return (
      (this.records.get('volume/v') as VolumeRecord | undefined) ?? {
        format: 1,
        name: 'v',
        sizeBytes: this.sizeBytes,
        blockMinimum: 1,
        epoch: volume.epoch,
        active: volume.active,
        mirrors: [],
        nextMirror: 1,
        lastFlip: null,
      }
    );
  }

  async addMirror(node: string): Promise<void> {
    const added = await this.finish(this.volume.addMirror(target(node), 'test'));
    assert(added.ok, added.ok ? '' : added.message);
    await this.until(() => this.state(node) === 'synced', `${node} in step`);
  }

  /** State of the mirror on a node; null: it holds none. */
  state(node: string): string | null {
    return this.volume.mirrors().find((mirror) => mirror.node === node)?.state ?? null;
  }

  /** Lets time pass in small steps, with what is under way in between. */
  async pass(delayMs: number, stepMs = 50): Promise<void> {
    for (let passed = 0; passed < delayMs; passed += stepMs) {
      this.clock.advance(stepMs);
      await turns(6);
    }
  }

  async until(what: () => boolean, why: string, limitMs = 30_000): Promise<void> {
    for (let passed = 0; passed < limitMs && !what(); passed += 50) await this.pass(50);
    assert(what(), why);
  }

  /** What a promise gives while time passes. */
  async finish<T>(promise: Promise<T>, limitMs = 60_000): Promise<T> {
    let outcome: { value: T } | null = null;
    let failed: { error: unknown } | null = null;
    promise.then(
      (value) => {
        outcome = { value };
      },
      (error) => {
        failed = { error };
      },
    );
    await turns();
    await this.until(() => outcome !== null || failed !== null, 'it ends', limitMs);
    if (failed !== null) throw (failed as { error: unknown }).error;
    return outcome!.value;
  }

  submit(op: Op, offset = 0, length = 0, data: Buffer | null = null, fua = false): WatchedRequest {
    const request = new WatchedRequest(op, offset, length, data);
    request.fua = fua;
    this.volume.submit(request);
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

  async stop(): Promise<void> {
    for (const node of Object.values(this.nodes)) {
      node.hold = () => false;
      node.answerAll();
    }
    await this.finish(this.volume.close());
    await turns();
  }
}
