// Asks again and again until the answer is right: for what only an outside look can tell. Always with a deadline, and
// what it says in the end is the last answer.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 50;

/** The first answer that `right` accepts. An `ask` that rejects is asked again. */
export async function eventually<T>(what: string, ask: () => Promise<T>, right: (answer: T) => boolean, timeoutMs = 60_000): Promise<T> {
  const deadlineMs = Date.now() + timeoutMs;
  for (;;) {
    let last: unknown;
    try {
      const answer = await ask();
      if (right(answer)) return answer;
      last = answer;
    } catch (error) {
      last = (error as Error).message;
    }
    assert(Date.now() < deadlineMs, `${what}: not within ${timeoutMs} ms; the last answer was ${JSON.stringify(last)}`);
    await delay(EVERY_MS);
  }
}
