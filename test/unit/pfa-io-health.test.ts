// Who is slow, who fails requests, and when it is the whole cluster: scenarios over minutes of made-up intervals, with the noise of real ones.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { poissonTailLog10 } from '../../pfa/event-rates.js';
import { EMPTY_IO, type IoAggregate } from '../../pfa/io-aggregate.js';
import { IoHealth } from '../../pfa/io-health.js';

const test = suite('pfa io health');
const MINUTE_MS = 60_000;

/** What a node does at a time: latency in us, and whatever else differs from 500 reads of 4 KiB a second without a fault. */
type Behaviour = (atMs: number) => Partial<Omit<IoAggregate, 'p50Us'>> & { us: number };

class Fleet {
  readonly io = new IoHealth();
  nowMs = 1_000_000_000;
  #state = 1;

  /** Runs nodes for a while, one interval every `everyMs`. */
  run(forMs: number, nodes: Record<string, Behaviour>, everyMs = 5000): void {
    const untilMs = this.nowMs + forMs;
    while (this.nowMs < untilMs) {
      this.nowMs += everyMs;
      for (const [node, behaviour] of Object.entries(nodes)) {
        const { us, ...more } = behaviour(this.nowMs);
        const p50Us = us * Math.exp(0.3 * this.#gauss());
        const reads = (500 * everyMs) / 1000;
        this.io.observe(node, { ...EMPTY_IO, atMs: this.nowMs, reads, p50Us, p99Us: 5 * p50Us, bytes: reads * 4096, ...more });
      }
    }
  }

  probability(node: string): number | null {
    return this.io.assess(node, this.nowMs).probability;
  }

  texts(node: string): string {
    return this.io
      .assess(node, this.nowMs)
      .contributions.map(({ text }) => text)
      .join('; ');
  }

  #gauss(): number {
    let sum = 0;
    for (let i = 0; i < 12; i++) {
      this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
      sum += this.#state / 2 ** 32;
    }
    return sum - 6;
  }
}

const steady =
  (us: number): Behaviour =>
  () => ({ us });
const five = (us: number) => ({ a: steady(us), b: steady(us), c: steady(us), d: steady(us), e: steady(us) });
/** A host that keeps the same number of requests in flight gets fewer done on a slower node. */
const closedLoop =
  (us: number, usual: number): Behaviour =>
  () => ({ us, reads: (2500 * usual) / us, bytes: ((2500 * usual) / us) * 4096 });

test('a node that gets five times slower than its peers is found within two minutes, and only it', () => {
  const fleet = new Fleet();
  fleet.run(10 * MINUTE_MS, five(4000));
  assert.ok(fleet.probability('c')! < 0.01);
  fleet.run(2 * MINUTE_MS, { ...five(4000), c: steady(20_000) });
  assert.ok(fleet.probability('c')! > 0.55, `${fleet.probability('c')}`);
  assert.match(fleet.texts('c'), /latency of .* ms is .* times the median of its 4 peers \(.* ms\) for .* (seconds|minutes?)/);
  for (const other of ['a', 'b', 'd', 'e']) assert.ok(fleet.probability(other)! < 0.01, other);
});

test('when the whole cluster gets slower nobody is blamed, and it is called what it is', () => {
  for (const nodes of [five(4000), { a: steady(4000), b: steady(4000) }]) {
    const fleet = new Fleet();
    fleet.run(10 * MINUTE_MS, nodes);
    assert.equal(fleet.io.clusterEvent(fleet.nowMs), null);
    const slower = Object.fromEntries(Object.keys(nodes).map((node) => [node, closedLoop(24_000, 4000)]));
    fleet.run(3 * MINUTE_MS, slower);
    for (const node of Object.keys(nodes))
      assert.ok(fleet.probability(node)! < 0.1, `${node} of ${Object.keys(nodes).length}: ${fleet.probability(node)}`);
    const event = fleet.io.clusterEvent(fleet.nowMs);
    assert.ok(event && event.members === Object.keys(nodes).length && event.factor > 3 && event.sinceMs <= fleet.nowMs - 2 * MINUTE_MS);
    fleet.run(MINUTE_MS, nodes);
    assert.equal(fleet.io.clusterEvent(fleet.nowMs), null);
  }
});

