// A plain node's export that is given back is zeroed to its end, also where it has become larger since it was last asked.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { trimTarget } from '../../gateway/service/target-trim.js';
import { Upstream } from '../../gateway/upstream/upstream.js';
import { ManualClock } from '../support/manual-clock.js';
import { QuietLog } from '../support/quiet-log.js';
import { ScriptedNode } from '../support/scripted-node.js';

const test = suite('service/target-trim');

test('an export that was made larger with its volume is zeroed whole', async () => {
  const clock = new ManualClock();
  const node = new ScriptedNode(64 * 1024);
  node.bytes.fill(0xee);
  node.volatile = true;
  const trimmed = await trimTarget(
    {
      get: () => ({ spareSize: () => 4096, look: async () => {} }),
      connect: (target, needs, events, memory) => {
        const dial = {
          target,
          needs,
          memory,
          address: () => ({ host: 'a', port: 1 }),
          exportName: '',
          connections: 1,
          zombieMs: 0,
          unflushedBytesMax: 1024 * 1024,
          dialer: node,
          clock,
          log: new QuietLog(),
        };
        return { ok: true, value: new Upstream(dial, events) };
      },
    },
    clock,
    { node: 'a', export: '' },
  );
  assert.deepEqual(trimmed, { ok: true, value: null });
  assert(node.durable.every((byte) => byte === 0) && node.bytes.every((byte) => byte === 0));
});

test.run();
