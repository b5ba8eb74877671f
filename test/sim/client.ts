// A host's session: drives a volume as a device with random reads, writes, zeroes, flushes and block status, several at a
// time, over ranges that other sessions use too, and records what it sees. When the gateway crashes, what was not
// answered stays unknown and the session goes on with the next incarnation.
import assert from 'node:assert/strict';
import { type Device, type DeviceRequest, type Extent, OP, type Op } from '../../replication/device.js';
import { describeGarbage, GARBAGE, payloadOf, UNSEEN, writerOf } from './block-value.js';
import { BLOCK_BYTES } from './disk.js';
import type { Operation, OperationKind } from './history.js';
import type { Random } from './random.js';
import type { SimWorld } from './sim-world.js';

const WIRE_OP: Record<OperationKind, Op> = { read: OP.READ, write: OP.WRITE, zeroes: OP.ZEROES, flush: OP.FLUSH, status: OP.STATUS };

/** A device request that reports to the session. */
class HostRequest implements DeviceRequest {
  readonly op: Op;
  readonly offset: number;
  readonly length: number;
  readonly fua: boolean;
  punch = false;
  fast = false;
  one = false;
  data: Buffer | null = null;
  extents: Extent[] | null = null;

  constructor(
    readonly operation: Operation,
    readonly lane: number,
    private readonly done: (request: HostRequest, errno: number) => void,
  ) {
    this.op = WIRE_OP[operation.kind];
    this.offset = operation.block * BLOCK_BYTES;
    this.length = operation.count * BLOCK_BYTES;
    this.fua = operation.fua;
  }

  complete(errno: number): void {
    this.done(this, errno);
  }
}

export interface Workload {
  volume: string;
  blocks: number;
  /** Operations at a time. */
  depth: number;
  /** Pause after an answer, up to. */
  thinkMs: number;
  /** The range most operations fall into. */
  hotBlock: number;
  hotBlocks: number;
  /** Blocks of an operation, most of the time up to. */
  usualBlocks: number;
  /** Weight of flushes among operations that weigh 90 together. */
  flushes: number;
  /** How many of the writes have FUA. */
  fua: number;
  /** Time, at most moments none, for which nobody asks for anything from now on: what was written goes cold. */
  lullMs(): number;
}

/** Told of every operation. */
export interface Bystander {
  asked(operation: Operation): void;
  told(operation: Operation): void;
}

export class HostSession {
  readonly #world: SimWorld;
  readonly #random: Random;
  readonly #workload: Workload;
  /** Takes one operation from the budget all sessions share; false: there is none left. */
  readonly #draw: () => boolean;
  readonly #bystander: Bystander;
  #device: Device | null = null;
  /** Of the volume, as it saw it when it attached. */
  #blocks: number;
  /** Grows with each gateway incarnation: answers to an older one's requests are not heard. */
  #life = 0;
  readonly #outstanding = new Set<Operation>();
  #pendingIssues = 0;
  #garbage: string | null = null;

  constructor(
    readonly number: number,
    world: SimWorld,
    random: Random,
    workload: Workload,
    draw: () => boolean,
    bystander: Bystander,
  ) {
    this.#world = world;
    this.#random = random;
    this.#workload = workload;
    this.#blocks = workload.blocks;
    this.#draw = draw;
    this.#bystander = bystander;
  }

  get volume(): string {
    return this.#workload.volume;
  }

