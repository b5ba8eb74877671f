// The event log: ids without gaps across restarts, nothing visible before it is durable, and no event lost to a
// follower without being told, also when the records fail or hang.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import type { NewEvent } from '../../gateway/control.js';
import { EventLog } from '../../gateway/events/event-log.js';
import type { Change, Clock, Log, Records, RecordValue, Timer } from '../../replication/world.js';

const test = suite('events/event-log');

class StepClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; run: () => void }[] = [];
  nowMs = () => this.#nowMs;
  wallMs = () => 1_700_000_000_000 + this.#nowMs;

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, run };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  async step(ms: number): Promise<void> {
    this.#nowMs += ms;
    const due = this.#timers.filter((timer) => timer.atMs <= this.#nowMs);
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.#nowMs);
    for (const timer of due) {
      timer.run();
    }
    await settle();
  }
}

class MemoryRecords implements Records {
  readonly map = new Map<string, RecordValue>();
  /** What commits do: pass, fail, or hang until it passes again. */
  mode: 'pass' | 'fail' | 'hang' = 'pass';
  commits = 0;
  #resume: (() => void)[] = [];

  get = (key: string) => this.map.get(key);
  list = (prefix: string) => [...this.map].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));

  async commit(changes: Change[]): Promise<void> {
    this.commits++;
    if (this.mode === 'fail') {
      throw new Error('disk full');
    }
    if (this.mode === 'hang') {
      await new Promise<void>((resolve) => this.#resume.push(resolve));
    }
    for (const change of changes) {
      if ('put' in change) {
        this.map.set(change.put, structuredClone(change.value));
      } else {
        this.map.delete(change.remove);
      }
    }
  }

  recover(): void {
    this.mode = 'pass';
    for (const resume of this.#resume.splice(0)) {
      resume();
    }
  }
}

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** Lets everything run that waits for nothing but other promises. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

function event(type: string, more: Partial<NewEvent> = {}): NewEvent {
  return { type, level: 'info', message: type, ...more };
}

function world(historyMax?: number) {
  const clock = new StepClock();
  const records = new MemoryRecords();
  return { clock, records, log: new EventLog(records, clock, silent, historyMax) };
}

