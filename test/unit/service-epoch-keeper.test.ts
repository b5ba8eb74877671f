// Agents learn the epoch of every copy they hold, the one a volume left included, for as long as it takes; and nobody
// insists on what is superseded, gone or somebody else's.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { Outcome } from '../../gateway/control.js';
import { type ClaimedCopy, EpochKeeper } from '../../gateway/service/epoch-keeper.js';
import { ManualClock } from '../support/manual-clock.js';
import { QuietLog } from '../support/quiet-log.js';

const test = suite('epoch keeper');
const RETRY_MS = 2_000;

class Fleet {
  readonly told: string[] = [];
  /** By node; without an answer it is granted. */
  readonly answers = new Map<string, Outcome<unknown>>();

  get(node: string) {
    if (node === 'plain') return { agent: null };
    return {
      agent: {
        setEpoch: async (name: string, { volume, epoch, role }: { volume: string; epoch: number; role: string }) => {
          this.told.push(`${node}/${name}: ${volume} ${epoch} ${role}`);
          return this.answers.get(node) ?? { ok: true, value: null };
        },
      },
    };
  }
}

function copy(node: string, role: 'active' | 'mirror'): ClaimedCopy {
  return { target: { node, export: 'x' }, role };
}

function refusal(code: string): Outcome<never> {
  return { ok: false, code, message: code };
}

function keeper() {
  const [clock, fleet, log] = [new ManualClock(), new Fleet(), new QuietLog()];
  return { clock, fleet, log, epochs: new EpochKeeper({ clock, fleet, log }) };
}

/** Lets answers arrive. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('every copy is told, the one the volume left too; plain nodes cannot be', async () => {
  const { fleet, epochs, clock } = keeper();
  epochs.claim('v', [copy('b', 'active'), copy('a', 'mirror'), copy('plain', 'mirror')], 1);
  await settle();
  assert.deepEqual(fleet.told, ['b/x: v 1 active', 'a/x: v 1 mirror']);
  assert.equal(clock.pending, 0);
});

test('an agent that does not answer is asked again until it does', async () => {
  const { fleet, epochs, clock } = keeper();
  fleet.answers.set('a', refusal('agent-unreachable'));
  epochs.claim('v', [copy('b', 'active'), copy('a', 'mirror')], 1);
  await settle();
  clock.advance(RETRY_MS);
  await settle();
  fleet.answers.delete('a');
  clock.advance(RETRY_MS);
  await settle();
  assert.deepEqual(
    fleet.told.filter((line) => line.startsWith('a')),
    ['a/x: v 1 mirror', 'a/x: v 1 mirror', 'a/x: v 1 mirror'],
  );
  assert.equal(clock.pending, 0);
});

test('what is superseded is not told any more', async () => {
  const { fleet, epochs, clock } = keeper();
  fleet.answers.set('a', refusal('agent-unreachable'));
  epochs.claim('v', [copy('b', 'active'), copy('a', 'mirror')], 1);
  await settle();
  epochs.claim('v', [copy('b', 'active')], 2);
  await settle();
  clock.advance(10 * RETRY_MS);
  await settle();
  assert.deepEqual(fleet.told, ['b/x: v 1 active', 'a/x: v 1 mirror', 'b/x: v 2 active']);
});

test('a newer owner is an error in the log, a mirror whose space is free again is nothing; neither is asked again', async () => {
  const { fleet, epochs, clock, log } = keeper();
  fleet.answers.set('b', refusal('stale-epoch'));
  fleet.answers.set('a', refusal('export-unknown'));
  epochs.claim('v', [copy('b', 'active'), copy('a', 'mirror')], 1);
  await settle();
  assert.equal(clock.pending, 0);
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0], /^error: .*newer owner/);
});

test('nothing is told after the end', async () => {
  const { fleet, epochs, clock } = keeper();
  fleet.answers.set('b', refusal('agent-unreachable'));
  epochs.claim('v', [copy('b', 'active')], 1);
  await settle();
  epochs.stop();
  clock.advance(10 * RETRY_MS);
  assert.equal(fleet.told.length, 1);
});

test.run();
