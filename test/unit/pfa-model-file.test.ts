// The shipped model loads; every kind of damage is refused with the place, before anything is scored.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import { FEATURES } from '../../pfa/disk-features.js';
import { loadModelFile, type ModelFile, parseModelFile } from '../../pfa/model-file.js';

const test = suite('pfa model file');
const SHIPPED = readFileSync(new URL('../../pfa/models/disk-wearout-v1.json', import.meta.url));
const parsed = (): ModelFile => JSON.parse(SHIPPED.toString());
const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

test('the shipped model loads, is named by its SHA-256, and says where it comes from', () => {
  const result = loadModelFile();
  assert.ok(result.ok, result.ok ? '' : result.message);
  assert.equal(result.model.id, createHash('sha256').update(SHIPPED).digest('hex'));
  assert.deepEqual(
    result.model.file.features,
    FEATURES.map(({ name }) => name),
  );
  assert.match(String(result.model.file.training.notice), /source: Backblaze.*user is responsible.*not sold/);
  assert.ok(Number(result.model.file.evaluation.failedDrives) > 100);
});

test('features are found by name, so that a file with fewer of them still scores', () => {
  const file = parsed();
  const used = new Set(file.trees.flatMap(({ feature }) => feature));
  const kept = [...file.features.keys()].filter((index) => used.has(index));
  file.trees = file.trees.map((tree) => ({ ...tree, feature: tree.feature.map((index) => (index < 0 ? -1 : kept.indexOf(index))) }));
  file.features = kept.map((index) => file.features[index]);
  const result = parseModelFile(bytesOf(file));
  assert.ok(result.ok);
  assert.deepEqual(result.model.featureIndex, kept);
});

const damage: [what: string, spoil: (file: ModelFile) => unknown, message: RegExp][] = [
  ['another format', (file) => ({ ...file, format: 'other' }), /format is "other", expected "forestall-disk-wearout"/],
  ['a later version', (file) => ({ ...file, version: 2 }), /version 2 is not 1; train it again or update/],
  ['a list', () => [], /format is missing/],
  ['null', () => null, /format is missing/],
  ['no horizon', (file) => ({ ...file, horizonDays: 0 }), /horizonDays/],
  ['a bias that is no number', (file) => ({ ...file, bias: null }), /bias is no finite number/],
  ['a falling calibration', (file) => ({ ...file, calibration: { a: -1, b: 1, c: 0 } }), /a and b not negative/],
  ['an unknown feature', (file) => ({ ...file, features: [...file.features, 'smart_999.value'] }), /feature "smart_999.value" is unknown/],
  ['no trees', (file) => ({ ...file, trees: [] }), /trees is a list/],
  ['a missing column', (file) => spoilTree(file, (tree) => delete tree.cover), /trees\[1\]: cover does not have \d+ entries/],
  ['a shorter column', (file) => spoilTree(file, (tree) => (tree.value as number[]).pop()), /trees\[1\]: value does not have/],
  ['a threshold that is text', (file) => spoilTree(file, (tree) => ((tree.threshold as unknown[])[0] = '5')), /threshold holds something/],
  ['a child before its parent', (file) => spoilTree(file, (tree) => ((tree.left as number[])[0] = 0)), /node 0 has 0 as a child/],
  ['a child that does not exist', (file) => spoilTree(file, (tree) => ((tree.right as number[])[0] = 5000)), /has 5000 as a child/],
  ['two parents', (file) => spoilTree(file, (tree) => ((tree.right as number[])[0] = (tree.left as number[])[0])), /as a child/],
  ['a split on an unknown feature', (file) => spoilTree(file, (tree) => ((tree.feature as number[])[0] = 500)), /splits on feature 500/],
  ['a leaf nobody reaches', (file) => spoilTree(file, (tree) => ((tree.feature as number[])[0] = -1)), /not reached from the root/],
  ['no cover', (file) => spoilTree(file, (tree) => (tree.cover as number[]).fill(0)), /has no cover/],
];

function spoilTree(file: ModelFile, spoil: (tree: Record<string, unknown>) => unknown): ModelFile {
  spoil(file.trees[1] as unknown as Record<string, unknown>);
  return file;
}

for (const [what, spoil, message] of damage) {
  test(`${what} is refused with the place`, () => {
    const result = parseModelFile(bytesOf(spoil(parsed())));
    assert.ok(!result.ok);
    assert.match(result.message, /^the disk wear-out model is refused: /);
    assert.match(result.message, message);
  });
}

test('a file cut short, one that is no text and one that does not exist are refused, not thrown on', () => {
  assert.match(refusal(parseModelFile(SHIPPED.subarray(0, 1000))), /it is not JSON/);
  assert.match(refusal(parseModelFile(Buffer.from([0xff, 0xfe, 0x00]))), /it is not JSON/);
  const directory = mkdtempSync(join(tmpdir(), 'pfa-model-'));
  try {
    assert.match(refusal(loadModelFile(join(directory, 'none.json'))), /cannot be read: ENOENT/);
    writeFileSync(join(directory, 'empty.json'), '');
    assert.match(refusal(loadModelFile(join(directory, 'empty.json'))), /it is not JSON/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a byte changed anywhere is another id, a refusal, or a model with finite numbers; never an exception', () => {
  const good = parseModelFile(SHIPPED);
  assert.ok(good.ok);
  fc.assert(
    fc.property(fc.nat(SHIPPED.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const bytes = Buffer.from(SHIPPED);
      if (bytes[at] === byte) return;
      bytes[at] = byte;
      const result = parseModelFile(bytes);
      assert.ok(!result.ok || result.model.id !== good.model.id);
    }),
    { numRuns: 60 },
  );
});

function refusal(result: ReturnType<typeof parseModelFile>): string {
  assert.ok(!result.ok);
  return result.message;
}

test.run();
