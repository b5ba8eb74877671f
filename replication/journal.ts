// A volume's journal on the gateway's disk: acknowledged writes, with their data, until every mirror they are meant for has
// them on stable storage. With it nothing that hosts flushed is lost even if the active node and the gateway fail together
// (rules 8 and 10). A ring in a preallocated file (bytes: journal-format.ts); what a crash left of it: journal-scan.ts.
// What its user must do, and when: journal-options.ts.
//
// One sync of the disk leaves no trace that tells a batch it covered, and which rotted later, from one that was torn. So each
// batch says what was synced before it, and `settleMs` after the last sync an empty batch says it of the last one. Until
// then, and only if power fails too, damage to the very last batches is taken for a torn end.
// On the path of a write: no promise, no closure; payloads are kept by reference. Hashing is done batch by batch.
import assert from 'node:assert';
import { ERRNO, type Op } from './device.js';
import { type JournalWrite, splitAt } from './journal-batch.js';
import { JournalDestinations } from './journal-destinations.js';
import { BLOCK_BYTES, type DestinationFact, judgeSuperblocks, RING_START, type Superblock } from './journal-format.js';
import { JournalQueue } from './journal-queue.js';
import { JournalRing } from './journal-ring.js';
import type { JournalOptions, JournalProblem, JournalRecord } from './journal-options.js';
import { type Incompleteness, replayBatches, type ScanResult, scanJournal } from './journal-scan.js';
import { type SyncWaiter, SyncWaiters } from './journal-waiters.js';
import type { Timer } from './world.js';

/** Room that only batches without records may use: what frees space must never wait for space. */
const SPARE_BYTES = 16 * BLOCK_BYTES;
/** A batch with a write of 1 MiB. */
const BATCH_BYTES = (1 << 20) + BLOCK_BYTES;
const MEMORY_BYTES = 32 << 20;
const SETTLE_MS = 100;

export type JournalOpening = { ok: true; journal: Journal } | ({ ok: false } & JournalProblem);

/** How far something is. */
interface Progress {
  /** Of the last batch. */
  number: number;
  /** Of the last record. */
  sequence: number;
  /** Of the destinations, as the last header has them. */
  version: number;
  facts: DestinationFact[];
  /** What the last header says is needed, and what it says is synced. */
  tailAddress: number;
  claim: number;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #settleMs: number;
  readonly #volumeSum: bigint;
  readonly #queue: JournalQueue;
  readonly #waiters = new SyncWaiters();
  readonly #superblock: Superblock;
  readonly #destinations: JournalDestinations;
  readonly #ring: JournalRing;
  readonly #incomplete: Incompleteness | null;
  #epoch: number;
  /** Of the last record appended, and of the last one that `open` found. */
  #sequence: number;
  readonly #recoveredSequence: number;
  #written: Progress;
  #durable: Progress;
  /** The newest batch that says more than what is synced. */
  #factNumber: number;
  /** Up to this batch it is to be said, durably, that all is synced. */
  #settleGoal = 0;
  #syncedMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | null = null;
  #roomWanted = false;
  #busy = false;
  #running: Promise<void> = Promise.resolve();
  #failure: string | null = null;

  private constructor(options: JournalOptions, superblock: Superblock, scan: ScanResult) {
    const batchBytesMax = options.batchBytesMax ?? BATCH_BYTES;
    assert(superblock.ringBytes >= batchBytesMax + 2 * SPARE_BYTES, 'the ring holds more than one batch');
    this.#options = options;
    this.#settleMs = options.settleMs ?? SETTLE_MS;
    this.#volumeSum = options.sum(Buffer.from(options.volume));
    this.#queue = new JournalQueue(batchBytesMax, options.memoryBytesMax ?? MEMORY_BYTES);
    this.#superblock = superblock;
    this.#incomplete = scan.incomplete;
    this.#epoch = options.epoch;
    const nextSequence = Math.max(scan.incomplete === null ? scan.next.sequence : scan.unusedSequence, options.firstSequence);
    this.#sequence = nextSequence - 1;
    this.#recoveredSequence = this.#sequence;
    this.#destinations = JournalDestinations.recovered(scan.destinations, scan.destinationsLoose, scan.next.sequence);
    this.#ring = new JournalRing(scan.batches, { ...scan.next, sequence: nextSequence });
    const { facts } = this.#destinations;
    const tailAddress = this.#ring.tail.address;
    this.#durable = { number: scan.lastNumber, sequence: this.#sequence, version: 0, facts, tailAddress, claim: 0 };
    this.#written = this.#durable;
    this.#factNumber = scan.lastNumber;
  }

