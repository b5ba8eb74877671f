// The child of store-journal.test.ts: appends to a journal for ever, syncs now and then, lets the one mirror lag behind, and
// says on its output which record was synced last and what the mirror has. It is killed at any moment.
import { writeSync } from 'node:fs';
import { SystemClock } from '../../gateway/clock.js';
import { createHash64 } from '../../gateway/hashing/xxh64.js';
import { DiskJournalFile } from '../../gateway/store/journal-file.js';
import { OP } from '../../replication/device.js';
import { Journal } from '../../replication/journal.js';

const [path, seedText] = process.argv.slice(2);
const sum = await createHash64();
const file = await DiskJournalFile.open({ path, volume: 'v', sum });
if (!file.ok) throw new Error(file.message);
let roomCame: (() => void) | null = null;
const opening = await Journal.open({
  file: file.value,
  sum,
  clock: new SystemClock(),
  volume: 'v',
  epoch: 1,
  firstSequence: 1,
  batchBytesMax: 64 * 1024,
  settleMs: 5,
  room: () => roomCame?.(),
  failed: (reason) => {
    throw new Error(reason);
  },
});
if (!opening.ok) throw new Error(opening.reason);
const { journal } = opening;
if (journal.incomplete !== null) throw new Error(journal.incomplete.reason);
if (!journal.covers(1)) {
  journal.join(1);
  journal.durable(1, journal.lastSequence);
}

let seed = Number(seedText);
function random(below: number): number {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % below;
}

/** Every byte of record N is N modulo 251, its offset N times 4096. */
function contents(sequence: number, length: number): Buffer {
  return Buffer.alloc(length, sequence % 251);
}

for (;;) {
  const sequence = journal.lastSequence + 1;
  const length = 1 + random(20_000);
  while (!journal.reserve(OP.WRITE, length)) {
    await new Promise<void>((resolve) => {
      roomCame = resolve;
      const durable = Math.max(0, journal.lastSequence - 5);
      writeSync(1, `durable ${durable}\n`);
      journal.durable(1, durable);
    });
  }
  journal.append({ op: OP.WRITE, offset: sequence * 4096, length, punch: false, data: contents(sequence, length) });
  if (random(4) > 0) continue;
  await new Promise<void>((resolve, reject) => {
    journal.sync({ journaled: (errno) => (errno === 0 ? resolve() : reject(new Error(`error ${errno}`))) });
  });
  writeSync(1, `synced ${sequence}\n`);
  if (random(8) === 0) {
    const durable = Math.max(0, sequence - random(60));
    writeSync(1, `durable ${durable}\n`);
    journal.durable(1, durable);
  }
  if (random(10) === 0) await new Promise((resolve) => setTimeout(resolve, 8));
}
