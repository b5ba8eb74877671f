// The child of store-data-directory.test.ts: opens a data directory, says so, and holds it until it is killed.
import { DataDirectory } from '../../gateway/store/data-directory.js';

const opened =
  process.argv[3] === 'no-flock'
    ? await DataDirectory.open(process.argv[2], Promise.resolve(null))
    : await DataDirectory.open(process.argv[2]);
process.stdout.write(opened.ok ? 'locked\n' : `${opened.message}\n`);
setInterval(() => {}, 60_000);