  /** Finds what is in the file. */
  static async open(options: JournalOptions): Promise<JournalOpening> {
    const { file, volume, sum } = options;
    try {
      const blocks = await file.read(0, Math.min(RING_START, file.sizeBytes));
      const superblock = judgeSuperblocks(blocks, file.sizeBytes, volume, sum);
      if ('problem' in superblock) return { ok: false, ...superblock };
      const scan = await scanJournal(options, superblock, options.epoch);
      // What was read may still be in the system's memory only.
      await file.sync();
      return { ok: true, journal: new Journal(options, superblock, scan) };
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return { ok: false, problem: 'unreadable', reason: (error as Error).message };
    }
  }

  /** Not null: records are missing that were synced; nothing in it counts, and nothing more may be asked of it. */
  get incomplete(): Incompleteness | null {
    return this.#incomplete;
  }

  /** Not null: the disk refused. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Of the last record appended. */
  get lastSequence(): number {
    return this.#sequence;
  }

  /** Every record up to here is on stable storage. */
  get syncedSequence(): number {
    return this.#durable.sequence;
  }

  /** Bytes of the ring that must not be written to. */
  get usedBytes(): number {
    return this.#ring.next.address - this.#durable.tailAddress;
  }

  get ringBytes(): number {
    return this.#superblock.ringBytes;
  }

  /** Payloads in memory, by the buffers they keep alive. */
  get retainedBytes(): number {
    return this.#queue.retainedBytes;
  }

  /** Mirrors that records are kept for. */
  get destinations(): number[] {
    return this.#destinations.ids;
  }

  /** A write waits for room. */
  get crowded(): boolean {
    return this.#roomWanted;
  }

