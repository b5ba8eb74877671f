// Our server with libnbd that is told not to check anything itself (set_strict_mode 0), so that wrong requests go out as they
// are: each gets the error the protocol asks for and the connection lives on.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { MemoryDevice } from '../support/memory-device.js';
import { type ExportWish, memoryExport } from '../support/memory-exports.js';
import { NbdTestbed, runPeer } from '../support/nbd-testbed.js';
import { havePeer, skipped } from '../support/peers.js';

const test = suite('nbd server with nbdsh');

const MIB = 1024 * 1024;
/** Debian's Python, the one that finds python3-libnbd. */
const PYTHON = '/usr/bin/python3';

/** Carries out each step and prints its error (0: none), then proves that the connection still works. */
const SCRIPT = `
import sys, json, errno, nbd
uri, options, steps = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
h = nbd.NBD()
h.set_strict_mode(0)
if options.get("simple"): h.set_request_structured_replies(False)
if not options.get("no_context"): h.add_meta_context("base:allocation")
h.connect_uri(uri)
extents = []
def got(context, offset, entries, error): extents.append(entries)
def run(step):
    op, args = step[0], step[1:]
    if op == "pread": h.pread(*args)
    elif op == "pwrite": h.pwrite(bytes(args[0]), *args[1:])
    elif op == "block_status": h.block_status(args[0], args[1], got, *args[2:])
    else: getattr(h, op)(*args)
outcome = []
for step in steps:
    try:
        run(step)
        outcome.append(0)
    except nbd.Error as e:
        outcome.append(e.errnum if e.errnum else str(e))
alive = h.pread(512, 0) == bytearray(512)
h.shutdown()
print(json.dumps({"outcome": outcome, "alive": alive, "extents": extents}))
`;

interface Wish extends ExportWish {
  simple?: boolean;
  noContext?: boolean;
}

type Step = [call: string, ...args: number[]];

/** The error number of each step, as libnbd reports it. */
async function errnos(wish: Wish, steps: Step[], device = new MemoryDevice(MIB)): Promise<(number | string)[]> {
  const bed = await NbdTestbed.start([memoryExport('disk', device, wish)]);
  try {
    const options = JSON.stringify({ simple: wish.simple, no_context: wish.noContext });
    const { status, stdout, stderr } = await runPeer(PYTHON, ['-c', SCRIPT, bed.uri('disk'), options, JSON.stringify(steps)]);
    assert.equal(status, 0, stderr);
    const result = JSON.parse(stdout);
    assert.equal(result.alive, true, 'the connection still works');
    return result.outcome;
  } finally {
    await bed.stop();
  }
}

const [EPERM, EINVAL, ENOSPC, ENOTSUP] = [1, 22, 28, 95];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO] = [1, 2, 4, 8, 16];

