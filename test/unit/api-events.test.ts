// Events over HTTP: history, the live stream, resuming without a gap, and clients that do not keep up.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { request } from 'undici';
import { suite } from 'uvu';
import { EventStream } from '../../gateway/api/event-stream.js';
import { SystemClock } from '../../gateway/clock.js';
import type { ForestallEvent } from '../../gateway/control.js';
import { EventLog } from '../../gateway/events/event-log.js';
import { type RunningApi, silentLog, startFakeApi, VolatileRecords } from './api-fake-backend.js';

const test = suite<{ api: RunningApi }>('api/events');

test.before.each(async (context) => {
  context.api = await startFakeApi();
});

test.after.each(async ({ api }) => {
  await api.close();
});

function publish({ backend }: RunningApi, count: number, more: { volume?: string; details?: Record<string, unknown> } = {}): void {
  for (let i = 0; i < count; i++) {
    backend.events.publish({ type: 'test.event', level: 'info', message: `event ${i}`, ...more });
  }
}

class Stream {
  text = '';
  readonly #chunks: AsyncIterator<Uint8Array>;

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#chunks = body[Symbol.asyncIterator]();
  }

  /** Reads until `done` holds for the text so far, or the stream ends. */
  async until(done: (text: string) => boolean): Promise<string> {
    while (!done(this.text)) {
      const { value, done: ended } = await this.#chunks.next();
      if (ended) {
        break;
      }
      this.text += Buffer.from(value).toString('utf8');
    }
    return this.text;
  }

  ids(): number[] {
    return [...this.text.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]));
  }

  events(): ForestallEvent[] {
    return [...this.text.matchAll(/^data: (.*)$/gm)].map((match) => JSON.parse(match[1]));
  }
}

async function follow(api: RunningApi, path = '/v1/events', headers: Record<string, string> = {}) {
  const controller = new AbortController();
  const response = await request(api.url + path, { headers: { accept: 'text/event-stream', ...headers }, signal: controller.signal });
  response.body.on('error', () => {});
  return { status: response.statusCode, headers: response.headers, stream: new Stream(response.body), stop: () => controller.abort() };
}

test('the history is JSON, filtered and bounded', async ({ api }) => {
  publish(api, 150);
  publish(api, 1, { volume: 'vol0' });
  const get = async (query: string) =>
    (await (await request(`${api.url}/v1/events${query}`)).body.json()) as { events: ForestallEvent[]; oldest: number; latest: number };
  const all = await get('');
  assert.equal(all.events.length, 100);
  assert.deepEqual([all.oldest, all.latest, all.events.at(-1)!.id], [1, 151, 151]);
  assert.deepEqual(
    (await get('?since=3&limit=2')).events.map(({ id }) => id),
    [4, 5],
  );
  assert.deepEqual(
    (await get('?volume=vol0&type=test')).events.map(({ id }) => id),
    [151],
  );
});

test('a stream starts now, and carries each event with its id as it happens', async ({ api }) => {
  publish(api, 3);
  const { status, headers, stream, stop } = await follow(api);
  assert.equal(status, 200);
  assert.match(String(headers['content-type']), /^text\/event-stream/);
  await stream.until((text) => text.includes('following from event 3'));
  publish(api, 2);
  await stream.until((text) => text.includes('id: 5\n'));
  assert.deepEqual(stream.ids(), [4, 5]);
  assert.equal(stream.events()[0].message, 'event 0');
  stop();
});

test('Last-Event-ID resumes without a gap or a double, and goes before since', async ({ api }) => {
  publish(api, 20);
  for (const [path, headers] of [
    ['/v1/events', { 'last-event-id': '15' }],
    ['/v1/events?since=15', {}],
    ['/v1/events?since=2', { 'last-event-id': '15' }],
  ] as [string, Record<string, string>][]) {
    const latest = api.backend.events.latestId;
    const { stream, stop } = await follow(api, path, headers);
    publish(api, 1);
    await stream.until((text) => text.includes(`id: ${latest + 1}\n`));
    assert.deepEqual(
      stream.ids(),
      Array.from({ length: latest + 1 - 15 }, (_, i) => 16 + i),
    );
    stop();
  }
  const { status, stream } = await follow(api, '/v1/events', { 'last-event-id': 'x' });
  assert.equal(status, 400);
  assert.match(await stream.until(() => false), /Last-Event-ID/);
});

test('resuming before what is kept says how much is missing, and an id from the future starts now', async ({ api }) => {
  publish(api, 500);
  const old = await follow(api, '/v1/events?since=10');
  await old.stream.until((text) => text.includes('id: 500\n'));
  assert.match(old.stream.text, /: 290 events before 301 are no longer kept/);
  assert.equal(old.stream.ids()[0], 301);
  old.stop();
  const future = await follow(api, '/v1/events?since=9999');
  await future.stream.until((text) => text.includes('following from event 500'));
  future.stop();
});

test('a stream carries only what its filter asks for', async ({ api }) => {
  const { stream, stop } = await follow(api, '/v1/events?volume=vol0');
  await stream.until((text) => text.includes('following'));
  publish(api, 3);
  publish(api, 1, { volume: 'vol0' });
  await stream.until((text) => text.includes('id: 4\n'));
  assert.deepEqual(stream.ids(), [4]);
  stop();
});

test('a client that reads too slowly is dropped and told so, and holds nobody up', async ({ api }) => {
  const slow = connect(Number(new URL(api.url).port), '127.0.0.1');
  slow.write('GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n');
  await once(slow, 'readable');
  const quick = await follow(api);
  await quick.stream.until((text) => text.includes('following'));
  for (let round = 0; round < 30; round++) {
    publish(api, 100, { details: { padding: 'x'.repeat(8_000) } });
    await quick.stream.until((text) => text.includes(`id: ${(round + 1) * 100}\n`));
    quick.stream.text = '';
  }
  quick.stop();
  let end = '';
  for await (const chunk of slow) {
    end = (end + chunk.toString('utf8')).slice(-1_000);
    if (end.includes(': dropped')) {
      break;
    }
  }
  assert.match(end, /: dropped: this client is too slow and missed \d+ events/);
});

test('a client that takes nothing at all is cut off after the stall time', async () => {
  const log = new EventLog(new VolatileRecords(), new SystemClock(), silentLog);
  let closed = false;
  const stuck = Object.assign(new Writable({ highWaterMark: 100, write() {} }), { writeHead() {} });
  stuck.on('close', () => {
    closed = true;
  });
  const stream = new EventStream(stuck as unknown as ServerResponse, log.follow(null), {}, { heartbeatMs: 60_000, stallMs: 20 });
  const over = stream.run('hello');
  log.publish({ type: 'a', level: 'info', message: 'x'.repeat(200) });
  await over;
  assert.ok(stuck.destroyed);
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(closed);
  await log.close();
});

test('a quiet stream carries heartbeats', async ({ api: other }) => {
  await other.close();
  const api = await startFakeApi({ heartbeatMs: 10, stallMs: 1_000 });
  const { stream, stop } = await follow(api);
  await stream.until((text) => text.split(': heartbeat').length > 3);
  stop();
  await api.close();
});

test('closing the gateway ends the streams', async ({ api }) => {
  const { stream } = await follow(api);
  await stream.until((text) => text.includes('following'));
  publish(api, 1);
  const rest = stream.until(() => false);
  await api.backend.events.close();
  assert.match(await rest, /id: 1\n/);
});

test.run();
