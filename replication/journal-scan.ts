// What a journal's ring holds after whatever happened to it. Every block is looked at, for headers; the newest header says
// from where on batches are needed, and from there the chain is followed as far as every checksum holds. Behind its end
// there may be the remains of batches that a crash tore: that is normal, unless a header found anywhere says that what is
// missing was synced. Then it is damage, and the journal is incomplete from the chain's end on.
import { OP } from './device.js';
import {
  BLOCK_BYTES,
  type BatchHeader,
  type DecodedHeader,
  DESCRIPTOR_BYTES,
  type Descriptor,
  decodeHeader,
  decodeRecords,
  type DestinationFact,
  HEADER_BYTES,
  type Place,
  RING_START,
  type Superblock,
} from './journal-format.js';
import type { JournalFile, JournalOptions, JournalRecord } from './journal-options.js';

const SWEEP_BYTES = 1 << 20;

/** Where a journal is, and how its checksums are made. */
type Source = Pick<JournalOptions, 'file' | 'sum'>;

/** A record that was there when the journal was opened is not there any more. */
export class DamagedJournal extends Error {}

/** A batch in the ring, as memory keeps it. */
export interface LiveBatch {
  number: number;
  address: number;
  bytes: number;
  sequence: number;
  recordCount: number;
  chain: bigint;
  sum: bigint;
}

/** What was damaged begins with this record; of the records from it on nothing is known. */
export interface Incompleteness {
  fromSequence: number;
  reason: string;
}

export interface ScanResult {
  batches: LiveBatch[];
  /** Where the chain ends, and the next batch goes; its number is larger than any in the ring. */
  next: Place;
  /** The newest batch that is surely there. */
  lastNumber: number;
  destinations: DestinationFact[];
  /** What is said of the destinations was found behind the chain's end, where the next batches go: it is to be said again. */
  destinationsLoose: boolean;
  incomplete: Incompleteness | null;
  /** Larger than the sequence of any record whose header is in the ring. */
  unusedSequence: number;
}

/** `length` bytes from an address of the ring, over its end. */
async function readRing(file: JournalFile, ringBytes: number, address: number, length: number): Promise<Buffer> {
  const at = address % ringBytes;
  if (at + length <= ringBytes) return file.read(RING_START + at, length);
  const first = await file.read(RING_START + at, ringBytes - at);
  return Buffer.concat([first, await file.read(RING_START, length - first.length)]);
}

/** Records of a later epoch than `epochMax` are taken for damage: whoever knows `epochMax` is older than the journal. */
export async function scanJournal(source: Source, superblock: Superblock, epochMax: number): Promise<ScanResult> {
  const swept = await sweep(source, superblock);
  const newest: Pick<BatchHeader, 'tail' | 'destinations'> = swept.newest ?? {
    tail: { address: 0, number: 1, sequence: superblock.firstSequence, chain: superblock.id },
    destinations: [],
  };
  const next = { ...newest.tail };
  const batches: LiveBatch[] = [];
  let epoch = 0;
  let broken = 'nothing follows';
  for (;;) {
    const found = await readBatch(source, superblock, next, next.address - newest.tail.address);
    if (typeof found === 'string') {
      broken = found;
      break;
    }
    const { header } = found;
    if (header.epoch > epochMax) {
      const reason = `records from ${header.sequence} on are of epoch ${header.epoch}, but the volume's is ${epochMax}`;
      return result({ fromSequence: next.sequence, reason });
    }
    if (header.epoch < epoch) {
      broken = `its epoch is ${header.epoch} after ${epoch}`;
      break;
    }
    epoch = header.epoch;
    batches.push(live(header));
    next.address += header.bytes;
    next.number = header.number + 1;
    next.sequence = header.sequence + header.recordCount;
    next.chain = header.sum;
  }
  if (swept.newest !== null && swept.newest.synced >= next.number) {
    return result({ fromSequence: next.sequence, reason: `batch ${next.number} was on stable storage and is not there: ${broken}` });
  }
  if (swept.unreadable !== null) {
    return result({ fromSequence: next.sequence, reason: `the disk cannot read it at ${swept.unreadable}` });
  }
  return result(null);

  function result(incomplete: Incompleteness | null): ScanResult {
    const lastNumber = next.number - 1;
    const place = { ...next, number: Math.max(next.number, (swept.newest?.number ?? 0) + 1) };
    const unusedSequence = Math.max(next.sequence, swept.unusedSequence);
    const destinationsLoose = swept.newest !== null && swept.newest.number !== lastNumber;
    return { batches, next: place, lastNumber, destinations: newest.destinations, destinationsLoose, incomplete, unusedSequence };
  }
}