  /** Operations not answered whose gateway lives. */
  get outstanding(): readonly Operation[] {
    return [...this.#outstanding];
  }

  /** Attached, and nothing is to be done or waited for. */
  get idle(): boolean {
    return this.#device !== null && this.#outstanding.size === 0 && this.#pendingIssues === 0;
  }

  /** What the first garbage that was read looked like. */
  get garbage(): string | null {
    return this.#garbage;
  }

  /** It attaches anew, or asks for the size again: the volume may be larger. */
  look(): void {
    if (this.#device !== null) this.#blocks = this.#device.sizeBytes / BLOCK_BYTES;
  }

  attach(device: Device): void {
    this.#device = device;
    this.look();
    this.#life += 1;
    this.#outstanding.clear();
    this.#pendingIssues = 0;
    for (let each = 0; each < this.#workload.depth; each += 1) this.#issueLater();
  }

  /** The gateway is gone. */
  detach(): void {
    this.#device = null;
    this.#life += 1;
    this.#outstanding.clear();
    this.#pendingIssues = 0;
  }

  /** One operation outside the budget: for the end of a run. */
  perform(kind: OperationKind, block: number, count: number, done: (operation: Operation, request: DeviceRequest) => void): void {
    this.#submit(kind, block, count, false, done);
  }

  #issueLater(): void {
    const life = this.#life;
    this.#pendingIssues += 1;
    this.#world.scheduler.after(this.#random.range(0, this.#workload.thinkMs) + this.#workload.lullMs(), () => {
      if (life !== this.#life) return;
      this.#pendingIssues -= 1;
      if (this.#device !== null && this.#draw()) this.#issue();
    });
  }

  #issue(): void {
    const random = this.#random;
    const kind = random.weighted<OperationKind>({ read: 34, write: 44, zeroes: 8, flush: this.#workload.flushes, status: 4 });
    const { block, count } = this.#range();
    const fua = (kind === 'write' || kind === 'zeroes') && random.chance(this.#workload.fua);
    this.#submit(kind, kind === 'flush' ? 0 : block, kind === 'flush' ? 0 : count, fua, () => this.#issueLater());
  }

  #range(): { block: number; count: number } {
    const random = this.#random;
    const { hotBlock, hotBlocks, usualBlocks } = this.#workload;
    const blocks = this.#blocks;
    const large = random.chance(0.04);
    const count = Math.min(blocks, large ? random.between(1, 300) : random.between(1, usualBlocks));
    const hot = random.chance(0.75);
    const from = hot ? hotBlock : 0;
    const room = hot ? hotBlocks : blocks;
    const block = Math.min(from + random.int(room), blocks - count);
    return { block, count };
  }

  #submit(
    kind: OperationKind,
    block: number,
    count: number,
    fua: boolean,
    done: (operation: Operation, request: DeviceRequest) => void,
  ): void {
    const world = this.#world;
    const operation = world.history.invoke(
      { session: this.number, volume: this.#workload.volume, kind, block, count, fua },
      world.scheduler.nowMs,
    );
    const life = this.#life;
    const request = new HostRequest(operation, this.number, (answered, errno) => {
      if (life !== this.#life) return;
      this.#outstanding.delete(operation);
      world.trace(() => `session ${this.number} is told: ${kind} #${operation.id} ${errno === 0 ? 'done' : `error ${errno}`}`);
      world.history.complete(operation, errno, errno === 0 ? this.#seen(answered) : null, world.scheduler.nowMs);
      this.#bystander.told(operation);
      done(operation, answered);
    });
    if (kind === 'write') request.data = payloadOf(operation.id, block, count);
    if (kind === 'zeroes') {
      request.punch = this.#random.chance(0.5);
      request.fast = this.#random.chance(0.2);
    }
    if (kind === 'status') request.one = this.#random.chance(0.2);
    this.#outstanding.add(operation);
    world.trace(() => `session ${this.number} asks: ${kind} #${operation.id} ${block}+${count}${fua ? ' FUA' : ''}`);
    world.moment(`host-${kind}`);
    this.#bystander.asked(operation);
    this.#device!.submit(request);
  }

  #seen(request: HostRequest): Int32Array | null {
    const { operation, data, extents } = request;
    if (operation.kind === 'read') {
      assert(data !== null && data.length === request.length, 'a read was answered with another length');
      return this.#valuesOf(data, operation);
    }
    if (operation.kind !== 'status') return null;
    assert(extents !== null && extents.length > 0, 'block status was answered with nothing');
    return zeroesOf(extents, operation.count);
  }

  #valuesOf(data: Buffer, operation: Operation): Int32Array {
    const values = new Int32Array(operation.count);
    for (let index = 0; index < operation.count; index += 1) {
      values[index] = writerOf(data, index * BLOCK_BYTES, operation.block + index);
      if (values[index] === GARBAGE) {
        this.#garbage ??= `block ${operation.block + index} in operation ${operation.id} ${describeGarbage(data, index * BLOCK_BYTES)}`;
      }
    }
    return values;
  }
}

/** Block status says of some blocks that they read as zero: that is a read of them. */
function zeroesOf(extents: readonly Extent[], count: number): Int32Array {
  const values = new Int32Array(count).fill(UNSEEN);
  let at = 0;
  for (const extent of extents) {
    assert(extent.lengthBytes > 0, 'an empty extent');
    const end = at + extent.lengthBytes;
    if (extent.zero)
      for (let block = Math.ceil(at / BLOCK_BYTES); (block + 1) * BLOCK_BYTES <= end && block < count; block += 1) values[block] = 0;
    at = end;
  }
  return values;
}
