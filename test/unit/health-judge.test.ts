// When a verdict is told, kept, held and withdrawn.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { NewEvent } from '../../gateway/control.js';
import { Judge } from '../../gateway/health/judge.js';
import type { Assessment, Oracle, OutsideVerdict } from '../../gateway/health/oracle.js';
import { QuietLog } from '../support/quiet-log.js';
import { MemoryRecords, SettlingClock, settle } from './protection-fakes.js';

const test = suite('health: judge');

/** A predictor that says what the test wants, and takes the larger of its own and the outside probability. */
class FakeOracle implements Oracle {
  model = new Map<string, number | null>();
  outside = new Map<string, OutsideVerdict>();
  told: string[] = [];
  /** Nodes whose alarm it holds without a signal. */
  holds = new Set<string>();
  /** From this probability on a node fires for the policy `wary`. */
  waryFrom = 0.5;

  observe(): void {}
  observeIo(): void {}

  outsideVerdict(node: string, given: OutsideVerdict): void {
    this.outside.set(node, given);
  }

  failed(node: string): void {
    this.told.push(`failed ${node}`);
  }

  falseAlarm(node: string): void {
    this.told.push(`false-alarm ${node}`);
    this.outside.delete(node);
  }

  assess(node: string): Assessment {
    const model = this.model.get(node) ?? null;
    const outside = this.outside.get(node);
    const isOutside = outside !== undefined && outside.probability >= (model ?? 0);
    const probability = isOutside ? outside.probability : model;
    const reasons =
      probability === null ? [] : [{ source: 'test', contribution: 1, text: isOutside ? outside.reason : 'pending sectors rose' }];
    const by = (threshold: number) => ({
      probability,
      threshold,
      firing: (probability ?? 0) >= threshold || (probability === null && this.holds.has(node)),
      horizonSeconds: 2_592_000,
    });
    return {
      ...by(0.5),
      policies: { default: by(0.5), wary: by(this.waryFrom) },
      reasons,
      origin: isOutside ? 'outside' : 'model',
      predictedFailureAtMs: null,
    };
  }
}

class Court {
  clock = new SettlingClock();
  records = new MemoryRecords();
  oracle = new FakeOracle();
  events: NewEvent[] = [];
  judged: string[] = [];
  judge!: Judge;

  constructor() {
    this.open();
  }

  open(): void {
    this.judge = new Judge({
      clock: this.clock,
      log: new QuietLog(),
      records: this.records,
      events: { publish: (event) => this.events.push(event) },
      oracle: this.oracle,
      nodes: () => ['a', 'b'],
      residents: (node) => (node === 'a' ? [{ volume: 'vol0', role: 'active', labels: { program: 'db' }, clients: ['10.0.0.1:5'] }] : []),
      judged: ({ node, firing, probability, origin }, sinceMs) => {
        this.judged.push(`${node} ${firing ? 'fires' : 'quiet'} ${probability} ${origin} since ${sinceMs - this.startMs}`);
      },
    });
  }

  readonly startMs = this.clock.wallMs();

  async reopen(): Promise<void> {
    await this.judge.stop();
    this.oracle = new FakeOracle();
    this.judged = [];
    this.events = [];
    this.open();
  }

  published(): string[] {
    return this.events.map(({ level, message }) => `${level}: ${message}`);
  }
}

test('nodes are judged regularly, and a verdict is told when it begins to fire, moves far, and is cleared', async () => {
  const court = new Court();
  court.oracle.model.set('a', 0.02);
  court.judge.start();
  court.oracle.model.set('a', 0.08);
  await court.clock.advance(10_000);
  court.oracle.model.set('a', 0.6);
  await court.clock.advance(10_000);
  court.oracle.model.set('a', 0.65);
  await court.clock.advance(10_000);
  court.oracle.model.set('a', 0.8);
  await court.clock.advance(10_000);
  court.oracle.model.set('a', 0.05);
  await court.clock.advance(10_000);
  await court.judge.stop();
  assert.deepEqual(court.published(), [
    'info: a fails within 30d with 2 %, below the threshold of 50 %: pending sectors rose.',
    'warning: a is predicted to fail within 30d with 60 % (threshold 50 %): pending sectors rose.',
    'warning: a is predicted to fail within 30d with 80 % (threshold 50 %): pending sectors rose.',
    'info: a is not predicted to fail any more: 5 % (threshold 50 %).',
  ]);
  assert(court.judged.includes('a fires 0.65 model since 20000'), 'protection hears every judgement, with the time since it stands');
  assert(court.judged.includes('a fires 0.8 model since 20000'));
  const { clients, details } = court.events[1];
  assert.deepEqual(clients, ['10.0.0.1:5']);
  assert.deepEqual((details?.volumes as { labels: unknown }[])[0].labels, { program: 'db' });
});

test('that a verdict begins to fire for one more policy is news, and is told with the policies for which it does', async () => {
  const court = new Court();
  court.oracle.waryFrom = 0.62;
  court.oracle.model.set('a', 0.6);
  court.judge.start();
  court.oracle.model.set('a', 0.63);
  await court.clock.advance(10_000);
  await court.judge.stop();
  assert.deepEqual(
    court.events.map(({ details }) => details?.policies),
    [['default'], ['default', 'wary']],
  );
  assert.equal(court.judge.latest('a')?.policies.wary.threshold, 0.62);
});

test('new samples are judged at once, but once', async () => {
  const court = new Court();
  court.judge.start();
  court.judged = [];
  court.oracle.model.set('a', 0.9);
  court.judge.fresh('a');
  court.judge.fresh('a');
  await settle();
  assert.deepEqual(court.judged, ['a fires 0.9 model since 0']);
  await court.judge.stop();
});

