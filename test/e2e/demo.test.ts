// deadline: 240s
// The demo's story must come true: run as a user runs it, its facts are checked one by one; and Ctrl-C leaves nothing behind.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import type { DemoReport } from '../../gateway/demo/comparison.js';
import type { Check } from '../../gateway/demo/narrator.js';
import { startForestall } from '../support/forestall-program.js';
import { siteTest } from '../support/site.js';

const test = suite('demo');

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

siteTest(test, [], 'the fast demo ends with 0 and every fact of its story', async (site) => {
  const demo = startForestall(site, ['demo', '--fast', '--json']);
  const ending = await demo.ended;
  assert.deepEqual(ending, { code: 0, signal: null }, demo.stderr);
  const { predicted, falseAlarm, reacted, checks } = JSON.parse(demo.stdout) as DemoReport & { checks: Check[] };
  assert.deepEqual(
    checks.filter(({ held }) => !held),
    [],
  );
  assert(checks.length >= 10, `${checks.length} checks`);

  assert.equal(predicted.verdict.origin, 'model');
  assert(predicted.verdict.reasons.some(({ text }) => text.includes('sectors')));
  assert.equal(predicted.certificate.kind, 'flip');
  assert.equal(predicted.certificate.epoch, 1);
  assert.equal(predicted.certificate.from.node, 'a');
  assert(predicted.certificate.pauseMs > 0);
  assert.equal(predicted.scrub.state, 'done');
  assert.equal(predicted.scrub.comparedBytes, predicted.scrub.totalBytes);
  assert.equal(predicted.atRisk, 0);
  assert(predicted.writesAfterDeath > 0);

  assert.equal(falseAlarm.there.from.node, predicted.certificate.to.node);
  assert.equal(falseAlarm.back.kind, 'rollback');
  assert.deepEqual(falseAlarm.back.to, falseAlarm.there.from);

  assert(reacted.gapMs >= reacted.outageMs, 'nobody can write while the node is dead');
  assert(reacted.writesAfter > 0, 'the host goes on when the node is back');
  for (const { host } of [predicted, reacted]) {
    assert.deepEqual([host.errors, host.mismatches, host.connectionLost], [0, [], false]);
    assert(host.writes > 0 && host.reads > 0);
  }
});

siteTest(test, [], 'Ctrl-C ends its nodes and its gateway and removes its directory', async (site) => {
  const demo = startForestall(site, ['demo', '--fast', '--json']);
  await demo.until(({ stderr }) => stderr.includes('a host is attached'));
  const pids = [...demo.stderr.matchAll(/process\s+(\d+)/g)].map(([, pid]) => Number(pid));
  assert.equal(pids.length, 4, demo.stderr);
  demo.signal('SIGINT');
  assert.deepEqual(await demo.ended, { code: 130, signal: null });
  // Killed children are gone once the system has buried them: the demo's own end does not wait for that.
  while (pids.some(isAlive)) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    (await readdir(join(site.directory))).filter((name) => name.startsWith('forestall-demo-')),
    [],
  );
});

test.run();