const scenarios: { name: string; wish: Wish; steps: [...Step, { is: number }][] }[] = [
  {
    name: 'ranges past the end',
    wish: {},
    steps: [
      ['pread', 512, MIB, { is: EINVAL }],
      ['pread', 1024, MIB - 512, { is: EINVAL }],
      ['pwrite', 512, MIB, { is: ENOSPC }],
      ['pwrite', 1024, MIB - 512, { is: ENOSPC }],
      ['zero', 512, MIB, { is: ENOSPC }],
      ['trim', 512, MIB, { is: EINVAL }],
      ['cache', 512, MIB, { is: EINVAL }],
      ['block_status', 512, MIB, { is: EINVAL }],
      ['pread', 512, 2 ** 62, { is: EINVAL }],
    ],
  },
  {
    name: 'requests of zero length',
    wish: {},
    steps: [
      ['pread', 0, 0, { is: 0 }],
      ['pwrite', 0, 0, { is: 0 }],
      ['zero', 0, 512, { is: 0 }],
      ['trim', 0, 512, { is: 0 }],
      ['cache', 0, 512, { is: 0 }],
    ],
  },
  {
    name: 'flags that a command does not take',
    wish: {},
    steps: [
      ['pread', 512, 0, NO_HOLE, { is: EINVAL }],
      ['pread', 512, 0, DF, { is: 0 }],
      ['pwrite', 512, 0, DF, { is: EINVAL }],
      ['pwrite', 512, 0, REQ_ONE, { is: EINVAL }],
      ['trim', 512, 0, FAST_ZERO, { is: EINVAL }],
      ['flush', NO_HOLE, { is: EINVAL }],
      ['cache', 512, 0, REQ_ONE, { is: EINVAL }],
      ['block_status', 512, 0, DF, { is: EINVAL }],
      ['zero', 512, 0, 0x4000, { is: EINVAL }],
    ],
  },
  {
    name: 'FUA on every command',
    wish: {},
    steps: [
      ['pread', 512, 0, FUA, { is: 0 }],
      ['flush', FUA, { is: 0 }],
      ['cache', 512, 0, FUA, { is: 0 }],
      ['block_status', 512, 0, FUA, { is: 0 }],
      ['trim', 512, 512, FUA, { is: 0 }],
      ['zero', 512, 512, FUA | NO_HOLE | FAST_ZERO, { is: 0 }],
    ],
  },
  {
    name: 'a read-only export',
    wish: { features: { readOnly: true } },
    steps: [
      ['pwrite', 512, 0, { is: EPERM }],
      ['trim', 512, 0, { is: EPERM }],
      ['zero', 512, 0, { is: EPERM }],
      ['flush', { is: 0 }],
    ],
  },
  {
    name: 'commands and flags that were not offered',
    wish: { features: { flush: false, trim: false, zeroes: false, cache: false, fua: false, fastZero: false } },
    steps: [
      ['flush', { is: EINVAL }],
      ['trim', 512, 0, { is: EINVAL }],
      ['zero', 512, 0, { is: EINVAL }],
      ['cache', 512, 0, { is: EINVAL }],
      ['pwrite', 512, 512, FUA, { is: EINVAL }],
    ],
  },
  {
    name: 'FAST_ZERO where it was not offered',
    wish: { features: { fastZero: false } },
    steps: [
      ['zero', 512, 0, FAST_ZERO, { is: EINVAL }],
      ['zero', 512, 0, { is: 0 }],
    ],
  },
  {
    name: 'requests that are not aligned to the minimum block',
    wish: { block: { minimum: 512 } },
    steps: [
      ['pread', 100, 0, { is: EINVAL }],
      ['pread', 512, 100, { is: EINVAL }],
      ['pwrite', 100, 0, { is: EINVAL }],
      ['zero', 512, 1, { is: EINVAL }],
      ['trim', 1, 512, { is: EINVAL }],
      ['pwrite', 512, 512, { is: 0 }],
    ],
  },
  {
    name: 'payloads over the maximum',
    wish: { block: { maximumPayload: 65_536 } },
    steps: [
      ['pread', 65_537, 0, { is: EINVAL }],
      ['pwrite', 131_072, 512, { is: EINVAL }],
      ['pwrite', 65_536, 512, { is: 0 }],
      ['zero', MIB - 512, 512, { is: 0 }],
      ['trim', MIB - 512, 512, { is: 0 }],
    ],
  },
  {
    name: 'BLOCK_STATUS without a context',
    wish: { noContext: true },
    steps: [['block_status', 512, 0, { is: EINVAL }]],
  },
  {
    name: 'simple replies',
    wish: { simple: true, noContext: true },
    steps: [
      ['pread', 512, MIB, { is: EINVAL }],
      ['pread', 512, 0, DF, { is: EINVAL }],
      ['pread', 4096, 0, { is: 0 }],
      ['pwrite', 512, MIB, { is: ENOSPC }],
    ],
  },
];

if (havePeer('nbdsh')) {
  for (const { name, wish, steps } of scenarios) {
    test(`${name}: each request gets its error and the connection lives on`, async () => {
      const asked = steps.map((step) => step.slice(0, -1) as Step);
      const expected = steps.map((step) => (step.at(-1) as { is: number }).is);
      assert.deepEqual(await errnos(wish, asked), expected, JSON.stringify(asked));
    });
  }

  test('a device that cannot zero fast says ENOTSUP to FAST_ZERO', async () => {
    const device = new MemoryDevice(MIB);
    device.fail = (request) => (request.fast ? ENOTSUP : 0);
    assert.deepEqual(
      await errnos(
        {},
        [
          ['zero', 512, 0, FAST_ZERO],
          ['zero', 512, 0],
        ],
        device,
      ),
      [ENOTSUP, 0],
    );
  });
} else {
  skipped('nbd server: wrong requests by nbdsh', 'libnbd-bin python3-libnbd');
}

test.run();