test('no signal is told as such; an alarm the predictor holds goes on', async () => {
  const court = new Court();
  court.oracle.model.set('a', 0.9);
  court.judge.start();
  assert.equal(court.judge.latest('b')?.probability, null, 'b has no signal');
  assert.equal(court.judge.latest('b')?.firing, false);
  court.oracle.model.set('a', null);
  court.oracle.holds.add('a');
  await court.clock.advance(30_000);
  assert.equal(court.published().at(-1), "warning: There is no signal of a's health: its alarm holds all the same.");
  assert.equal(court.events.length, 2);
  assert.equal(court.judged.at(-2), 'a fires null model since 0');
  court.oracle.holds.clear();
  await court.clock.advance(10_000);
  assert.equal(court.published().at(-1), "info: There is no signal of a's health: that is no good sign, and no bad one.");
  await court.judge.stop();
});

test('an alarm of an earlier process goes on until its node has a signal again, but not for ever', async () => {
  const court = new Court();
  court.oracle.model.set('a', 0.9);
  court.judge.start();
  await court.reopen();
  court.judge.start();
  await court.clock.advance(60_000);
  assert.equal(court.judged.at(-2), 'a fires 0.9 model since 0');
  assert.deepEqual(court.events, [], 'that is no news');
  court.oracle.model.set('a', 0.1);
  await court.clock.advance(10_000);
  assert.equal(court.judge.latest('a')?.firing, false);
  court.oracle.model.set('a', 0.9);
  await court.clock.advance(10_000);
  await court.reopen();
  court.judge.start();
  await court.clock.advance(25 * 3_600_000);
  assert.equal(court.judge.latest('a')?.firing, false);
  await court.judge.stop();
});

test('an outside verdict is in force at once, durable when it is answered, and holds across a restart', async () => {
  const court = new Court();
  court.judge.start();
  await court.clock.advance(5000);
  const given = await court.judge.giveVerdict('a', { probability: 0.99, reason: 'the vendor recalls it' });
  assert(given.ok && given.value.firing && given.value.origin === 'outside');
  assert(court.records.map.has('verdict/a'));
  await court.clock.advance(60_000);
  await court.reopen();
  court.judge.start();
  assert.equal(court.judged[0], 'a fires 0.99 outside since 5000', 'since it was given, not since the restart');
  assert.deepEqual(court.events, [], 'a restart is no news');
  await court.clock.advance(10_000);
  assert.equal(court.judged.at(-2), 'a fires 0.99 outside since 5000');
  await court.judge.stop();
});

test('every outside verdict is told, even the same again', async () => {
  const court = new Court();
  court.judge.start();
  court.events = [];
  const ids = new Set<string>();
  for (let turn = 0; turn < 3; turn++) {
    const given = await court.judge.giveVerdict('a', { probability: 0.99, reason: 'still' });
    assert(given.ok);
    ids.add(given.value.id);
  }
  assert.equal(court.events.length, 3);
  assert.equal(ids.size, 3);
  await court.judge.stop();
});

test('an outside verdict that cannot be stored is acted on, and the answer says that', async () => {
  const court = new Court();
  court.judge.start();
  court.records.failing = 'no space left on device';
  const given = await court.judge.giveVerdict('a', { probability: 0.99, reason: 'x' });
  assert(!given.ok && given.code === 'store-unwritable');
  assert(court.judge.latest('a')?.firing);
  await court.judge.stop();
});

test('a false alarm teaches the predictor and withdraws the outside verdict, also after a restart', async () => {
  const court = new Court();
  court.judge.start();
  await court.judge.giveVerdict('a', { probability: 0.99, reason: 'x' });
  court.judge.falseAlarm('a', 'watched for 24 h');
  assert.deepEqual(court.oracle.told, ['false-alarm a']);
  assert.equal(court.judge.latest('a')?.firing, false);
  await court.reopen();
  court.oracle.model.set('a', 0.02);
  court.judge.start();
  await court.clock.advance(10_000);
  assert.equal(court.judge.latest('a')?.firing, false);
  court.oracle.model.set('a', 0.7);
  await court.clock.advance(10_000);
  assert.equal(court.judge.latest('a')?.firing, true, 'a withdrawn verdict hides nothing');
  await court.judge.stop();
});

test('a failure is passed on to the predictor', async () => {
  const court = new Court();
  court.judge.start();
  court.judge.failed('a');
  assert.deepEqual(court.oracle.told, ['failed a']);
  await court.judge.stop();
});

test('the history is bounded, in memory and in the records', async () => {
  const court = new Court();
  court.judge.start();
  for (let turn = 0; turn < 1010; turn++) court.judge.giveVerdict('a', { probability: 0.9, reason: `${turn}` });
  await court.judge.stop();
  assert.equal(court.judge.history().length, 1000);
  assert.equal([...court.records.list('verdicts/')].length, 1000);
  await court.reopen();
  assert.equal(court.judge.history().length, 1000);
  assert.equal(court.judge.history().at(-1)?.reasons[0].text, '1009');
  const given = await court.judge.giveVerdict('a', { probability: 0.9, reason: 'next' });
  assert(given.ok && given.value.id === 'v1010');
  await court.judge.stop();
});

test('a node that left the configuration is not handed to protection', async () => {
  const court = new Court();
  await court.judge.giveVerdict('gone', { probability: 0.9, reason: 'x' });
  await court.reopen();
  court.judge.start();
  assert(!court.judged.some((line) => line.startsWith('gone')));
  await court.judge.stop();
});

test.run();
