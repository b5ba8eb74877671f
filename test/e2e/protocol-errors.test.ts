// A node that breaks the protocol, in front of a whole gateway: hosts wait and get no error and no wrong byte; log, API and metrics
// say what the node did; when it behaves again they go on.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { Random } from '../sim/random.js';
import { CuttingRelay } from '../support/cutting-relay.js';
import { eventually } from '../support/eventually.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelHost } from '../support/model-host.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { siteTest } from '../support/site.js';

const test = suite('protocol errors');
const MIB = 1024 * 1024;
const REPLY_MAGICS = [0x67446698, 0x668e33ef];

siteTest(
  test,
  ['nbdkit'],
  'a node that answers wrong is named, with what it did, and hosts wait until it does not any more',
  async (site) => {
    const node = await NbdkitNode.onFile(site, 'disk', 16 * MIB);
    const spare = await NbdkitNode.onFile(site, 'spare', 16 * MIB);
    const relay = await CuttingRelay.start(site, node.port);
    const gateway = await GatewayProcess.start(site, {
      nodes: [
        { id: 'n0', nbd: relay.uri, zombie: '500ms' },
        { id: 'n1', nbd: spare.uri, spares: [''], capacity: '1GiB' },
      ],
      volumes: [{ name: 'vol0', size: '16MiB', node: 'n0', export: '' }],
      policies: { default: { flip: { automatic: false } } },
    });
    const host = await ModelHost.start({ name: 'host', uri: gateway.uri('vol0'), offset: 0, length: MIB, random: new Random(3, 'host') });
    site.onClose(() => host.abandon());
    await host.progress(50);
    let garbled = 0;
    relay.garble = (chunk) => {
      if (chunk.length < 4 || !REPLY_MAGICS.includes(chunk.readUInt32BE(0))) return chunk;
      garbled += 1;
      return Buffer.concat([Buffer.from([chunk[0] ^ 0xff]), chunk.subarray(1)]);
    };
    const { reason } = await eventually(
      'the node is down',
      () => gateway.node('n0'),
      ({ state }) => state === 'down',
    );
    assert.match(reason!, /protocol error: a reply began with 0x9[89][0-9a-f]{6}, which is no reply magic/);
    const { service, reason: why } = await gateway.volume('vol0');
    assert.equal(service, 'waiting');
    assert.match(why!, /no reply magic/);
    // It is tried again, and again it answers wrong.
    await eventually(
      'it was tried again',
      async () => garbled,
      (count) => count > 3,
    );
    const metrics = await gateway.get<string>('/metrics');
    const [, counted] = /^forestall_node_protocol_errors_total\{node="n0",kind="magic"\} (\d+)$/m.exec(metrics) ?? [];
    assert(Number(counted) >= 3, `${counted} of ${garbled} were counted`);
    relay.garble = (chunk) => chunk;
    await host.progress(50);
    const after = await gateway.node('n0');
    assert.deepEqual([after.state, after.reason], ['up', null]);
    await host.stop();
    const { stdout, stderr } = gateway.program;
    const lines = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('a node broke the protocol'));
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0], /n0/);
    assert.match(lines[0], /no reply magic/);
  },
);

test.run();
