// What a journal needs: a file, a clock, a checksum, and whom to tell.
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
  /** 64 random bits. */
  newId(): bigint;
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
