// The real clock.
import assert from 'node:assert/strict';
import { suite } from 'uvu';
import { SystemClock } from '../../gateway/clock.js';

const test = suite('system clock');

test('time goes on, in milliseconds, and a timer waits as long as it says', async () => {
  const clock = new SystemClock();
  const before = clock.nowMs();
  await new Promise<void>((resolve) => clock.after(20, resolve));
  assert(clock.nowMs() - before >= 19);
  assert(Math.abs(clock.wallMs() - Date.now()) < 1000);
});

test('a cancelled timer does not fire', async () => {
  const clock = new SystemClock();
  let fired = false;
  const timer = clock.after(1, () => {
    fired = true;
  });
  timer.cancel();
  await new Promise<void>((resolve) => clock.after(20, resolve));
  assert.equal(fired, false);
});

test('a delay longer than setTimeout takes does not fire at once, and can be cancelled', async () => {
  const clock = new SystemClock();
  let fired = false;
  const timer = clock.after(40 * 24 * 3600 * 1000, () => {
    fired = true;
  });
  await new Promise<void>((resolve) => clock.after(20, resolve));
  assert.equal(fired, false);
  timer.cancel();
});

test.run();
