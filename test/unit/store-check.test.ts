// The check of a store: each kind's shape, and what must hold between records. Every case is one change to records that
// are sound, and the one finding it must give.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import { LmdbRecords } from '../../gateway/store/lmdb-records.js';
import { checkStore, type StoreReport } from '../../gateway/store/store-check.js';

const MIB = 1024 * 1024;
const ACTIVE = { node: 'a', export: 'vol0' };
const MIRROR = { id: 'm1', target: { node: 'b', export: 'vol0' }, reverse: false, synced: true, cause: 'a test' };
const VOLUME = {
  format: 1,
  name: 'vol0',
  sizeBytes: 20 * MIB,
  blockMinimum: 1,
  epoch: 2,
  active: ACTIVE,
  mirrors: [MIRROR],
  nextMirror: 2,
  lastFlip: null,
};
const PROTECTION = {
  version: 1,
  state: 'synced',
  sinceMs: 0,
  cause: 'a test',
  active: ACTIVE,
  epoch: 2,
  pardons: {},
  copies: [],
  flip: null,
  home: null,
  rollback: null,
  scrub: 'none',
  scrubbedAtMs: null,
};
const EVENT = {
  id: 1,
  at: 'then',
  type: 'a.b',
  level: 'info',
  message: 'm',
  volume: null,
  node: null,
  labels: {},
  clients: [],
  details: {},
};
const FREED = { version: 1, node: 'c', export: 'old', volume: 'vol0', epoch: 1, at: 'then' };

function bits(...extents: number[]): Uint8Array {
  const bytes = new Uint8Array(512);
  for (const extent of extents) bytes[extent >>> 3] |= 1 << (extent & 7);
  return bytes;
}

const SOUND: [string, unknown][] = [
  ['volume/vol0', VOLUME],
  ['ours/a/vol0', { volume: 'vol0' }],
  ['ours/b/vol0', { volume: 'vol0' }],
  ['mark/vol0/00000001', 1],
  ['dirty/vol0/m1/000000', bits(0, 4)],
  ['sum/vol0/00000002', new Uint8Array(520)],
  ['doubt/vol0/a/vol0/00000000', { offset: 512, end: 1024, segments: [{ offset: 512, end: 1024, data: new Uint8Array(512) }] }],
  ['doubt/vol0/a/vol0/replay', [[0, 4096]]],
  ['damage/vol0', { format: 1, regions: [[65536, 'the copies differ']], more: false }],
  ['lost/vol0/00000001', [[4 * 2 ** 20, 4 * 2 ** 20 + 512, 1]]],
  ['free/c/old', FREED],
  ['protection/vol0', PROTECTION],
  ['event/0000000000000001', EVENT],
];

const test = suite<{ directory: string }>('store/check');

test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'forestall-check-'));
});

test.after.each(({ directory }) => {
  rmSync(directory, { recursive: true, force: true });
});

async function report(directory: string, entries: [string, unknown][]): Promise<StoreReport> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  const opened = await LmdbRecords.open(directory);
  assert.ok(opened.ok);
  await opened.value.commit(entries.map(([put, value]) => ({ put, value })));
  await opened.value.close();
  const checked = checkStore(directory);
  assert.ok(checked.ok);
  return checked.value;
}

function without(key: string): [string, unknown][] {
  return SOUND.filter(([each]) => each !== key);
}

test('a sound store has no finding, and its volumes are told', async ({ directory }) => {
  const { sound, findings, volumes, kinds } = await report(directory, SOUND);
  assert.deepEqual(findings, []);
  assert.ok(sound);
  assert.deepEqual(volumes, [
    {
      name: 'vol0',
      sizeBytes: 20 * MIB,
      epoch: 2,
      active: ACTIVE,
      mirrors: [{ node: 'b', export: 'vol0', synced: true, reverse: false, dirtyExtents: 2 }],
      markedExtents: 1,
    },
  ]);
  assert.equal(
    kinds.reduce((sum, { records }) => sum + records, 0),
    SOUND.length + 1,
  );
});

