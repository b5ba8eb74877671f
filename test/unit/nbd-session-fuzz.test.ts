// Random and hostile input to a session, cut at random: against a naive model where it has one, and everywhere that each
// request is answered exactly once, that nothing is left over, and that nothing throws. fast-check prints the seed of a
// failure.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import type { HeaderStyle } from '../../gateway/nbd/codec.js';
import { ServerCounters } from '../../gateway/nbd/counters.js';
import { SessionMemory } from '../../gateway/nbd/memory-share.js';
import { Session } from '../../gateway/nbd/session.js';
import { HeldWire } from '../support/held-wire.js';
import { expectedErrnos, type ModelExport } from '../fuzz/models/session-model.js';
import { MemoryDevice } from '../support/memory-device.js';
import { ALL_FEATURES, memoryExport } from '../support/memory-exports.js';
import { parseReplies, type RequestFields, requestBytes } from '../support/nbd-bytes.js';

const test = suite('nbd session fuzz');

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const SIZE = 8192;
const PAYLOAD_MAX = 4096;
const PAYLOAD_LEN = 32;

const offset = fc.oneof({ weight: 8, arbitrary: fc.nat(SIZE) }, fc.constantFrom(2 ** 32, 2 ** 53, 2n ** 64n - 1n));
const length = fc.oneof({ weight: 8, arbitrary: fc.nat(1024) }, fc.nat(2 * PAYLOAD_MAX));
const flags = fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(0x7f));
const command = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS) },
  fc.integer({ min: 8, max: 0xffff }),
);

/** Any request, with the payload its header claims. */
const request: fc.Arbitrary<RequestFields> = fc
  .record({ command, flags, offset, length, fill: fc.nat(255) })
  .map(({ fill, ...fields }) => (fields.command === WRITE ? { ...fields, payload: Buffer.alloc(fields.length, fill) } : fields));
/** Requests whose cookies are their places in the list. */
const requests = fc.array(request, { maxLength: 40 }).map((list) => list.map((fields, i) => ({ ...fields, cookie: BigInt(i) })));
const styles = fc.constantFrom<HeaderStyle>('simple', 'structured', 'extended');
const cuts = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 20 });

class Run {
  readonly wire = new HeldWire();
  readonly device: MemoryDevice;
  readonly session: Session;
  ended = 0;
  over = 0;

  constructor(completion: 'sync' | 'held', headers: HeaderStyle) {
    this.device = new MemoryDevice(SIZE, { completion });
    const block = { maximumPayload: PAYLOAD_MAX };
    const agreement = {
      export: memoryExport('disk', this.device, { block }),
      headers,
      contexts: headers === 'simple' ? [] : [{ id: 1, known: null }],
      leftover: Buffer.alloc(0),
    };
    this.session = new Session(
      this.wire,
      agreement,
      0,
      { counters: new ServerCounters(), memory: new SessionMemory(), inFlightMax: 1024, later: queueMicrotask },
      {
        ended: () => (this.ended += 1),
        over: () => (this.over += 1),
      },
    );
  }

  /** Everything at once, cut into pieces of these lengths over and over. */
  say(bytes: Buffer, pieces: number[]): void {
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const piece = pieces[i % pieces.length];
      this.session.receive(bytes.subarray(at, at + piece));
      at += piece;
    }
  }
}

