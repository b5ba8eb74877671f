// The child of store-records.test.ts: commits pairs of records for ever and prints a number once its pair is acknowledged.
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';

const opened = await LmdbRecords.open(process.argv[2]);
if (!opened.ok) {
  throw new Error(opened.message);
}
const records = opened.value;

async function lane(first: number, step: number): Promise<void> {
  for (let i = first; ; i += step) {
    const name = String(i).padStart(8, '0');
    await records.commit([
      { put: `left/${name}`, value: { i, bytes: new Uint8Array(200).fill(i) } },
      { put: `right/${name}`, value: i },
    ]);
    process.stdout.write(`${i}\n`);
  }
}

await Promise.all([lane(0, 3), lane(1, 3), lane(2, 3)]);
