// `npm test [-- pattern...]`: runs every test file whose path contains one of the patterns (all without any), each in its own
// process, two at a time, under a deadline. Prints a line per file, failures in full, skips with what would make them run,
// and alone on the last line `N passed, N failed` (`, N skipped`). It must never wait for anything without a bound.
// FORESTALL_NO_SKIP=1 makes a skip for want of a peer a failure. A file that needs longer than the default says so: `// deadline: 400s`.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FileReport } from './support/run-file.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const directories = ['test/unit', 'test/sim', 'test/interop', 'test/e2e'];
const atOnce = 2;
const deadlineDefaultMs = 180_000;
/** Output that somebody still holds open this long after the file's process ended is no longer waited for. */
const outputAfterExitMs = 2_000;
const outputBytesMax = 4 * 1024 * 1024;

interface Outcome {
  file: string;
  passed: number;
  failed: number;
  skips: string[];
  left: number;
  /** Why the file failed as a whole; each counts as one failure. */
  faults: string[];
  output: string;
  seconds: number;
}

function testFiles(directory: string): string[] {
  if (!existsSync(join(root, directory))) return [];
  return readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .sort()
    .map((path) => `${directory}/${path}`);
}

function deadlineMs(file: string): number {
  const head = readFileSync(join(root, file), 'utf8').slice(0, 2000);
  const seconds = /^\/\/ deadline: (\d+)s\b/m.exec(head)?.[1];
  return seconds === undefined ? deadlineDefaultMs : Number(seconds) * 1000;
}

const running = new Set<ChildProcess>();

/** Ends a file's process and whatever it left behind: they share a process group. */
function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}

function runFile(file: string): Promise<Outcome> {
  const startedAt = Date.now();
  const faults: string[] = [];
  const child = spawn(process.execPath, ['--import', 'tsx', 'test/support/run-file.ts', file], {
    cwd: root,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  running.add(child);
  let output = '';
  let reported = '';
  const keep = (chunk: Buffer) => {
    if (output.length < outputBytesMax) output += chunk.toString();
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  child.stdio[3]?.on('data', (chunk: Buffer) => {
    reported += chunk.toString();
  });
  const deadline = deadlineMs(file);
  const timer = setTimeout(() => {
    faults.push(`did not end within ${deadline / 1000} s`);
    endGroup(child);
  }, deadline);
  return new Promise((resolve) => {
    child.on('error', (error) => faults.push(`could not be started: ${error.message}`));
    child.on('exit', () => {
      endGroup(child);
      const giveUp = setTimeout(() => {
        for (const stream of child.stdio) stream?.destroy();
      }, outputAfterExitMs);
      child.on('close', () => clearTimeout(giveUp));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      resolve(conclude(file, { faults, output, reported, code, signal, seconds: (Date.now() - startedAt) / 1000 }));
    });
  });
}

interface Ending {
  faults: string[];
  output: string;
  reported: string;
  code: number | null;
  signal: NodeJS.Signals | null;
  seconds: number;
}

function conclude(file: string, { faults, output, reported, code, signal, seconds }: Ending): Outcome {
  const nothing: FileReport = { ended: false, lingered: [], exitCode: 0, passed: 0, failed: 0, left: 0, skips: [] };
  const report = reported === '' ? nothing : (JSON.parse(reported) as FileReport);
  if (report.lingered.length > 0) {
    faults.push(`did not end by itself after its last test; it left open: ${report.lingered.join(', ')}`);
  } else if (faults.length === 0) {
    const skippedWhole = report.skips.length > 0 && report.passed + report.failed === 0;
    // A file whose tests ended ends itself by a signal (run-file.ts).
    const exitCode = report.ended ? report.exitCode : code;
    if (signal !== null && !report.ended) faults.push(`was ended by ${signal}`);
    else if (exitCode !== 0 && report.failed === 0) faults.push(`exited with code ${exitCode}`);
    else if (!report.ended && !(skippedWhole && code === 0)) faults.push('exited before its tests ended');
    else if (report.passed + report.failed === 0 && !skippedWhole) faults.push('ran no test');
  }
  return { file, passed: report.passed, failed: report.failed, skips: report.skips, left: report.left, faults, output, seconds };
}

function print(outcome: Outcome): void {
  const { file, passed, failed, skips, left, faults, output, seconds } = outcome;
  const bad = failed > 0 || faults.length > 0;
  const counts = [`${passed} passed`, ...(failed > 0 ? [`${failed} failed`] : []), ...(left > 0 ? [`${left} left out`] : [])];
  const text = [`${bad ? 'FAIL' : 'ok  '} ${file} (${counts.join(', ')}, ${seconds.toFixed(1)} s)`];
  if (bad) text.push(output.trimEnd().replace(/^/gm, '    '));
  else text.push(...skips.map((line) => `     ${line}`));
  for (const fault of faults) text.push(`     ${file} ${fault}`);
  process.stdout.write(`${text.join('\n')}\n`);
}

async function runAll(files: string[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const waiting = [...files];
  const worker = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const outcome = await runFile(file);
      outcomes.push(outcome);
      print(outcome);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return outcomes;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    for (const child of running) endGroup(child);
    process.exit(1);
  });
}

const patterns = process.argv.slice(2);
const all = directories.flatMap(testFiles);
const chosen = patterns.length === 0 ? all : all.filter((file) => patterns.some((pattern) => file.includes(pattern)));
if (chosen.length === 0) process.stdout.write(`no test file matches ${patterns.join(', ') || directories.join(', ')}\n`);

const outcomes = await runAll(chosen);
const total = (count: (outcome: Outcome) => number) => outcomes.reduce((sum, outcome) => sum + count(outcome), 0);
const passed = total((outcome) => outcome.passed);
const failed = total((outcome) => outcome.failed + outcome.faults.length);
const skips = total((outcome) => outcome.skips.length + outcome.left);
const bad = outcomes.filter((outcome) => outcome.failed + outcome.faults.length > 0);
if (bad.length > 0) process.stdout.write(`\nfailed files:\n${bad.map(({ file }) => `  ${file}`).join('\n')}\n`);
// A unit test may need what no package brings, such as leave to mount a file system.
const peersMissing = total((outcome) => (outcome.file.includes('/unit/') ? 0 : outcome.skips.length + outcome.left));
const skipsForbidden = process.env.FORESTALL_NO_SKIP === '1' && peersMissing > 0;
if (skipsForbidden) process.stdout.write(`\n${peersMissing} skipped for want of a peer, and FORESTALL_NO_SKIP=1 forbids that\n`);
process.stdout.write(`\n${passed} passed, ${failed} failed${skips > 0 ? `, ${skips} skipped` : ''}\n`);
process.exitCode = failed > 0 || passed === 0 || skipsForbidden ? 1 : 0;
