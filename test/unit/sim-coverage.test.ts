// Instrumented sources do what the others do, and tell which awaits were reached and where a crash met somebody.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { suite } from 'uvu';
import { CoverageRecorder } from '../sim/coverage-recorder.js';
import { type AwaitSite, instrumented, instrumentedCopy } from '../sim/instrument.js';
import { runSeed, type SeedReport, type SeedsTask } from '../sim/seed-report.js';
import { employ } from '../sim/seeds-pool.js';
import { findSystem } from '../sim/systems.js';

const test = suite('sim/coverage');
const OPTIONS = { operations: 200, sessions: 3, faults: 5, verbose: false };

test('awaits and changes of state are found, one inside another too', () => {
  const awaits: AwaitSite[] = [];
  const text = "async function f(o) {\n  o.state = (await g(await h())).x;\n  this.#state = 'on';\n}\n";
  const R = 'globalThis.forestallCoverage';
  assert.equal(
    instrumented('a.ts', text, awaits),
    `async function f(o) {\n  o.state = ${R}.enter('a.ts state', o.state, (await ${R}.reach(0, g(await ${R}.reach(1, h())))).x);\n` +
      `  this.#state = ${R}.enter('a.ts #state', this.#state, 'on');\n}\n`,
  );
  assert.deepEqual(
    awaits.map(({ id, line, text: awaited }) => [id, line, awaited]),
    [
      [0, 2, 'g(await h())'],
      [1, 2, 'h()'],
    ],
  );
});

test('a crash counts for who is suspended then, and for nobody of a gateway before', async () => {
  const recorder = new CoverageRecorder();
  recorder.begin(null);
  void recorder.reach(1, new Promise(() => {}));
  const ended = recorder.reach(2, Promise.resolve());
  recorder.reach(3, 'no promise');
  await ended;
  recorder.crashed();
  recorder.crashed();
  assert.deepEqual(recorder.coverage.awaits, [
    [1, 1, 1],
    [2, 1, 0],
    [3, 1, 0],
  ]);
});

test('the same seeds give the same runs with and without', async () => {
  const { directory, awaits } = instrumentedCopy();
  try {
    const reports: SeedReport[] = [];
    const tasks: SeedsTask[] = [{ system: 'gateway', from: 1, count: 3, options: OPTIONS, crashAt: null }];
    await employ(
      directory,
      () => tasks.shift() ?? null,
      (report) => reports.push(report),
    );
    const reached = new Set(reports.flatMap(({ coverage }) => coverage!.awaits.map(([id]) => id)));
    assert(reached.size > awaits.length / 3, `${reached.size} of ${awaits.length} awaits reached`);
    assert(reports.some(({ coverage }) => coverage!.awaits.some(([, , crashed]) => crashed > 0)));
    for (const { seed, events, counts } of reports) {
      const plain = await runSeed(findSystem('gateway'), { ...OPTIONS, seed });
      assert.deepEqual({ seed, events, counts }, { seed, events: plain.events, counts: plain.counts });
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test.run();