const FOUND: [string, [string, unknown][], 'damage' | 'warning', RegExp][] = [
  ['a volume without its place', [['volume/vol0', { ...VOLUME, active: null }]], 'damage', /stored record of volume vol0 is damaged/],
  ['a volume of a later format', [['volume/vol0', { ...VOLUME, format: 4 }]], 'damage', /format 4/],
  ['a volume with a journal that the record does not name', [['volume/vol0', { ...VOLUME, format: 2 }]], 'damage', /damaged/],
  ['a volume with a half mirror', [['volume/vol0', { ...VOLUME, mirrors: [{ id: 'm1' }] }]], 'damage', /at mirrors.0.target/],
  ['a mark of no extent', [['mark/vol0/x', 1]], 'damage', /names no extent/],
  ['a mark beyond the end', [['mark/vol0/00000005', 1]], 'warning', /beyond the end/],
  ['a dirty record of another length', [['dirty/vol0/m1/000000', new Uint8Array(9)]], 'warning', /all of them count as dirty/],
  ['dirty extents beyond the end', [['dirty/vol0/m1/000000', bits(5)]], 'warning', /beyond the end/],
  ['a dirty record of nobody', [['dirty/vol0/m7/000000', bits(1)]], 'warning', /a mirror that the volume does not have/],
  ['checksums of a marked extent', [['sum/vol0/00000001', new Uint8Array(520)]], 'warning', /both a mark and checksums/],
  ['checksums of another length', [['sum/vol0/00000002', 7]], 'warning', /count as unknown/],
  [
    'a doubt with other bytes',
    [
      [
        'doubt/vol0/a/vol0/00000000',
        {
          offset: 0,
          end: 2,
          segments: [
            { offset: 0, end: 2, data: null },
            { offset: 1, end: 2, data: new Uint8Array(2) },
          ],
        },
      ],
    ],
    'damage',
    /bytes that do not fit/,
  ],
  ['a target of two volumes', [['volume/vol1', { ...VOLUME, name: 'vol1', mirrors: [], active: MIRROR.target }]], 'damage', /also one of/],
  ['a target that is ours no more', [['ours/b/vol0', { volume: 'vol9' }]], 'damage', /names vol9|has no record/],
  ['damage that cannot be read', [['damage/vol0', { format: 1, regions: [['x', 1]], more: false }]], 'warning', /before a scrub/],
  ['what is lost that cannot be read', [['lost/vol0/00000001', [[0, 512, 1]]]], 'damage', /all of it counts as lost/],
  ['what is lost nowhere', [['lost/vol0/x', [[0, 512, 1]]]], 'damage', /names no extent/],
  ['what is lost of no volume', [['lost/vol9/00000000', [[0, 512, -1]]]], 'damage', /volume vol9, which has no record/],
  ['a scrub that cannot be read', [['scrub/vol0', { format: 1, copies: [], progress: {} }]], 'warning', /begins anew/],
  [
    'a scrub of no volume',
    [
      [
        'scrub/vol9',
        { format: 1, copies: [], startedAt: '', progress: { first: 0, stride: 1, done: 0, comparedBytes: 0, whole: true }, mismatches: [] },
      ],
    ],
    'damage',
    /volume vol9, which has no record/,
  ],
  ['damage of no volume', [['damage/vol9', { format: 1, regions: [], more: true }]], 'damage', /volume vol9, which has no record/],
  ['a lost volume', [['mark/vol9/00000000', 1]], 'damage', /volume vol9, which has no record/],
  ['a volume older than protection', [['protection/vol0', { ...PROTECTION, epoch: 3 }]], 'damage', /protection saw it at epoch 3/],
  [
    'protection elsewhere',
    [['protection/vol0', { ...PROTECTION, active: MIRROR.target }]],
    'damage',
    /active on b\/vol0 at the same epoch/,
  ],
  ['protection of no state', [['protection/vol0', { ...PROTECTION, state: 'tired' }]], 'damage', /state/],
  ['an active target to be freed', [['free/a/vol0', { ...FREED, node: 'a', export: 'vol0' }]], 'warning', /is active there/],
  ['a freed target without a name', [['free/c/old', { version: 1 }]], 'warning', /cannot be read/],
  ['an event under another number', [['event/0000000000000007', EVENT]], 'damage', /its key is not its number/],
  ['a predictor of nothing', [['predictor/state', '{}']], 'warning', /learns anew/],
  ['a record of another program', [['elsewhere', 1]], 'warning', /no such record/],
];

for (const [what, change, severity, message] of FOUND) {
  test(`it finds ${what}`, async ({ directory }) => {
    const { findings, sound } = await report(directory, [...SOUND, ...change]);
    const found = findings.filter((finding) => message.test(finding.message));
    assert.ok(found.length > 0, JSON.stringify(findings));
    assert.ok(found.some((finding) => finding.severity === severity));
    assert.equal(
      sound,
      findings.every((finding) => finding.severity === 'warning'),
    );
    assert.equal(sound, severity === 'warning');
  });
}

test('a copy that nothing says is ours is a warning', async ({ directory }) => {
  const { findings } = await report(directory, without('ours/b/vol0'));
  assert.deepEqual(
    findings.map(({ severity, key }) => [severity, key]),
    [['warning', 'volume/vol0']],
  );
});

test('damage in the file does not hide what can be read, and every damaged record is named', async ({ directory }) => {
  await report(directory, [...SOUND, ['k/spoilt', 'a-value-to-be-found']]);
  const path = join(directory, 'records.mdb');
  const bytes = readFileSync(path);
  for (let at = bytes.indexOf('to-be-found'); at !== -1; at = bytes.indexOf('to-be-found', at + 1)) bytes[at] ^= 1;
  writeFileSync(path, bytes);
  const checked = checkStore(directory);
  assert.ok(checked.ok && !checked.value.sound);
  assert.deepEqual(checked.value.findings, [{ severity: 'damage', key: 'k/spoilt', message: 'its checksum is wrong' }]);
  assert.equal(checked.value.volumes.length, 1);
  truncateSync(path, 3 * 4096);
  const cut = checkStore(directory);
  assert.ok(cut.ok && !cut.value.sound && cut.value.findings[0].message.includes('cut off'), JSON.stringify(cut));
});

test.run();
