// Sources of samples against a real HTTP server that answers well, late, endlessly, brokenly or not at all; and when
// people are told.
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { suite } from 'uvu';
import { type NewEvent, type Outcome, refuse } from '../../gateway/control.js';
import { AgentSource } from '../../gateway/health/agent-source.js';
import { Collectors } from '../../gateway/health/collectors.js';
import { HttpSource } from '../../gateway/health/http-source.js';
import type { Source } from '../../gateway/health/oracle.js';
import { readPage } from '../../gateway/health/page.js';
import { Scraper } from '../../gateway/health/scraper.js';
import type { IoAggregate } from '../../pfa/io-aggregate.js';
import type { Sample } from '../../pfa/sample.js';
import { SettlingClock, settle } from './protection-fakes.js';

const GOOD = `# TYPE smartctl_device_attribute gauge
smartctl_device{device="sda",interface="sat",protocol="ATA",model_name="M",serial_number="S1"} 1
smartctl_device_attribute{attribute_id="197",attribute_name="Current_Pending_Sector",attribute_value_type="raw",device="sda"} 48
smartctl_device_attribute{attribute_id="5",attribute_name="Reallocated_Sector_Ct",attribute_value_type="raw",device="sda"} 3
`;
const NODE = `# TYPE node_netstat_Tcp_RetransSegs untyped
node_netstat_Tcp_RetransSegs 12
`;

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

