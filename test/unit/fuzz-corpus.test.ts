// Every input that the fuzzer thought worth keeping is played again: it took a branch, or met a mistake, that others did not.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { withBranchCounters } from '../fuzz/branch-counters.js';
import { findingText, fromLine, parseFinding, readCorpus, ROOT, toLine } from '../fuzz/corpus.js';
import { FLAWS } from '../fuzz/flaws.js';
import { huntFlaw } from '../fuzz/flaw-check.js';
import { failureOf } from '../fuzz/shrink.js';
import { TARGETS } from '../fuzz/targets.js';
import { varied } from '../fuzz/variation.js';
import { edited } from '../sim/mutate.js';

const test = suite('fuzz corpus');

for (const target of TARGETS) {
  test(`${target.name}: what was kept runs as it should`, async () => {
    const corpus = readCorpus(target.name);
    assert(corpus.length > 0, 'there is a corpus');
    for (const steps of corpus) {
      const failure = await failureOf(target, steps);
      if (failure !== null) throw new Error(findingText(target.name, failure.stack ?? failure.message, steps));
    }
  });

  test(`${target.name}: new inputs run as they should, and a seed gives the same ones`, async () => {
    const draw = (): string[] => {
      const random = new Random(7, target.name);
      return Array.from({ length: 150 }, () => {
        const steps = target.draw(random);
        return toLine(random.chance(0.5) ? steps : varied(steps, target.draw(random), random));
      });
    };
    const lines = draw();
    assert.deepEqual(lines, draw());
    for (const line of lines) {
      const failure = await failureOf(target, fromLine(line));
      if (failure !== null) throw new Error(findingText(target.name, failure.stack ?? failure.message, fromLine(line)));
    }
  });
}

test('a failing input is written and read again', () => {
  const steps = readCorpus('session')[0];
  const { target, steps: again } = parseFinding(findingText('session', 'what is\nwrong', steps));
  assert.equal(target, 'session');
  assert.deepEqual(again, steps);
  assert.throws(() => parseFinding('session\n00'), /begins with/);
  assert.throws(() => parseFinding('target session\n0g'), /hexadecimal/);
});

test('counters on branches leave every line where it is, and change nothing else', () => {
  const sites: { file: string; line: number }[] = [];
  const text =
    'export const f = (a: number): number => {\n  if (a > 1) return a && 2;\n  for (;;) if (a) break;\n  return a ? 3 : 4;\n};\n';
  const counted = withBranchCounters('f.ts', text, sites);
  assert.deepEqual(
    sites.map(({ line }) => line),
    [1, 2, 2, 2, 3, 3, 3, 4, 4].sort((one, other) => one - other),
  );
  assert.equal(counted.split('\n').length, text.split('\n').length);
  assert.match(counted, /\$loop\(\)/);
});

test('every planted flaw fits the sources as they are', () => {
  assert.equal(new Set(FLAWS.map(({ name }) => name)).size, FLAWS.length);
  for (const { edits, targets } of FLAWS) {
    assert(targets.every((name) => TARGETS.some((target) => target.name === name)));
    for (const edit of edits) edited(readFileSync(`${ROOT}/${edit.file}`, 'utf8'), edit);
  }
});

test('a planted flaw is found', async () => {
  const { finding } = await huntFlaw(FLAWS.find(({ name }) => name === 'wrong-bound')!, 'session', 1, 90);
  assert.match(finding?.message ?? 'nothing', /got error 0 instead of|error \d+ instead of|range/);
});

test.run();