test('a node alone is compared with its own past, and recovers', () => {
  const fleet = new Fleet();
  fleet.run(10 * MINUTE_MS, { a: steady(4000) });
  fleet.run(2 * MINUTE_MS, { a: closedLoop(40_000, 4000) });
  assert.ok(fleet.probability('a')! > 0.55, `${fleet.probability('a')}`);
  assert.match(fleet.texts('a'), /times usual here/);
  fleet.run(10 * MINUTE_MS, { a: steady(4000) });
  assert.ok(fleet.probability('a')! < 0.01, `${fleet.probability('a')}`);
});

test('a node that creeps up to ten times its latency over two hours is found', () => {
  const fleet = new Fleet();
  fleet.run(10 * MINUTE_MS, { a: steady(4000) });
  const startMs = fleet.nowMs;
  const creeping: Behaviour = (atMs) => closedLoop(4000 * 10 ** ((atMs - startMs) / (120 * MINUTE_MS)), 4000)(atMs);
  fleet.run(120 * MINUTE_MS, { a: creeping });
  assert.ok(fleet.probability('a')! > 0.55, `${fleet.probability('a')}`);
});

test('load and request size explain latency: deeper queues, larger blocks and more bytes are no fault', () => {
  const loads: Behaviour[] = [
    () => ({ us: 16_000, reads: 10_000, bytes: 10_000 * 4096 }),
    () => ({ us: 24_000, reads: 2500, bytes: 2500 * 65_536 }),
    () => ({ us: 20_000, reads: 2500, bytes: 2500 * 4096 * 12 }),
  ];
  for (const [index, load] of loads.entries()) {
    const fleet = new Fleet();
    fleet.run(10 * MINUTE_MS, { a: steady(4000) });
    fleet.run(5 * MINUTE_MS, { a: load });
    assert.ok(fleet.probability('a')! < 0.5, `load ${index}: ${fleet.probability('a')}`);
  }
});

test('what is fast is never slow, and one bad minute is no alarm', () => {
  const fleet = new Fleet();
  fleet.run(10 * MINUTE_MS, five(100));
  fleet.run(5 * MINUTE_MS, { ...five(100), c: steady(1500) });
  assert.ok(fleet.probability('c')! < 0.01, 'fifteen times slower, yet 1.5 ms');
  fleet.run(10 * MINUTE_MS, five(4000));
  fleet.run(10_000, { ...five(4000), d: steady(400_000) });
  assert.ok(fleet.probability('d')! < 0.55);
});

test('four hours of noise raise no alarm on any of five unlike nodes', () => {
  const fleet = new Fleet();
  const nodes = { a: steady(3000), b: steady(4000), c: steady(5000), d: steady(12_000), e: steady(2500) };
  fleet.run(10 * MINUTE_MS, nodes);
  let worst = 0;
  for (let i = 0; i < 48; i++) {
    fleet.run(5 * MINUTE_MS, nodes);
    for (const node of Object.keys(nodes)) worst = Math.max(worst, fleet.probability(node)!);
  }
  assert.ok(worst < 0.1, `${worst}`);
});

test('the length of the interval does not matter', () => {
  for (const everyMs of [1000, 5000, 15_000]) {
    const fleet = new Fleet();
    fleet.run(15 * MINUTE_MS, { a: steady(4000) }, everyMs);
    fleet.run(90_000, { a: closedLoop(40_000, 4000) }, everyMs);
    assert.ok(fleet.probability('a')! > 0.55, `every ${everyMs} ms: ${fleet.probability('a')}`);
  }
});

