// What a journal needs: a file, a clock, a checksum, and whom to tell; and what its user must do.
//
// Life cycle, for one volume:
//
//   open      `Journal.open({ file, epoch, firstSequence, ... })` with what the volume's record says. Refused, or `incomplete`
//             (damage): nothing in it counts; make that durable, then a new file.
//   recover   per mirror: `shortfall(id)` null says that a replay makes it complete; `leave(id)` the others. To let a mirror take
//             over, give it every record of `replay(id)`, in order, flush it, and say `durable(id, lastSequence)`. What it has then
//             is all that hosts flushed; of the rest it may have some that the active target has not, and the other way round. So
//             hosts are answered by one of them only: if the active target answers first, `leave(id)` durably before it does.
//   join      `join(id)` once all that a mirror still lacks is in its queue, and from then on. When the mirror has flushed all
//             that was acknowledged before, `durable(id, lastSequence at the join)` covers it, and the next sync makes that durable.
//   append    before a write is sent: `reserve` (false: it waits for `room()`, or the mirror falls back: `leave`). When the active
//             target has answered, before the host is: `append` (else `cancel`).
//   sync      FLUSH, FUA: when the active target has flushed, `sync(waiter)`; the host is answered when the waiter is. Also with
//             no mirror left: a `leave` must be durable before a flush is answered without the mirror. Never skip it because
//             the mirrors have flushed: after a crash older records would be replayed over what they have.
//   durable   `durable(id, sequence)`: the mirror applied and flushed every record up to it. Its space is used again.
//   leave     `leave(id)`: its target lost what it held, it makes no room, failed, was removed or became the active target. A mirror
//             that fell back to its bitmap may stay: what it lacks is in the journal, for nothing of it was said to be durable.
//   flip      the transaction holds {epoch: epoch + 1, journal: {firstSequence: journal.epochStart(id of the new active)}}; once
//             it is durable and before hosts are released: `beginEpoch(epoch + 1)`, `leave` of the new active, `join` of the old.
//   failed    the disk refused a write or a sync: every sync answers EIO from now on. Before a flush may be answered another way,
//             make durable that this journal does not count any more.
//   close     `close()` writes and syncs what is left; the file's owner closes the file.
import type { JournalWrite } from './journal-batch.js';
import type { Sum, SuperblockProblem } from './journal-format.js';
import type { Clock } from './world.js';

/** A file of fixed size. Calls reject when the disk refuses; writes and syncs are never under way together. */
export interface JournalFile {
  readonly sizeBytes: number;
  /** Exactly `length` bytes. */
  read(offset: number, length: number): Promise<Buffer>;
  /** All of `buffers`, one behind the other from `offset` on. */
  write(offset: number, buffers: Buffer[]): Promise<void>;
  /** Resolves when all that was written is on stable storage. */
  sync(): Promise<void>;
}

export interface JournalOptions {
  file: JournalFile;
  sum: Sum;
  clock: Clock;
  volume: string;
  /** The volume's; records of a later one are damage. */
  epoch: number;
  /** Records below do not count. */
  firstSequence: number;
  /** A multiple of 4096. */
  batchBytesMax?: number;
  /** Payloads in memory until they are written, counted by the buffers they keep alive. */
  memoryBytesMax?: number;
  settleMs?: number;
  /** `reserve` was refused and may be tried again. */
  room(): void;
  failed(reason: string): void;
}

/** One record as a mirror gets it. */
export interface JournalRecord extends JournalWrite {
  sequence: number;
}

export type JournalProblem = SuperblockProblem | { problem: 'unreadable'; reason: string };
