// deadline: 240s
// The benchmark beside its real peers with tiny measurements: each path that can be measured here has a row for every
// workload, without errors and with ratios to the others. And our in-memory node is one that real clients can use.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import type { BenchReport } from '../../native-free-bench/bench.js';
import { modulePath } from '../../native-free-bench/module-path.js';
import { Parts } from '../../native-free-bench/part.js';
import { PATHS } from '../../native-free-bench/path.js';
import { WORKLOADS } from '../../native-free-bench/workload.js';
import { havePeer, skipped } from '../support/peers.js';

const test = suite('bench interop');

const measurable = PATHS.filter(({ needs }) => needs === null || havePeer(needs.program));
for (const { needs, title } of PATHS) {
  if (needs !== null && !havePeer(needs.program)) skipped(`the benchmark through ${title}`, needs.packages);
}

test('every path that can be measured has a row for every workload, without errors and with ratios', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'bench-interop-'));
  const json = join(directory, 'result.json');
  const ids = measurable.map(({ id }) => id);
  try {
    const args = ['--quick', '--rounds', '1', '--seconds', '0.1', '--only', ids.join(','), '--json', json];
    const child = spawn(process.execPath, ['--import', 'tsx', modulePath('./main'), ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
    const [code] = await once(child, 'close');
    const report = JSON.parse(readFileSync(json, 'utf8')) as BenchReport;
    assert.deepEqual([code, report.failures, report.contentsCorrect, report.missing], [0, [], true, []]);
    assert.deepEqual(
      report.paths.map(({ id }) => id),
      ids,
    );
    assert.equal(report.workloads.length, WORKLOADS.length);
    for (const { workload, paths, bestProxy } of report.workloads) {
      for (const row of paths) {
        assert.deepEqual([row.rounds, row.errors, row.mismatches], [1, 0, 0], `${workload.id} ${row.path}`);
        const references = Object.entries(row.ratios);
        assert.equal(references.length, expectedReferences(row.path, ids, bestProxy).length, `${workload.id} ${row.path}`);
        for (const [reference, { iops, p50 }] of references) {
          assert.ok(iops > 0 && p50 > 0 && Number.isFinite(iops * p50), `${workload.id} ${row.path} ${reference}`);
        }
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** Every path is compared with direct, both relays and the better proxy, as far as they are there and not itself. */
function expectedReferences(path: string, measured: string[], bestProxy: string | null): string[] {
  return ['direct', 'relay', 'socat', bestProxy].filter((id): id is string => id !== null && id !== path && measured.includes(id));
}

const clients = [
  { program: 'nbdinfo', packages: 'libnbd-bin', args: (uri: string) => ['--size', uri] },
  { program: 'nbdcopy', packages: 'libnbd-bin', args: (uri: string) => [uri, 'null:'] },
  {
    program: 'qemu-io',
    packages: 'qemu-utils',
    args: (uri: string) => ['-f', 'raw', '-c', 'write -P 7 1000 300k', '-c', 'read -P 7 1000 300k', uri],
  },
];
for (const { program, packages, args } of clients) {
  if (!havePeer(program)) {
    skipped(`the benchmark's in-memory node used by ${program}`, packages);
    continue;
  }
  test(`the in-memory node serves ${program}`, async () => {
    const parts = new Parts();
    try {
      const started = await parts.start({ name: 'node', run: { module: modulePath('./memory-node') }, args: ['16777216'] });
      assert.ok(started.ok, started.ok ? '' : started.message);
      const uri = `nbd://127.0.0.1:${started.value.port}`;
      const { status, stdout, stderr } = spawnSync(program, args(uri), { encoding: 'utf8', timeout: 20_000 });
      assert.equal(status, 0, stdout + stderr);
      assert.doesNotMatch(stdout, /failed/);
    } finally {
      await parts.stopAll();
    }
  });
}

test.run();