  /** Why a replay would not make this mirror complete; null: it will. */
  shortfall(id: number): string | null {
    if (this.#incomplete !== null) return `the journal is damaged: ${this.#incomplete.reason}`;
    if (!this.#destinations.covered(id)) return 'the mirror was not in step with the journal';
    const from = this.#destinations.durableOf(id) + 1;
    if (from >= this.#options.firstSequence) return null;
    return `the mirror lacks records from ${from} on; those before ${this.#options.firstSequence} are of an earlier epoch`;
  }

  /** Records this mirror may lack, of those found by `open`, in order. Throws `DamagedJournal`, or what the disk throws. */
  async *replay(id: number): AsyncGenerator<JournalRecord> {
    assert(this.#incomplete === null, 'a damaged journal is made anew, not used');
    const after = Math.max(this.#destinations.durableOf(id), this.#options.firstSequence - 1);
    yield* replayBatches(this.#options, this.#superblock, this.#ring.upTo(this.#recoveredSequence), after);
  }

  /** Sets room aside for a write that is about to be sent; false: there is none, `room()` will be called. */
  reserve(op: Op, length: number): boolean {
    assert(this.#incomplete === null, 'a damaged journal is made anew, not used');
    if (this.#failure !== null) return true;
    const roomBytes = this.ringBytes - SPARE_BYTES;
    assert(this.#queue.cost(op, length) <= roomBytes, 'a write fits into the ring');
    if (this.#queue.reserve(op, length, roomBytes - this.usedBytes)) return true;
    this.#roomWanted = true;
    this.#pump();
    return false;
  }

  /** A write that had room will not be appended. */
  cancel(op: Op, length: number): void {
    if (this.#failure !== null) return;
    this.#queue.unreserve(op, length);
    if (this.#roomWanted) this.#callRoom();
  }

  /** Takes an acknowledged write that had room. Gives the sequence of its last record (a long write has several). */
  append(write: JournalWrite): number {
    assert(this.#incomplete === null, 'a damaged journal is made anew, not used');
    if (this.#failure !== null) return this.#sequence;
    if (this.#destinations.size === 0) {
      this.cancel(write.op, write.length);
      return this.#sequence;
    }
    this.#queue.unreserve(write.op, write.length);
    this.#sequence = this.#queue.add(write, this.#epoch, this.#sequence + 1);
    this.#arm();
    if (this.#queue.length > 1 || this.#roomWanted) this.#pump();
    return this.#sequence;
  }

  /** Answers `waiter` when everything appended, joined and left so far is on stable storage; perhaps before this returns. */
  sync(waiter: SyncWaiter): void {
    assert(this.#incomplete === null, 'a damaged journal is made anew, not used');
    const { version } = this.#destinations;
    if (this.#failure !== null) waiter.journaled(ERRNO.EIO);
    else if (this.#waiters.size === 0 && this.#durable.sequence >= this.#sequence && this.#durable.version >= version) {
      waiter.journaled(ERRNO.OK);
    } else {
      this.#waiters.add(waiter, this.#sequence, version);
      this.#pump();
    }
  }

  /** Keeps records for a mirror from the next one on. False: there are too many mirrors. */
  join(id: number): boolean {
    assert(this.#incomplete === null, 'a damaged journal is made anew, not used');
    const joined = this.#destinations.join(id, this.#sequence + 1);
    this.#arm();
    return joined;
  }

  leave(id: number): void {
    this.#destinations.leave(id);
    this.#arm();
    this.#release();
  }

  /** The mirror has applied and flushed every record up to `sequence`. */
  durable(id: number, sequence: number): void {
    assert(sequence <= this.#sequence, 'what is durable was written');
    this.#destinations.durable(id, sequence);
    this.#arm();
    this.#release();
  }

  /** Does the journal, with what the mirror has, make it complete? A sync makes that durable. */
  covers(id: number): boolean {
    return this.#failure === null && this.#incomplete === null && this.#destinations.covered(id);
  }

  /** Up to here the mirror has every record on stable storage. */
  durableOf(id: number): number {
    return this.#destinations.durableOf(id);
  }

  /** The first record that a flip's transaction must let count, for the sake of the mirrors that remain besides `newActive`. */
  epochStart(newActive: number): number {
    const after = this.#destinations.neededAfterBy(this.#durable.facts, newActive);
    return (after === Number.POSITIVE_INFINITY ? this.#sequence : Math.min(after, this.#durable.sequence)) + 1;
  }

  /** The flip is committed: records from now on are of this epoch. */
  beginEpoch(epoch: number): void {
    assert(epoch > this.#epoch, 'epochs grow');
    this.#epoch = epoch;
  }

  /** Resolves when all is on stable storage, or the disk has refused. Nothing may be called afterwards. */
  async close(): Promise<void> {
    while (this.#busy || (this.#failure === null && this.#incomplete === null && !this.#settled)) {
      this.#settle();
      await this.#running;
    }
    this.#timer?.cancel();
    this.#timer = null;
  }

  #release(): void {
    this.#ring.release(this.#destinations.neededAfter);
    if (this.#releaseWanted) this.#pump();
  }

  /** Space is used again only when a header that gives it up is durable. */
  get #releaseWanted(): boolean {
    const freedBytes = this.#ring.freedTo - this.#durable.tailAddress;
    return freedBytes > 0 && (this.#roomWanted || freedBytes >= this.ringBytes / 4);
  }

  #callRoom(): void {
    this.#roomWanted = false;
    this.#options.room();
  }

  #pump(): void {
    if (this.#busy || this.#failure !== null) return;
    this.#busy = true;
    this.#running = this.#run();
  }

  /** One batch or one sync at a time, as long as somebody wants one. */
  async #run(): Promise<void> {
    while (this.#failure === null) {
      if (this.#writeDue) await this.#write();
      else if (this.#syncDue) await this.#sync();
      else break;
    }
    this.#busy = false;
  }

  get #writeDue(): boolean {
    const queued = this.#queue.length;
    if (queued > 1 || (queued > 0 && this.#roomWanted)) return true;
    if (!this.#waiters.writtenFor(this.#written.sequence, this.#written.version)) return true;
    if (this.#releaseWanted && this.#ring.freedTo > this.#written.tailAddress) return true;
    if (this.#settleGoal <= this.#durable.claim) return false;
    if (this.#settleGoal > this.#written.number) return queued > 0 || this.#destinations.version > this.#written.version;
    return this.#durable.number >= this.#settleGoal && this.#written.claim < this.#settleGoal;
  }

  get #syncDue(): boolean {
    if (this.#waiters.size > 0) return true;
    if (this.#releaseWanted && this.#written.tailAddress > this.#durable.tailAddress) return true;
    return this.#settleGoal > this.#durable.claim && this.#written.number > this.#durable.number;
  }

  async #write(): Promise<void> {
    const { id, ringBytes } = this.#superblock;
    const { address, number, sequence, chain } = this.#ring.next;
    const { tail } = this.#ring;
    const { version, facts } = this.#destinations;
    const claim = this.#durable.number;
    const batch = this.#queue.take(this.#epoch, sequence);
    const { bytes, recordCount } = batch;
    assert(batch.sequence === sequence && address + bytes - this.#durable.tailAddress <= ringBytes, 'nothing needed is overwritten');
    const place = { address, number, chain, synced: claim, tail, destinations: facts };
    const { buffers, sum } = batch.seal({ id, volumeSum: this.#volumeSum, ...place }, this.#options.sum);
    const at = address % ringBytes;
    const [first, second] = splitAt(buffers, ringBytes - at);
    try {
      await this.#options.file.write(RING_START + at, first);
      if (second.length > 0) await this.#options.file.write(RING_START, second);
    } catch (error) {
      this.#fail(`writing failed: ${(error as Error).message}`);
      return;
    }
    if (recordCount > 0 || version !== this.#written.version) this.#factNumber = number;
    this.#written = { number, sequence: sequence + recordCount - 1, version, facts, tailAddress: tail.address, claim };
    this.#ring.push({ number, address, bytes, sequence, recordCount, chain, sum });
    this.#queue.written(batch);
    this.#arm();
    this.#release();
    if (this.#roomWanted && recordCount > 0) this.#callRoom();
  }

  async #sync(): Promise<void> {
    const written = this.#written;
    try {
      await this.#options.file.sync();
    } catch (error) {
      this.#fail(`syncing failed: ${(error as Error).message}`);
      return;
    }
    const freed = written.tailAddress > this.#durable.tailAddress;
    this.#durable = written;
    this.#syncedMs = this.#options.clock.nowMs();
    for (const waiter of this.#waiters.take(written.sequence, written.version)) waiter.journaled(ERRNO.OK);
    if (freed && this.#roomWanted) this.#callRoom();
  }

  #fail(reason: string): void {
    this.#failure = reason;
    this.#queue.drop();
    this.#timer?.cancel();
    this.#timer = null;
    for (const waiter of this.#waiters.take(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)) waiter.journaled(ERRNO.EIO);
    this.#options.failed(reason);
  }

  /** Nothing is unwritten, unsynced or said only once. */
  get #settled(): boolean {
    const { version } = this.#destinations;
    return this.#queue.length === 0 && this.#durable.claim >= this.#factNumber && this.#durable.version >= version;
  }

  #settle(): void {
    const news = this.#queue.length > 0 || this.#destinations.version > this.#written.version;
    this.#settleGoal = news ? this.#ring.next.number - 1 + Math.max(1, this.#queue.length) : this.#factNumber;
    this.#pump();
  }

  #arm(): void {
    if (this.#failure === null) this.#timer ??= this.#options.clock.after(this.#settleMs, this.#due);
  }

  #due = (): void => {
    this.#timer = null;
    if (this.#settled) return;
    if (this.#options.clock.nowMs() - this.#syncedMs >= this.#settleMs) this.#settle();
    this.#arm();
  };
}