test('failed requests and requests without an answer are found; reconnects alone are not enough', () => {
  const cases: [Partial<IoAggregate>, (p: number) => boolean, RegExp][] = [
    [{ errors: 5 }, (p) => p > 0.8, /60 errors of .* requests in 5 minutes, where .* would be usual/],
    [{ timeouts: 2 }, (p) => p > 0.7, /24 timeouts of/],
    [{ reconnects: 1 }, (p) => p > 0.1 && p < 0.5, /12 reconnects in 5 minutes/],
  ];
  for (const [fault, expected, text] of cases) {
    const fleet = new Fleet();
    fleet.run(10 * MINUTE_MS, { a: steady(300), b: steady(300) });
    assert.ok(fleet.probability('a')! < 0.01);
    fleet.run(MINUTE_MS, { a: () => ({ us: 300, ...fault }), b: steady(300) });
    assert.ok(expected(fleet.probability('a')!), `${JSON.stringify(fault)}: ${fleet.probability('a')}`);
    assert.match(fleet.texts('a'), text);
    assert.ok(fleet.probability('b')! < 0.01);
    fleet.run(6 * MINUTE_MS, { a: steady(300), b: steady(300) });
    assert.ok(fleet.probability('a')! < 0.01, 'the window has passed');
  }
});

test('one node restarted once, with four connections, is no alarm; nor are errors that all nodes have', () => {
  const fleet = new Fleet();
  fleet.run(10 * MINUTE_MS, five(300));
  fleet.run(5000, { ...five(300), a: () => ({ us: 300, reconnects: 4 }) });
  assert.ok(fleet.probability('a')! < 0.3, `${fleet.probability('a')}`);
  const failing: Behaviour = () => ({ us: 300, errors: 5 });
  fleet.run(5 * MINUTE_MS, { a: failing, b: failing, c: failing, d: failing, e: failing });
  for (const node of ['a', 'b', 'c', 'd', 'e']) assert.ok(fleet.probability(node)! < 0.3, node);
});

test('a node without I/O has no signal, before its first and a while after its last', () => {
  const fleet = new Fleet();
  assert.equal(fleet.io.assess('a', fleet.nowMs).noSignal, true);
  fleet.run(5 * MINUTE_MS, { a: () => ({ us: 0, reads: 0, bytes: 0 }) });
  assert.equal(fleet.io.assess('a', fleet.nowMs).noSignal, true, 'intervals without a request say nothing');
  fleet.run(MINUTE_MS, { a: steady(300) });
  assert.equal(fleet.io.assess('a', fleet.nowMs).noSignal, false);
  assert.equal(fleet.io.assess('a', fleet.nowMs + 16 * MINUTE_MS).noSignal, true);
});

test('baselines survive a restart; a damaged state is refused', () => {
  const fleet = new Fleet();
  fleet.run(10 * MINUTE_MS, { a: steady(4000) });
  const state = JSON.parse(JSON.stringify(fleet.io.toState()));
  const other = new Fleet();
  other.nowMs = fleet.nowMs;
  assert.equal(other.io.restore(state), true);
  other.run(2 * MINUTE_MS, { a: closedLoop(40_000, 4000) });
  assert.ok(other.probability('a')! > 0.55, 'it needs no new warm-up');
  state.latency[0][1].usual = null;
  assert.equal(new IoHealth().restore(state), false);
  for (const damage of [null, 5, {}, { latency: [], seen: [['a', null]] }, { latency: [[1, {}]], seen: [] }])
    assert.equal(new IoHealth().restore(damage), false);
});

test('the tail of the Poisson distribution is what summing it gives', () => {
  for (const [count, mean] of [
    [3, 0.2],
    [1, 0.5],
    [30, 10],
    [140, 100],
  ]) {
    let term = Math.exp(-mean);
    let below = 0;
    for (let k = 0; k < count; k++) {
      below += term;
      term *= mean / (k + 1);
    }
    assert.ok(Math.abs(poissonTailLog10(count, mean) - Math.log10(1 - below)) < 1e-3, `${count} of ${mean}`);
  }
  assert.equal(poissonTailLog10(3, 5), 0);
  assert.ok(poissonTailLog10(100_000, 1) < -400_000);
});

test.run();
