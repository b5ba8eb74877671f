// One request inside a simulated node, from its arrival to its answer. It is executed at a moment drawn from the seed, a
// large one in pieces at several moments, in any order with what else is in flight; that its connection is gone does not stop it.
import { BLOCK_BYTES, type SimDisk, type WriteTicket } from './disk.js';
import { CMD, CMD_FLAG, NBD_ERROR } from './nbd-words.js';
import type { Cookie } from './node-replies.js';
import type { Random } from './random.js';

interface Piece {
  block: number;
  count: number;
}

export class NodeRequest {
  readonly ticket: WriteTicket;
  readonly block: number;
  readonly count: number;
  /** READ: what was read so far. */
  readonly result: Buffer | null;
  errno = 0;
  /** It may land long after its connection is gone. */
  trapped = false;
  /** Carried out, or refused; its answer is still to come. */
  executed = false;
  refusalDrawn = false;
  readonly #pieces: Piece[];

  constructor(
    readonly disk: SimDisk,
    readonly connection: number,
    readonly cookie: Cookie,
    readonly command: number,
    readonly flags: number,
    readonly offset: number,
    readonly length: number,
    readonly data: Buffer | null,
    /** Of the node's count, when it arrived. */
    readonly arrivedAt: number,
    random: Random,
  ) {
    this.block = offset / BLOCK_BYTES;
    this.count = length / BLOCK_BYTES;
    this.ticket = { answeredAt: Number.POSITIVE_INFINITY, connection };
    this.result = command === CMD.READ ? Buffer.allocUnsafe(length) : null;
    this.#pieces = cutIntoPieces(this.block, this.count, random);
  }

  get writes(): boolean {
    return this.command === CMD.WRITE || this.command === CMD.ZEROES || this.command === CMD.TRIM;
  }

  /** It ends without an answer: what it has written is in the file all the same, where from `now` on anybody's flush covers it. */
  abandon(now: number): void {
    this.ticket.connection = null;
    this.ticket.answeredAt = Math.min(this.ticket.answeredAt, now);
  }

  /** Carries out the next piece. True: that was the last, or an error ended it. */
  step(random: Random, mustCover: (ticket: WriteTicket) => boolean): boolean {
    if (this.command === CMD.FLUSH) {
      this.disk.flush(mustCover);
      return true;
    }
    const piece = this.#pieces.shift();
    if (piece === undefined) return true;
    if (!this.#carryOut(piece, random)) return true;
    return this.#pieces.length === 0;
  }

  #carryOut(piece: Piece, random: Random): boolean {
    const { disk } = this;
    const at = (piece.block - this.block) * BLOCK_BYTES;
    switch (this.command) {
      case CMD.READ:
        if (!disk.read(piece.block, piece.count, this.result!, at)) this.errno = NBD_ERROR.IO;
        break;
      case CMD.WRITE:
      case CMD.ZEROES:
        this.#write(piece, at);
        break;
      case CMD.TRIM:
        for (let block = piece.block; block < piece.block + piece.count; block += 1) {
          if (random.chance(0.5)) disk.write(block, 1, null, this.ticket, true);
        }
        break;
      default:
        break;
    }
    return this.errno === 0;
  }

  #write(piece: Piece, at: number): void {
    const { disk } = this;
    const zeroes = this.command === CMD.ZEROES;
    if (!disk.hasSpaceFor(piece.block, piece.count)) {
      this.errno = NBD_ERROR.NOSPC;
      return;
    }
    const data = zeroes ? null : this.data!.subarray(at, at + piece.count * BLOCK_BYTES);
    const punch = zeroes && (this.flags & CMD_FLAG.NO_HOLE) === 0;
    if (!disk.write(piece.block, piece.count, data, this.ticket, punch)) this.errno = NBD_ERROR.IO;
    else if ((this.flags & CMD_FLAG.FUA) !== 0) disk.persist(piece.block, piece.count, this.ticket);
  }
}

function cutIntoPieces(block: number, count: number, random: Random): Piece[] {
  if (count === 0) return [];
  if (count < 2 || random.chance(0.7)) return [{ block, count }];
  const first = random.between(1, count - 1);
  return random.shuffle([
    { block, count: first },
    { block: block + first, count: count - first },
  ]);
}
