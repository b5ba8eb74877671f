// An upstream on a scripted node and a clock that stands still: what tests of reconnecting, replaying and guarding need.
import assert from 'node:assert/strict';
import { DoubtRecords } from '../../gateway/upstream/doubt-records.js';
import { type TargetMemory, Upstream, type UpstreamOptions } from '../../gateway/upstream/upstream.js';
import { type Sample, Witnesses } from '../../gateway/upstream/witnesses.js';
import { OP, type Op, PromisedRequest } from '../../replication/device.js';
import { ManualClock } from './manual-clock.js';
import { MemoryRecords } from './memory-records.js';
import { TestHasher } from './path-rig.js';
import { QuietLog } from './quiet-log.js';
import { ScriptedNode, turns } from './scripted-node.js';

/** A request whose outcome can be looked at without waiting. */
export class WatchedRequest extends PromisedRequest {
  errno: number | null = null;

  override complete(errno: number): void {
    assert.equal(this.errno, null, 'a request is answered once');
    this.errno = errno;
    super.complete(errno);
  }
}

export class UpstreamRig {
  readonly clock = new ManualClock();
  readonly log = new QuietLog();
  readonly node: ScriptedNode;
  readonly upstream: Upstream;
  /** `connected`, `lost: why`, `blocked: why`, `unlike: how many of how many`, in order. */
  readonly told: string[] = [];
  /** What it answers when a target came back with other contents. */
  mends = false;

  constructor(options: Partial<UpstreamOptions> & { node?: ScriptedNode; sizeBytes?: number } = {}) {
    const { node, sizeBytes = 1024 * 1024, ...rest } = options;
    this.node = node ?? new ScriptedNode(sizeBytes);
    this.upstream = new Upstream(
      {
        target: { node: 'a', export: '' },
        address: () => ({ host: 'a', port: 1 }),
        exportName: '',
        connections: 1,
        zombieMs: 0,
        unflushedBytesMax: 1024 * 1024,
        memory: null,
        needs: { sizeBytes, blockMinimum: 1 },
        dialer: this.node,
        clock: this.clock,
        log: this.log,
        ...rest,
      },
      {
        connected: () => this.told.push('connected'),
        lost: (reason) => this.told.push(`lost: ${reason}`),
        blocked: (reason) => this.told.push(`blocked: ${reason}`),
        settled: (ranges) => this.told.push(`settled: ${ranges.map(({ offset, end }) => `${offset}-${end}`).join(' ')}`),
        unlike: async ({ wrong, checked, blank }) => {
          this.told.push(`unlike: ${wrong} of ${checked}${blank ? ', blank' : ''}`);
          return this.mends;
        },
      },
    );
  }

  static async ready(options: ConstructorParameters<typeof UpstreamRig>[0] = {}): Promise<UpstreamRig> {
    const rig = new UpstreamRig(options);
    rig.upstream.start();
    await turns();
    assert.equal(rig.upstream.state, 'ready');
    return rig;
  }

  submit(op: Op, offset = 0, length = 0, data: Buffer | null = null, lane = 0): WatchedRequest {
    const request = new WatchedRequest(op, offset, length, data);
    request.lane = lane;
    this.upstream.submit(request);
    return request;
  }

  write(offset: number, data: Buffer, lane = 0): WatchedRequest {
    return this.submit(OP.WRITE, offset, data.length, data, lane);
  }

  read(offset: number, length: number): WatchedRequest {
    return this.submit(OP.READ, offset, length);
  }

  flush(): WatchedRequest {
    return this.submit(OP.FLUSH);
  }

  /** The node answers a read, whatever else it holds: it hangs with that, but is there. */
  async hear(): Promise<void> {
    const { hold } = this.node;
    this.clock.advance(1);
    this.node.hold = () => false;
    const read = this.read(0, 512);
    await turns();
    assert.equal(read.errno, 0);
    this.node.hold = hold;
  }

  /** Lets retries come due until the upstream is ready, or `tries` are over. */
  async reconnect(tries = 12): Promise<void> {
    await turns();
    for (let attempt = 0; attempt < tries && !this.upstream.ready; attempt += 1) {
      this.clock.advance(1000);
      await turns();
    }
  }
}

/** What a volume would remember of the rig's target; `expected`: what else it must hold. */
export function memoryOf(records = new MemoryRecords(), expected: Sample[] = []): TargetMemory {
  const hasher = new TestHasher();
  return {
    doubts: new DoubtRecords(records, 'v', { node: 'a', export: '' }),
    witnesses: new Witnesses(hasher),
    hasher,
    expected: () => expected,
  };
}

/** 512 bytes, or `length`, of one value. */
export function filled(value: number, length = 512): Buffer {
  return Buffer.alloc(length, value);
}
