// Runs one test file in this process and reports its totals as one line of JSON on file descriptor 3; test/run.ts
// starts it. uvu prints totals for people only, forgets failures of `before` and `after` hooks, and starts too early
// for a file that awaits before it defines its tests: here the file is imported to its end first, then every suite runs.
// What the file prints goes where it would go anyway.
import { writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { skippedLines } from './peers.js';

/** One suite as uvu queues it: errors (text, or true for none), passed, skipped, defined. */
type Suite = () => Promise<[errors: string | true, passed: number, skipped: number, total: number]>;

declare global {
  var UVU_DEFER: number | undefined;
  var UVU_INDEX: number | undefined;
  var UVU_QUEUE: [string | null, ...Suite[]][] | undefined;
}

/** What test/run.ts reads. `ended` is false when the process went before its last suite did. */
export interface FileReport {
  ended: boolean;
  /** What still kept the process alive long after its last suite; it was ended for that. */
  lingered: string[];
  passed: number;
  failed: number;
  /** Of the process, once it ended. */
  exitCode: number;
  /** Tests defined but not run (`test.skip`, or left out by a `test.only`). */
  left: number;
  skips: string[];
}

const reportFd = 3;
/** After its last suite a file has this long to end by itself. */
const lingerMs = 10_000;
const report: FileReport = { ended: false, lingered: [], exitCode: 0, passed: 0, failed: 0, left: 0, skips: skippedLines };

/** What the process has open, but for these. */
function openBesides(known: readonly string[]): string[] {
  const open = process.getActiveResourcesInfo();
  for (const each of known) if (open.includes(each)) open.splice(open.indexOf(each), 1);
  return open;
}

function counted(suite: Suite): Suite {
  return async () => {
    const [errors, passed, left, total] = await suite();
    report.passed += passed;
    report.failed += total - passed;
    report.left += left;
    if (errors === true && passed < total)
      return [`${total - passed} tests did not run: a hook of their suite failed\n`, passed, left, total];
    return [errors, passed, left, total];
  };
}

process.on('exit', () => {
  writeSync(reportFd, `${JSON.stringify(report)}\n`);
});

// Its standard streams are made when they are first used.
void [process.stdout, process.stderr];
const own = openBesides([]);

globalThis.UVU_DEFER = 1;
globalThis.UVU_INDEX = 0;
globalThis.UVU_QUEUE = [[null]];
const { exec } = await import('uvu');
await import(pathToFileURL(process.argv[2]).href);
globalThis.UVU_QUEUE = globalThis.UVU_QUEUE.map(([name, ...suites]) => [name, ...suites.map(counted)]);
await exec();
report.ended = true;
// What a test started, it stops: a file that goes on living after its tests is a failure, named by what it left open.
for (const untilMs = performance.now() + lingerMs; ; ) {
  const open = openBesides(own);
  if (open.length === 0) break;
  if (performance.now() > untilMs) {
    report.lingered = open;
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 5));
}
// Node 20 may wait for ever when its event loop ends: for a background task of V8 that waits for a garbage collection by the
// thread that waits for it. So the end is not left to it.
report.exitCode = Number(process.exitCode ?? 0);
process.emit('exit', report.exitCode);
process.kill(process.pid, 'SIGKILL');
