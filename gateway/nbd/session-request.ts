// A host's request as the device sees it: a slot that its session fills, submits, answers and uses again. The device
// keeps a slot only until it completed it, exactly once.
import assert from 'node:assert/strict';
import { type DeviceRequest, type Extent, OP, type Op } from '../../replication/device.js';
import type { RequestHeader } from './codec.js';
import { COMMAND, COMMAND_FLAG } from './constants.js';
import type { SelectedContext } from './meta-context.js';

/** The most that a device is asked for at once: 2 GiB, within what any node's 32-bit lengths can say. */
const PART_BYTES_MAX = 2 ** 31;

export interface RequestOwner {
  /** The device completed `request` with `errno`. */
  finish(request: SessionRequest, errno: number): void;
}

export class SessionRequest implements DeviceRequest {
  op: Op = OP.FLUSH;
  offset = 0;
  length = 0;
  fua = false;
  punch = false;
  fast = false;
  one = false;
  readonly lane: number;
  data: Buffer | null = null;
  extents: Extent[] | null = null;
  /** BLOCK_STATUS: what is asked for. */
  contexts: readonly SelectedContext[] = [];
  command = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  /** Of a long request: bytes behind this part that are still to be done. */
  #rest = 0;
  /** What the request holds of its session's bytes in flight. */
  cost = 0;
  #owner: RequestOwner;
  #inUse = false;

  constructor(owner: RequestOwner, lane: number) {
    this.#owner = owner;
    this.lane = lane;
  }

  /** Takes up what `header` asks for; its command is one that a device carries out. */
  begin(header: RequestHeader, cost: number): void {
    assert(!this.#inUse, 'a slot serves one request at a time');
    this.#inUse = true;
    this.command = header.command;
    this.cookieHigh = header.cookieHigh;
    this.cookieLow = header.cookieLow;
    this.offsetHigh = header.offsetHigh;
    this.offsetLow = header.offsetLow;
    this.cost = cost;
    this.op = opOf(header.command);
    const flush = this.op === OP.FLUSH;
    this.offset = flush ? 0 : header.offset;
    this.length = flush ? 0 : Math.min(header.length, PART_BYTES_MAX);
    this.#rest = this.op === OP.ZEROES ? header.length - this.length : 0;
    const flags = header.flags;
    this.fua = (flags & COMMAND_FLAG.FUA) !== 0;
    this.punch = header.command === COMMAND.TRIM || (flags & COMMAND_FLAG.NO_HOLE) === 0;
    this.fast = (flags & COMMAND_FLAG.FAST_ZERO) !== 0;
    this.one = (flags & COMMAND_FLAG.REQ_ONE) !== 0;
  }

  /** To the next part of a request that is longer than a device is given at once. False: there is none. */
  advance(): boolean {
    if (this.#rest === 0) return false;
    this.offset += this.length;
    this.length = Math.min(this.#rest, PART_BYTES_MAX);
    this.#rest -= this.length;
    // The answer to the first part said that zeroing is fast here; what has begun is not refused for that any more.
    this.fast = false;
    return true;
  }

  complete(errno: number): void {
    assert(this.#inUse, 'a device completes a request exactly once');
    this.#owner.finish(this, errno);
  }

  /** The slot is free again and holds on to nothing. */
  release(): void {
    this.#inUse = false;
    this.data = null;
    this.extents = null;
  }
}

function opOf(command: number): Op {
  switch (command) {
    case COMMAND.READ:
      return OP.READ;
    case COMMAND.WRITE:
      return OP.WRITE;
    case COMMAND.FLUSH:
      return OP.FLUSH;
    case COMMAND.TRIM:
    case COMMAND.WRITE_ZEROES:
      return OP.ZEROES;
    default:
      assert(command === COMMAND.BLOCK_STATUS, 'a command that no device carries out');
      return OP.STATUS;
  }
}
