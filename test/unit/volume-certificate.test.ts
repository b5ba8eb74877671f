// The certificate of a flip is told once, when hosts go on, with the pause as it was (rule 18); a restart knows it too.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { FlipCertificate } from '../../gateway/control.js';
import { turns } from '../support/scripted-node.js';
import { filled } from '../support/upstream-rig.js';
import { target, VolumeRig } from '../support/volume-rig.js';

const test = suite('volume/certificate');
const why = { kind: 'flip' as const, reason: 'test', verdict: null };

function told(rig: VolumeRig): FlipCertificate[] {
  return rig.facts.flatMap((fact) => (fact.type === 'flipped' ? [fact.certificate] : []));
}

/** Told once, as it is in the end, and stored like that. */
async function checkWhole(rig: VolumeRig, kind: FlipCertificate['kind']): Promise<void> {
  await turns();
  assert.equal(told(rig).length, 1);
  const [certificate] = told(rig);
  assert.equal(certificate.kind, kind);
  assert(certificate.pauseMs >= 300, `held for ${certificate.pauseMs} ms`);
  assert.equal(certificate.held, 1);
  assert.deepEqual(rig.volume.lastFlip, certificate);
  const again = await rig.restarted();
  assert.deepEqual(again.volume.lastFlip, certificate);
  await again.stop();
}

test('a flip is told when hosts go on, with how long they were held', async () => {
  const rig = await VolumeRig.mirrored();
  rig.records.held = true;
  const flip = rig.volume.flip(target('b'), why);
  await turns();
  const held = rig.write(0, filled(1));
  await rig.pass(300);
  assert.deepEqual(told(rig), [], 'nothing is certain yet');
  rig.records.held = false;
  rig.records.release();
  const flipped = await rig.finish(flip);
  assert(flipped.ok);
  assert.equal(held.errno, 0);
  assert.deepEqual(told(rig), [flipped.value]);
  await checkWhole(rig, 'flip');
});

test('a failover is told when hosts go on, with how long they were held', async () => {
  const rig = await VolumeRig.mirrored();
  rig.records.held = true;
  rig.nodes.a.up = false;
  rig.nodes.a.cut();
  await rig.until(() => rig.records.waiting === 1, 'the failover commits');
  const held = rig.write(0, filled(1));
  await rig.pass(300);
  assert.deepEqual(told(rig), [], 'nothing is certain yet');
  rig.records.held = false;
  rig.records.release();
  await rig.until(() => held.errno === 0, 'hosts go on');
  await checkWhole(rig, 'failover');
});

test('a flip whose commit must be tried again is told once', async () => {
  for (const failing of ['before', 'after'] as const) {
    const rig = await VolumeRig.mirrored();
    rig.records.failing = failing;
    const flip = rig.volume.flip(target('b'), why);
    await turns();
    rig.write(0, filled(1));
    await rig.pass(300);
    assert.deepEqual(told(rig), [], 'nothing is certain yet');
    rig.records.failing = null;
    assert((await rig.finish(flip)).ok);
    await checkWhole(rig, 'flip');
  }
});

test('a flip that becomes a failover is told once, as a failover', async () => {
  const rig = await VolumeRig.mirrored();
  rig.nodes.a.hold = () => true;
  const write = rig.write(0, filled(6));
  await turns();
  rig.records.held = true;
  const flip = rig.volume.flip(target('b'), why);
  await turns();
  rig.write(512, filled(7));
  rig.nodes.a.held[0].answer(5);
  await rig.pass(300);
  rig.records.held = false;
  rig.records.release();
  const outcome = await rig.finish(flip);
  assert(outcome.ok);
  assert.equal(write.errno, 0);
  await checkWhole(rig, 'failover');
});

test.run();
