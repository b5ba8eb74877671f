// deadline: 240s
// The benchmark as its user runs it, on Node alone with tiny measurements: every path and workload has a row without
// errors, and whatever way it ends nothing of it is left. How fast anything was decides nothing here.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import type { BenchReport } from '../../native-free-bench/bench.js';
import { modulePath } from '../../native-free-bench/module-path.js';
import { findProgram } from '../../native-free-bench/program.js';
import { WORKLOADS } from '../../native-free-bench/workload.js';

const test = suite('bench run');

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Processes that have this in their environment, as their children do; on systems without /proc none can be found. */
function processesWith(variable: string): string[] {
  if (!existsSync('/proc')) return [];
  return readdirSync('/proc').flatMap((pid) => {
    try {
      if (!/^\d+$/.test(pid) || !readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(variable)) return [];
      return [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')}`];
    } catch {
      // It is gone, or not ours to look at.
      return [];
    }
  });
}

/** A part's own children (the test's TypeScript loader has one in each process) end a moment after it, by its end of a pipe. */
async function noneLeft(variable: string): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (processesWith(variable).length > 0 && performance.now() < deadlineMs) await sleep(20);
  assert.deepEqual(processesWith(variable), []);
}

/** Runs it with a temporary directory of its own, which must be empty afterwards. */
async function bench(args: string[], whileRunning: (child: ChildProcess, directory: string) => void = () => {}): Promise<Ended> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-run-test-'));
  try {
    const child = spawn(process.execPath, ['--import', 'tsx', modulePath('./main'), ...args], {
      env: { ...process.env, TMPDIR: directory },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text: Buffer) => {
      stdout += text;
    });
    child.stderr.on('data', (text: Buffer) => {
      stderr += text;
    });
    whileRunning(child, directory);
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.startsWith('forestall-bench-')),
      [],
    );
    await noneLeft(`TMPDIR=${directory}`);
    return { code, stdout, stderr };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('on Node alone every path has a row for every workload, without errors', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'bench-json-'));
  const json = join(directory, 'result.json');
  try {
    const args = ['--quick', '--rounds', '2', '--seconds', '0.05', '--node', 'own', '--only', 'direct,relay,gateway', '--json', json];
    const { code, stdout, stderr } = await bench(args);
    assert.equal(code, 0, stdout + stderr);
    const report = JSON.parse(readFileSync(json, 'utf8')) as BenchReport;
    assert.deepEqual([report.failures, report.contentsCorrect], [[], true]);
    assert.deepEqual(
      report.workloads.map(({ workload }) => workload.id),
      WORKLOADS.map(({ id }) => id),
    );
    for (const { workload, paths, samples } of report.workloads) {
      assert.deepEqual(
        paths.map(({ path }) => path),
        ['direct', 'relay', 'gateway'],
      );
      assert.deepEqual(
        samples.map(({ round, path }) => `${round} ${path}`),
        ['0 direct', '0 relay', '0 gateway', '1 relay', '1 gateway', '1 direct'],
      );
      for (const row of paths) {
        assert.deepEqual([row.errors, row.mismatches, row.rounds], [0, 0, 2], workload.id);
        assert.ok(row.iops.median > 0 && row.p50Us.median > 0 && row.p50Us.median <= row.p99Us.median, workload.id);
      }
      assert.ok(paths[1].ratios.direct!.iops > 0);
      assert.ok(stdout.includes(workload.title));
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a program that is missing is said in one line, and with `peers` it is an error', async () => {
  const args = ['--quick', '--rounds', '1', '--seconds', '0.05', '--node', 'own', '--workload', 'randread-4k-d1', '--only', 'direct,socat'];
  const path = process.env.PATH;
  process.env.PATH = '/nonexistent';
  try {
    // Some systems have everything in a directory that is looked into whatever the PATH is.
    const isMissing = findProgram('socat') === null;
    const lenient = await bench(args);
    const strict = await bench([...args, 'peers']);
    assert.deepEqual([lenient.code, strict.code], [0, isMissing ? 1 : 0]);
    assert.equal(lenient.stdout.includes('missing: socat was not measured, socat is not installed (Debian: socat)'), isMissing);
    assert.equal(strict.stderr.includes('peers that are not installed: socat (Debian: socat)'), isMissing);
  } finally {
    process.env.PATH = path;
  }
});

const interruptions = [
  { signal: 'SIGINT', when: 'while its first parts start', sign: /^forestall-bench-\w+$/ },
  { signal: 'SIGTERM', when: 'once the gateway is there', sign: /^forestall-bench-\w+\/gateway-\d+\/data$/ },
] as const;
for (const { signal, when, sign } of interruptions) {
  test(`${signal} ${when} ends all of it`, async () => {
    const args = ['--quick', '--seconds', '60', '--node', 'own', '--only', 'direct,relay,gateway'];
    const { code, stdout } = await bench(args, (child, directory) => {
      const timer = setInterval(() => {
        if (!readdirSync(directory, { recursive: true, encoding: 'utf8' }).some((path) => sign.test(path))) return;
        clearInterval(timer);
        child.kill(signal);
      }, 10);
      child.on('exit', () => clearInterval(timer));
    });
    assert.deepEqual([code, stdout], [130, '']);
  });
}

test('wrong arguments and a result file that cannot be written are refused before anything is started', async () => {
  for (const args of [
    ['--rounds', 'many'],
    ['--json', '/nonexistent/result.json'],
  ]) {
    const { code, stdout, stderr } = await bench(args);
    assert.deepEqual([code, stdout], [2, '']);
    assert.ok(stderr.includes(args[0]), stderr);
  }
});

test.run();
