// The benchmark's command line: what it accepts, what it refuses and how it says so.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { type BenchOptions, parseOptions } from '../../native-free-bench/options.js';

const test = suite('bench options');

function accepted(...args: string[]): BenchOptions {
  const parsed = parseOptions(args);
  assert.ok(parsed !== 'help' && 'options' in parsed, JSON.stringify(parsed));
  return parsed.options;
}

test('without arguments every path and workload is measured in five rounds of a second', () => {
  const { rounds, measureMs, paths, workloads, peersRequired, jsonFile } = accepted();
  assert.deepEqual([rounds, measureMs, peersRequired, jsonFile], [5, 1000, false, null]);
  assert.deepEqual(paths, ['direct', 'relay', 'socat', 'gateway', 'nbdkit', 'qemu']);
  assert.equal(workloads.length, 8);
});

test('--quick is shorter and may be overruled', () => {
  assert.deepEqual([accepted('--quick').rounds, accepted('--quick').measureMs], [3, 300]);
  assert.deepEqual([accepted('--quick', '--rounds', '9', '--seconds', '0.5').rounds, accepted('--seconds', '0.5').measureMs], [9, 500]);
});

test('--only and --workload choose, in the order of the table', () => {
  assert.deepEqual(accepted('--only', 'gateway, direct').paths, ['direct', 'gateway']);
  assert.deepEqual(
    accepted('--workload', 'randread-4k-d1').workloads.map(({ id }) => id),
    ['randread-4k-d1'],
  );
});

test('peers, --node and --json are taken over', () => {
  const { peersRequired, node, jsonFile } = accepted('peers', '--node', 'own', '--json', 'x.json');
  assert.deepEqual([peersRequired, node, jsonFile], [true, 'own', 'x.json']);
});

test('what is wrong is named together with what would be right', () => {
  const refused: [string[], RegExp][] = [
    [['--rounds', '0'], /--rounds 0: must be a whole number from 1 to/],
    [['--rounds', '1.5'], /--rounds 1.5/],
    [['--rounds', 'x'], /--rounds x/],
    [['--seconds', '0'], /--seconds 0: must be a number from 0.05 to 600/],
    [['--seconds', 'NaN'], /--seconds NaN/],
    [['--only', 'direct,ceph'], /--only: "ceph" is none of direct, relay/],
    [['--only', ''], /--only: "" is none of/],
    [['--workload', '4k'], /--workload: "4k" is none of randread-4k-d32/],
    [['--node', 'ceph'], /--node ceph: must be one of own, nbdkit/],
    [['micro'], /unknown word micro/],
    [['--fast'], /--fast/],
  ];
  for (const [args, expected] of refused) {
    const parsed = parseOptions(args);
    assert.ok(parsed !== 'help' && 'wrong' in parsed, args.join(' '));
    assert.match(parsed.wrong, expected);
  }
});

test('--help wins over what else is said', () => {
  assert.equal(parseOptions(['--help', '--rounds', '0']), 'help');
});

test.run();