test('an event is visible only when it is durable, and a burst is one commit', async () => {
  const { clock, records, log } = world();
  records.mode = 'hang';
  const follower = log.follow(null);
  for (let i = 0; i < 20; i++) {
    log.publish(event(`a.${i}`));
  }
  let seen: number[] | null = null;
  void follower.next().then((next) => {
    seen = next!.events.map(({ id }) => id);
  });
  await clock.step(5);
  assert.equal(seen, null);
  records.recover();
  await settle();
  assert.deepEqual(
    seen,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  assert.equal(records.commits, 1);
  assert.equal(records.list('event/').length, 20);
});

test('ids go on after a restart', async () => {
  const { clock, records, log } = world();
  log.publish(event('a'));
  log.publish(event('b'));
  await clock.step(5);
  const again = new EventLog(records, clock, silent);
  again.publish(event('c'));
  await clock.step(5);
  const { events, oldest, latest } = await again.history();
  assert.deepEqual(
    events.map(({ id, type }) => `${id} ${type}`),
    ['1 a', '2 b', '3 c'],
  );
  assert.deepEqual([oldest, latest], [1, 3]);
});

test('the history asked for right after an event holds it', async () => {
  const { clock, log } = world();
  log.publish(event('a'));
  const history = log.history();
  await clock.step(5);
  assert.equal((await history).events.length, 1);
});

test('the history is bounded in memory and in the records, also when the bound shrinks', async () => {
  const { clock, records, log } = world(10);
  for (let i = 0; i < 57; i++) {
    log.publish(event('a'));
    await clock.step(5);
  }
  const ids = records.list('event/').map(([, value]) => (value as { id: number }).id);
  assert.deepEqual(ids, [48, 49, 50, 51, 52, 53, 54, 55, 56, 57]);
  assert.equal((await log.history({ limit: 1000 })).events.length, 10);
  const smaller = new EventLog(records, clock, silent, 3);
  smaller.publish(event('a'));
  await clock.step(5);
  assert.deepEqual(
    (await smaller.history({ limit: 1000 })).events.map(({ id }) => id),
    [56, 57, 58],
  );
  assert.equal(records.list('event/').length, 3);
});

test('queries select by id, type, volume and node', async () => {
  const { clock, log } = world();
  log.publish(event('volume.flipped', { volume: 'v', node: 'a' }));
  log.publish(event('volume.scrubbed', { volume: 'w' }));
  log.publish(event('volumes'));
  log.publish(event('node.verdict', { node: 'a' }));
  await clock.step(5);
  const ids = async (query: object) => (await log.history(query)).events.map(({ id }) => id);
  assert.deepEqual(await ids({ type: 'volume' }), [1, 2]);
  assert.deepEqual(await ids({ type: 'volume.flipped' }), [1]);
  assert.deepEqual(await ids({ node: 'a' }), [1, 4]);
  assert.deepEqual(await ids({ volume: 'w' }), [2]);
  assert.deepEqual(await ids({ limit: 2 }), [3, 4], 'the newest');
  assert.deepEqual(await ids({ since: 1, limit: 2 }), [2, 3], 'the next');
  assert.deepEqual(await ids({ since: 9 }), []);
});

test('when the records fail, events are told at once and written when they work again', async () => {
  const { clock, records, log } = world();
  records.mode = 'fail';
  log.publish(event('a'));
  await clock.step(5);
  log.publish(event('b'));
  assert.deepEqual(
    (await log.history()).events.map(({ type }) => type),
    ['a', 'b'],
  );
  assert.equal(records.list('event/').length, 0);
  records.mode = 'pass';
  await clock.step(5_000);
  assert.equal(records.list('event/').length, 2);
  log.publish(event('c'));
  const history = log.history();
  await clock.step(5);
  assert.equal((await history).events.length, 3);
});

test('a write that hangs holds back the telling for its deadline only, and closing too', async () => {
  const { clock, records, log } = world();
  records.mode = 'hang';
  log.publish(event('a'));
  await clock.step(5);
  const history = log.history();
  await clock.step(2_000);
  assert.equal((await history).events.length, 1);
  const closing = log.close();
  await clock.step(2_000);
  await closing;
  records.recover();
});

test('what waits to be written is bounded while the records fail', async () => {
  const { clock, records, log } = world(10);
  records.mode = 'fail';
  for (let i = 0; i < 100; i++) {
    log.publish(event('a'));
    await clock.step(5);
  }
  assert.deepEqual(log.counters(), { info: 100, warning: 0, alert: 0, unwritten: 10 });
  records.mode = 'pass';
  await clock.step(5_000);
  assert.equal(records.list('event/').length, 10);
  assert.equal(log.counters().unwritten, 0);
});

test('a follower that resumes gets every event after its id, in order, then the live ones', async () => {
  const { clock, log } = world();
  for (let i = 0; i < 600; i++) {
    log.publish(event('a'));
  }
  await clock.step(5);
  const follower = log.follow(42);
  const seen: number[] = [];
  while (seen.length < 558) {
    const next = await follower.next();
    assert.equal(next!.missed, 0);
    seen.push(...next!.events.map(({ id }) => id));
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 558 }, (_, i) => i + 43),
  );
  log.publish(event('live'));
  const next = follower.next();
  await clock.step(5);
  assert.deepEqual(
    (await next)!.events.map(({ type }) => type),
    ['live'],
  );
});

test('a follower is told how many events are no longer kept', async () => {
  const { clock, log } = world(10);
  for (let i = 0; i < 30; i++) {
    log.publish(event('a'));
  }
  await clock.step(5);
  const next = await log.follow(5).next();
  assert.equal(next!.missed, 15);
  assert.equal(next!.events[0].id, 21);
});

test('a follower ends when it or the log is closed, and an id from the future follows from now', async () => {
  const { clock, log } = world();
  const first = log.follow(99);
  const second = log.follow(null);
  const pending = first.next();
  first.close();
  assert.equal(await pending, null);
  log.publish(event('a'));
  await log.close();
  assert.equal((await second.next())!.events.length, 1, 'what was published before closing is told');
  assert.equal(await second.next(), null);
  await clock.step(5);
});

test('details are a bounded copy', async () => {
  const { clock, log } = world();
  const details = { list: [1] };
  log.publish(event('a', { details }));
  details.list.push(2);
  log.publish(event('b', { details: { text: 'x'.repeat(100_000) }, message: 'm'.repeat(100_000) }));
  await clock.step(5);
  const { events } = await log.history();
  assert.deepEqual(events[0].details, { list: [1] });
  assert.equal(events[1].details.truncated, true);
  assert.ok(events[1].message.length <= 2_000);
});

test.run();
