// What holds a volume's copy is known from the store too, not only from the configuration (rule 20).
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { TargetRef } from '../../gateway/control.js';
import type { ServedVolume } from '../../gateway/service/served-volume.js';
import { UsedTargets } from '../../gateway/service/used-targets.js';
import { putVolume, type VolumeRecord } from '../../gateway/volume/volume-record.js';
import { MemoryRecords } from '../support/memory-records.js';
import { QuietLog } from '../support/quiet-log.js';

const test = suite('service/used-targets');

const at = (text: string): TargetRef => {
  const [node, name = ''] = text.split('/');
  return { node, export: name };
};

function record(name: string, active: string, mirrors: string[] = []): VolumeRecord {
  return {
    format: 1,
    name,
    sizeBytes: 1 << 20,
    blockMinimum: 1,
    epoch: 1,
    active: at(active),
    mirrors: mirrors.map((target, index) => ({ id: `${index}`, target: at(target), reverse: false, synced: true, cause: '' })),
    nextMirror: 9,
    lastFlip: null,
  };
}

class Rig {
  readonly records = new MemoryRecords();
  readonly log = new QuietLog();
  readonly served = new Map<string, Pick<ServedVolume, 'volume' | 'targets'>>();
  readonly used = new UsedTargets(this, this.served);

  async store(...records: VolumeRecord[]): Promise<void> {
    await this.records.commit(records.map(putVolume));
    this.used.look(new Set(this.served.keys()));
  }

  serve(name: string, open: boolean, ...targets: string[]): void {
    const role = 'active' as const;
    this.served.set(name, { volume: open ? ({} as never) : null, targets: () => targets.map((target) => ({ target: at(target), role })) });
    this.used.look(new Set(this.served.keys()));
  }

  says(target: string, except?: string): string {
    const outcome = this.used.usedBy(at(target), except);
    return outcome.ok ? (outcome.value ?? 'nobody') : outcome.code;
  }
}

test('a volume that is not configured keeps its copies: active target and mirrors', async () => {
  const rig = new Rig();
  await rig.store(record('left', 'a', ['b/m1', 'c/m2']), record('here', 'a/x'));
  rig.serve('here', true, 'a/y');
  assert.deepEqual(
    ['a', 'b/m1', 'c/m2', 'a/y', 'a/x', 'b'].map((target) => rig.says(target)),
    ['left', 'left', 'left', 'here', 'nobody', 'nobody'],
  );
  assert(rig.log.lines.some((line) => line.startsWith('warn: volumes of the data directory are not configured')));
});

test('a volume that is configured again, or taken out, is looked up anew; one is not in its own way', async () => {
  const rig = new Rig();
  await rig.store(record('one', 'a/one'));
  assert.equal(rig.says('a/one'), 'one');
  rig.serve('one', false, 'a/one');
  assert.equal(rig.says('a/one', 'one'), 'nobody');
  assert.equal(rig.says('a/one', 'other'), 'one');
  rig.served.delete('one');
  rig.used.look(new Set());
  assert.equal(rig.says('a/one'), 'one');
});

for (const configured of [false, true]) {
  test(`while a record cannot be read, nobody can say that a target is free (${configured ? 'configured, not open' : 'not configured'})`, async () => {
    const rig = new Rig();
    await rig.records.commit([{ put: 'volume/odd', value: { format: 99 } }]);
    await rig.store(record('sound', 'b'));
    if (configured) rig.serve('odd', false, 'a/odd');
    assert.equal(rig.says('c/free'), 'record-damaged');
    assert.equal(rig.says('b'), 'sound', 'that much is known');
    if (!configured) return;
    rig.serve('odd', true, 'a/odd');
    assert.equal(rig.says('c/free'), 'nobody', 'once it is open it knows itself');
  });
}

test.run();