/** The batch at a place of the chain, whole and checked; a string says why it is not there. */
async function readBatch(
  { file, sum }: Source,
  superblock: Superblock,
  place: Place,
  bytesBefore: number,
): Promise<{ header: DecodedHeader; batch: Buffer; records: Descriptor[] } | string> {
  const { ringBytes } = superblock;
  if (bytesBefore + BLOCK_BYTES > ringBytes) return 'the ring is full';
  try {
    const header = decodeHeader(await readRing(file, ringBytes, place.address, BLOCK_BYTES), 0, sum);
    if (header === null || header.id !== superblock.id) return 'it has no valid header';
    if (header.address !== place.address || header.number < place.number || header.chain !== place.chain) return 'another batch is there';
    if (header.sequence < place.sequence || header.bytes === 0 || bytesBefore + header.bytes > ringBytes) return 'its header is impossible';
    const batch = await readRing(file, ringBytes, place.address, header.bytes);
    const records = decodeRecords(batch, header, sum);
    return typeof records === 'string' ? records : { header, batch, records };
  } catch (error) {
    return `it cannot be read (${(error as Error).message})`;
  }
}

/** The records after `after` in these batches, read and checked once more. Throws `DamagedJournal`. */
export async function* replayBatches(
  source: Source,
  superblock: Superblock,
  batches: LiveBatch[],
  after: number,
): AsyncGenerator<JournalRecord> {
  for (const batch of batches) {
    if (batch.sequence + batch.recordCount - 1 <= after) continue;
    const found = await readBatch(source, superblock, batch, 0);
    if (typeof found === 'string') throw new DamagedJournal(`records from ${batch.sequence} on are not there any more: ${found}`);
    let at = HEADER_BYTES + batch.recordCount * DESCRIPTOR_BYTES;
    for (const { sequence, op, offset, length, punch } of found.records) {
      const data = op === OP.WRITE ? found.batch.subarray(at, at + length) : null;
      if (data !== null) at += length;
      if (sequence > after) yield { sequence, op, offset, length, punch, data };
    }
  }
}

function live(header: DecodedHeader): LiveBatch {
  const { number, address, bytes, sequence, recordCount, chain, sum } = header;
  return { number, address, bytes, sequence, recordCount, chain, sum };
}

/** Every header of this journal in the ring: the newest, and what they say together. */
async function sweep({ file, sum }: Source, superblock: Superblock) {
  let newest: DecodedHeader | null = null;
  let unusedSequence = superblock.firstSequence;
  let unreadable: number | null = null;
  const { ringBytes, id } = superblock;
  for (let at = 0; at < ringBytes; at += SWEEP_BYTES) {
    const length = Math.min(SWEEP_BYTES, ringBytes - at);
    for (const piece of await readable(at, length)) {
      for (let block = 0; block < piece.bytes.length; block += BLOCK_BYTES) {
        const header = decodeHeader(piece.bytes, block, sum);
        if (header === null || header.id !== id || header.address % ringBytes !== piece.at + block) continue;
        unusedSequence = Math.max(unusedSequence, header.sequence + header.recordCount);
        if (newest === null || header.number > newest.number) newest = header;
      }
    }
  }
  return { newest: newest as DecodedHeader | null, unusedSequence, unreadable };

  /** The whole piece, or those of its blocks that can be read. */
  async function readable(at: number, length: number): Promise<{ at: number; bytes: Buffer }[]> {
    try {
      return [{ at, bytes: await file.read(RING_START + at, length) }];
    } catch {
      if (length === BLOCK_BYTES) {
        unreadable ??= RING_START + at;
        return [];
      }
      const pieces: { at: number; bytes: Buffer }[] = [];
      for (let block = 0; block < length; block += BLOCK_BYTES) pieces.push(...(await readable(at + block, BLOCK_BYTES)));
      return pieces;
    }
  }
}