async function serving<T>(answer: Answer, use: (url: string) => Promise<T>): Promise<T> {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

function fetched(answer: Answer, limits: { timeoutMs?: number; bodyBytesMax?: number } = {}): Promise<Outcome<string>> {
  return serving(answer, async (url) => {
    const source = new HttpSource({ node: 'a', type: 'smartctl_exporter', url, everyMs: 60_000, ...limits });
    const outcome = await source.fetch();
    await source.close();
    return outcome;
  });
}

function assertRefused(outcome: Outcome<unknown>, code: string, says: RegExp): void {
  assert(!outcome.ok, 'it was taken');
  assert.equal(outcome.code, code, outcome.message);
  assert.match(outcome.message, says);
}

const source = suite('health: http source');

source('a page is fetched whole, however it is cut', async () => {
  const outcome = await fetched((_, response) => {
    response.write(GOOD.slice(0, 33));
    setImmediate(() => response.end(GOOD.slice(33)));
  });
  assert.deepEqual(outcome, { ok: true, value: GOOD });
});

source('a server that accepts and never answers is given up in time', async () => {
  assertRefused(await fetched(() => {}, { timeoutMs: 50 }), 'source-timeout', /within 50 ms/);
});

source('a page that never ends is given up in time', async () => {
  const dribble: Answer = (request, response) => {
    const timer = setInterval(() => response.write('# x\n'), 5);
    request.socket.on('close', () => clearInterval(timer));
  };
  assertRefused(await fetched(dribble, { timeoutMs: 80 }), 'source-timeout', /within 80 ms/);
});

source('a page that is too long is not read to its end', async () => {
  let written = 0;
  const flood: Answer = (_, response) => {
    const more = (): void => {
      if (response.destroyed || written > 2 ** 28) return;
      written += 65536;
      if (response.write('x'.repeat(65536))) setImmediate(more);
      else response.once('drain', more);
    };
    more();
  };
  assertRefused(await fetched(flood, { bodyBytesMax: 2 ** 20 }), 'source-too-long', /longer than 1MiB/);
  assert(written < 2 ** 26, `${written} bytes were taken`);
});

source('a body that is cut short is no page', async () => {
  const outcome = await fetched((_, response) => {
    response.writeHead(200, { 'content-length': String(GOOD.length) });
    response.write(GOOD.slice(0, 50));
    setImmediate(() => response.destroy());
  });
  assertRefused(outcome, 'source-unreachable', /cannot be read/);
});

source('another status than 200 is no page, also a redirect', async () => {
  for (const status of [204, 302, 404, 500]) {
    const outcome = await fetched((_, response) => response.writeHead(status, { location: '/elsewhere' }).end());
    assertRefused(outcome, 'source-status', new RegExp(`status ${status}`));
  }
});

source('bytes that are no text are no page', async () => {
  assertRefused(await fetched((_, response) => response.end(Buffer.from([0x6e, 0xff, 0xfe, 0x0a]))), 'source-not-text', /UTF-8/);
});

source('a server that is not there is an outcome, no exception', async () => {
  const url = await serving(
    () => {},
    async (address) => address,
  );
  const gone = new HttpSource({ node: 'a', type: 'smartctl_exporter', url, everyMs: 60_000 });
  assertRefused(await gone.fetch(), 'source-unreachable', /ECONNREFUSED/);
  await gone.close();
});

source('a source is not waited for longer than its own interval', async () => {
  await serving(
    () => {},
    async (url) => {
      const hasty = new HttpSource({ node: 'a', type: 'smartctl_exporter', url, everyMs: 40 });
      assertRefused(await hasty.fetch(), 'source-timeout', /within 40 ms/);
      await hasty.close();
    },
  );
});

source.run();

const page = suite('health: page');

page('each type of page gives its samples', () => {
  const smart = readPage('smartctl_exporter', GOOD, 'a', 1000);
  assert(smart.ok);
  const pending = smart.value.find(({ metric }) => metric === 'pending_sectors');
  assert.deepEqual([pending?.node, pending?.disk, pending?.value, pending?.atMs], ['a', 'sda', 48, 1000]);
  assert(readPage('agent', GOOD, 'a', 0).ok);
  const node = readPage('node_exporter', NODE, 'a', 0);
  assert(node.ok && node.value[0].metric === 'link_retransmits');
});

page('a page that is broken or cut short gives nothing at all', () => {
  assertRefused(readPage('smartctl_exporter', `${GOOD}smartctl_x{ 1\n`, 'a', 0), 'page-invalid', /line 5/);
  assertRefused(readPage('smartctl_exporter', GOOD.slice(0, -1), 'a', 0), 'page-invalid', /cut short/);
  assertRefused(readPage('smartctl_exporter', '<html>welcome</html>\n', 'a', 0), 'page-invalid', /line 1/);
});

page('a page of something else is named, except from an agent without disks', () => {
  assertRefused(readPage('smartctl_exporter', NODE, 'a', 0), 'page-empty', /no metric of a smartctl_exporter/);
  assertRefused(readPage('node_exporter', '', 'a', 0), 'page-empty', /no metric/);
  assert(readPage('agent', 'forestall_agent_exports 0\n', 'a', 0).ok);
});

page.run();

class FakeSource implements Source {
  readonly type = 'smartctl_exporter';
  answers: Outcome<string>[] = [];
  fetches = 0;
  closed = 0;
  hold: Promise<void> | null = null;

  constructor(
    readonly node = 'a',
    readonly name = 'http://a:9633/metrics',
    readonly everyMs = 10_000,
  ) {}

  async fetch(): Promise<Outcome<string>> {
    this.fetches += 1;
    await this.hold;
    return this.answers.shift() ?? { ok: true, value: GOOD };
  }

  async close(): Promise<void> {
    this.closed += 1;
  }
}

const scraping = suite('health: scraping');

function scraperOf(fake: FakeSource, random = 0.5) {
  const clock = new SettlingClock();
  const events: NewEvent[] = [];
  const taken: Sample[][] = [];
  const scraper = new Scraper({
    source: fake,
    clock,
    events: { publish: (event) => events.push(event) },
    random: () => random,
    take: (samples) => taken.push(samples),
  });
  return { clock, events, taken, scraper };
}

scraping('a source is scraped at its interval, the first time at once, give or take', async () => {
  const fake = new FakeSource();
  const { clock, taken, scraper } = scraperOf(fake);
  scraper.start();
  await clock.advance(499);
  assert.equal(fake.fetches, 0);
  await clock.advance(1);
  assert.equal(fake.fetches, 1);
  await clock.advance(30_000);
  assert.equal(fake.fetches, 4);
  assert.equal(taken.length, 4);
  await scraper.stop();
  await clock.advance(60_000);
  assert.equal(fake.fetches, 4);
  assert.equal(fake.closed, 1);
});

scraping('jitter keeps within a tenth of the interval', async () => {
  for (const [random, everyMs] of [
    [0, 9000],
    [1, 11_000],
  ]) {
    const fake = new FakeSource();
    const { clock, scraper } = scraperOf(fake, random);
    scraper.start();
    await clock.advance(random * 1000);
    await clock.advance(everyMs - 1);
    assert.equal(fake.fetches, 1);
    await clock.advance(1);
    assert.equal(fake.fetches, 2);
    await scraper.stop();
  }
});

scraping('a fetch that takes long is not started twice', async () => {
  const fake = new FakeSource();
  let release = (): void => {};
  fake.hold = new Promise((resolve) => {
    release = resolve;
  });
  const { clock, scraper } = scraperOf(fake);
  scraper.start();
  await clock.advance(120_000);
  assert.equal(fake.fetches, 1);
  release();
  await settle();
  await clock.advance(1);
  assert.equal(fake.fetches, 2);
  await scraper.stop();
});

scraping('a source that fails is counted each time and told once, and once when it is back', async () => {
  const fake = new FakeSource();
  fake.answers = [refuse('source-timeout', 'it did not answer'), { ok: true, value: 'rubbish' }, refuse('source-status', 'status 500')];
  const { clock, events, taken, scraper } = scraperOf(fake);
  scraper.start();
  await clock.advance(25_000);
  assert.deepEqual(
    events.map(({ type, node }) => [type, node]),
    [['health.source-failed', 'a']],
  );
  assert.equal(scraper.view().failures, 3);
  assert.equal(scraper.view().problem, 'status 500');
  assert.deepEqual(taken, [], 'a failure is no sample');
  await clock.advance(20_000);
  assert.deepEqual(
    events.map(({ type }) => type),
    ['health.source-failed', 'health.source-back'],
  );
  assert.equal(scraper.view().problem, null);
  await scraper.stop();
});

scraping.run();

const collecting = suite('health: collectors');

function collectorsOf() {
  const clock = new SettlingClock();
  const seen: string[] = [];
  const io: [string, IoAggregate][] = [];
  const takes: Record<string, number> = {};
  const still = { writes: 0, bytes: 4096, errors: 0, timeouts: 0, reconnects: 0 };
  const aggregate = (atMs: number): IoAggregate => ({ atMs, reads: 1, p50Us: 100, p99Us: 200, ...still });
  const meter = (node: string, gives: boolean) => ({
    node,
    take: (nowMs: number) => {
      takes[node] = (takes[node] ?? 0) + 1;
      return gives ? aggregate(nowMs) : null;
    },
  });
  const collectors = new Collectors({
    clock,
    events: { publish: () => {} },
    oracle: { observe: ({ node, metric }) => seen.push(`${node} ${metric}`), observeIo: (node, one) => io.push([node, one]) },
    meters: () => [meter('a', true), meter('b', false)],
    fresh: (node) => seen.push(`fresh ${node}`),
    random: () => 0.5,
  });
  return { clock, seen, io, takes, collectors };
}

collecting('samples reach the predictor, and their node is judged afresh', async () => {
  const { clock, seen, collectors } = collectorsOf();
  await collectors.use([new FakeSource()]);
  await clock.advance(600);
  assert.deepEqual([...seen].sort(), ['a pending_sectors', 'a reallocated_sectors', 'fresh a']);
  assert.equal(seen.at(-1), 'fresh a');
  await collectors.stop();
});

collecting('the I/O of each node is looked at every few seconds; a meter without an answer says nothing', async () => {
  const { clock, io, takes, collectors } = collectorsOf();
  collectors.start();
  await clock.advance(15_000);
  assert.deepEqual(
    io.map(([node]) => node),
    ['a', 'a', 'a'],
  );
  assert.deepEqual(takes, { a: 3, b: 3 });
  await collectors.stop();
  await clock.advance(15_000);
  assert.equal(io.length, 3);
});

collecting('a reload keeps the sources that stay, ends those that go and begins those that come', async () => {
  const { clock, collectors } = collectorsOf();
  const [stays, goes, comes, same] = [new FakeSource(), new FakeSource('b'), new FakeSource('c'), new FakeSource()];
  await collectors.use([stays, goes]);
  await clock.advance(1000);
  await collectors.use([same, comes]);
  await clock.advance(10_000);
  assert.deepEqual([stays.fetches, goes.fetches, comes.fetches, same.fetches], [2, 1, 1, 0]);
  assert.deepEqual([stays.closed, goes.closed, same.closed], [0, 1, 1]);
  assert.deepEqual(
    collectors.views().map(({ node }) => node),
    ['a', 'c'],
  );
  await collectors.stop();
});

collecting('an agent`s own page is a source like the others', async () => {
  const { clock, seen, collectors } = collectorsOf();
  await collectors.use([new AgentSource('n', 'http://n:8091', 10_000, { metricsText: async () => ({ ok: true, value: GOOD }) })]);
  await clock.advance(1000);
  assert(seen.includes('n pending_sectors'));
  await collectors.stop();
});

collecting.run();