/** As a client with extended headers has to send it. */
function withPayloadFlag(fields: RequestFields): RequestFields {
  return { ...fields, flags: fields.command === WRITE ? fields.flags! | PAYLOAD_LEN : fields.flags! & ~PAYLOAD_LEN };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The export of 8 KiB with every feature, for the model. */
function modelOf(headers: HeaderStyle): ModelExport {
  const contexts = headers !== 'simple';
  return { sizeBytes: BigInt(SIZE), blockBytes: 1n, payloadMax: BigInt(PAYLOAD_MAX), features: ALL_FEATURES, headers, contexts };
}

test('every request gets the answer that a naive model gives, in order', async () => {
  await fc.assert(
    fc.asyncProperty(requests, cuts, styles, async (drawn, pieces, headers) => {
      const list = headers === 'extended' ? drawn.map(withPayloadFlag) : drawn;
      const structured = headers !== 'simple';
      const run = new Run('sync', headers);
      run.say(Buffer.concat(list.map((fields) => requestBytes(fields, headers === 'extended'))), pieces);
      await turn();
      const model = Buffer.alloc(SIZE);
      const readLength = (cookie: bigint): number =>
        !structured && list[Number(cookie)].command === READ ? Number(list[Number(cookie)].length) : 0;
      const replies = parseReplies(run.wire.take(), readLength);
      assert.equal(replies.length, list.length);
      for (const [i, fields] of list.entries()) {
        const reply = replies[i];
        const at = Number(fields.offset);
        assert.equal(reply.cookie, BigInt(i));
        const { command, flags } = fields;
        const expected = expectedErrnos(
          { command, flags: flags!, offset: BigInt(fields.offset!), length: BigInt(fields.length!) },
          modelOf(headers),
        );
        assert(expected.includes(reply.errno), `${reply.errno} ${JSON.stringify(fields, (_, value) => String(value))}`);
        if (reply.errno !== 0) continue;
        if (fields.command === WRITE) fields.payload!.copy(model, at);
        if (fields.command === ZEROES || fields.command === TRIM) model.fill(0, at, at + Number(fields.length));
        if (fields.command === READ && fields.length! > 0) {
          assert(reply.payload.subarray(structured ? 8 : 0).equals(model.subarray(at, at + Number(fields.length))));
        }
      }
      assert(run.device.bytes.equals(model));
      assert.equal(run.session.inFlight, 0);
    }),
    { numRuns: 400 },
  );
});

test('every request is answered exactly once, in whatever order the device completes', async () => {
  await fc.assert(
    fc.asyncProperty(requests, cuts, fc.array(fc.nat(), { minLength: 1, maxLength: 40 }), async (list, pieces, picks) => {
      const run = new Run('held', 'structured');
      run.say(Buffer.concat([...list.map((fields) => requestBytes(fields)), requestBytes({ command: DISC })]), pieces);
      for (let i = 0; run.device.held.length > 0; i++) {
        const pick = picks[i % picks.length];
        run.device.release(pick % run.device.held.length, pick % 7 === 0 ? 5 : undefined);
        if (pick % 3 === 0) await turn();
      }
      await turn();
      const cookies = parseReplies(run.wire.take()).map(({ cookie }) => Number(cookie));
      assert.deepEqual(
        cookies.sort((a, b) => a - b),
        list.map((_, i) => i),
      );
      assert.equal(run.wire.ended, true);
      run.session.closed();
      assert.deepEqual([run.ended, run.over], [1, 1]);
    }),
    { numRuns: 200 },
  );
});

test('hostile bytes never throw, never reach past the export, and end in order', async () => {
  const mutation = fc.record({ at: fc.nat(), value: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(requests, fc.array(mutation, { maxLength: 8 }), cuts, fc.nat(), async (list, mutations, pieces, closeAt) => {
      const bytes = Buffer.concat([...list.map((fields) => requestBytes(fields)), requestBytes({ command: FLUSH })]);
      for (const { at, value } of mutations) bytes[at % bytes.length] = value;
      const run = new Run('held', 'structured');
      const cut = closeAt % bytes.length;
      run.say(bytes.subarray(0, cut), pieces);
      await turn();
      while (run.device.held.length > 2) run.device.release();
      run.say(bytes.subarray(cut), pieces);
      run.session.closed();
      run.device.releaseAll();
      await turn();
      assert.equal(run.over, 1);
      assert.equal(run.session.inFlight, 0);
    }),
    { numRuns: 400 },
  );
});

test.run();
