// A session on a device in memory, with every style of headers, every kind of export, devices that fail or answer late and
// out of order, and hosts that read slowly: against the model where the order is known, and everywhere that each request is
// answered once, memory is bounded, and it makes no difference how the stream was cut.
import assert from 'node:assert/strict';
import type { HeaderStyle } from '../../../gateway/nbd/codec.js';
import { ServerCounters } from '../../../gateway/nbd/counters.js';
import { SessionMemory } from '../../../gateway/nbd/memory-share.js';
import { contextsOf } from '../../../gateway/nbd/meta-context.js';
import { Session } from '../../../gateway/nbd/session.js';
import type { Random } from '../../sim/random.js';
import { requestBytes } from '../../support/nbd-bytes.js';
import { buildExport, EXPORT_PLANS, type ExportPlan } from '../exports.js';
import { FuzzWire } from '../fuzz-wire.js';
import { anyBytes, edge32, edge64, number32 } from '../grammar.js';
import { bytesStep, fillStep, repeatStep, setupOf, setupStep, STEP, type Step, streamBytes } from '../input.js';
import { checkReplies } from '../models/reply-check.js';
import { expectSession, FLUSH, PAYLOAD_LEN, READ, STATUS, WRITE } from '../models/session-model.js';
import { AS_GIVEN, type Cut, joined, otherwise, type Target } from '../target.js';
import { Turns } from '../turns.js';

const RELEASE = STEP.OWN;
const TURN = STEP.OWN + 1;
const TAKE = STEP.OWN + 2;
const PEER_END = STEP.OWN + 3;
const SHUT_DOWN = STEP.OWN + 4;
const CLOSE = STEP.OWN + 5;

const STYLES: readonly HeaderStyle[] = ['simple', 'structured', 'extended'];
const PLANS = EXPORT_PLANS.slice(0, 5);
const WINDOWS = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 4096, 64 * 1024];
/** Enough for many inputs to meet the bound on what all sessions hold, a third of it. */
const MEMORY_BYTES = [4 * 1024 * 1024, 4 * 1024 * 1024, 4 * 1024 * 1024, 24 * 1024 * 1024];
/** One session's share of it, at least 1 MiB, and one request more, since there is always room for one. */
const HELD_BYTES_MAX = 9 * 1024 * 1024;
const ROUNDS_MAX = 20_000;

interface Setup {
  headers: HeaderStyle;
  plan: ExportPlan;
  completion: 'sync' | 'held';
  fails: boolean;
  windowBytes: number;
  contexts: number;
  memoryBytes: number;
}

function readSetup(steps: readonly Step[]): Setup {
  const choice = (index: number, among: number): number => setupOf(steps, index) % among;
  return {
    headers: STYLES[choice(0, 3)],
    plan: PLANS[choice(1, PLANS.length)],
    completion: choice(2, 4) < 3 ? 'sync' : 'held',
    fails: choice(3, 4) === 3,
    windowBytes: WINDOWS[choice(4, WINDOWS.length)],
    contexts: choice(5, 4),
    memoryBytes: MEMORY_BYTES[choice(6, MEMORY_BYTES.length)],
  };
}

class Run {
  readonly #turns: Turns;
  readonly #setup: Setup;
  readonly #wire: FuzzWire;
  readonly #device: ReturnType<typeof buildExport>['device'];
  readonly #memory: SessionMemory;
  readonly #session: Session;
  readonly contexts: { id: number; name: string }[];
  #ended = 0;
  #over = 0;
  #closed = false;

  constructor(setup: Setup, turns: Turns) {
    this.#setup = setup;
    this.#turns = turns;
    this.#wire = new FuzzWire(setup.windowBytes);
    this.#memory = new SessionMemory(setup.memoryBytes);
    const built = buildExport(setup.plan, setup);
    this.#device = built.device;
    const offered = [...contextsOf(built.export)].filter((_, i) => setup.headers !== 'simple' && (setup.contexts & (1 << i)) !== 0);
    this.contexts = offered.map(([name, { id }]) => ({ id, name }));
    const agreement = {
      export: built.export,
      headers: setup.headers,
      contexts: offered.map(([, selected]) => selected),
      leftover: Buffer.alloc(0),
    };
    this.#session = new Session(
      this.#wire,
      agreement,
      1,
      { counters: new ServerCounters(), memory: this.#memory, inFlightMax: 1024, later: (rest) => queueMicrotask(rest) },
      {
        ended: () => (this.#ended += 1),
        over: () => (this.#over += 1),
      },
    );
  }

  get device(): { bytes: Buffer } {
    return this.#device;
  }

  /** Everything the session said. */
  play(steps: readonly Step[], cut: Cut): Buffer {
    for (const step of steps) {
      this.#take(step, cut);
      this.#checkBounds();
    }
    this.#finish();
    return this.#wire.output;
  }

  #take(step: Step, cut: Cut): void {
    const bytes = streamBytes(step);
    const { data } = step;
    if (bytes !== null) {
      for (const piece of cut(bytes)) {
        if (this.#closed || this.#wire.destroyed) break;
        this.#session.receive(piece);
      }
    } else if (step.kind === RELEASE) this.#release(data[0] ?? 0, data[1] ?? 0);
    else if (step.kind === TAKE) this.#drain();
    else if (step.kind === PEER_END && !this.#closed) this.#session.peerEnded();
    else if (step.kind === SHUT_DOWN && !this.#closed) this.#session.shutDown();
    else if (step.kind === CLOSE) this.#close();
    this.#turns.settle();
    if (this.#setup.windowBytes === Number.POSITIVE_INFINITY) this.#drain();
  }

  #release(which: number, errno: number): void {
    const { held } = this.#device;
    if (held.length > 0) this.#device.release(which % held.length, errno % 4 === 3 ? 5 : undefined);
  }

  #drain(): void {
    if (!this.#wire.take() || this.#closed) return;
    this.#session.drained();
    this.#turns.settle();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#session.closed();
  }

  #checkBounds(): void {
    assert(this.#wire.queuedBytes <= HELD_BYTES_MAX + 1024 * 1024, `the wire holds ${this.#wire.queuedBytes} bytes`);
    assert(this.#memory.heldBytes <= HELD_BYTES_MAX, `the session holds ${this.#memory.heldBytes} bytes`);
    assert(this.#session.inFlight <= 1024, `${this.#session.inFlight} requests in flight`);
    assert(this.#ended <= 1 && this.#over <= 1, 'the end is told once');
  }

  #finish(): void {
    for (let round = 0; ; round += 1) {
      assert(round < ROUNDS_MAX, 'the session comes to no rest');
      this.#turns.settle();
      if (this.#wire.take()) {
        if (!this.#closed) this.#session.drained();
      } else if (this.#device.held.length > 0) this.#device.release();
      else break;
    }
    this.#close();
    this.#turns.settle();
    assert.equal(this.#over, 1, 'a session that is closed is over');
    assert.equal(this.#session.inFlight, 0, 'nothing is in flight');
    assert.equal(this.#memory.heldBytes, 0, 'nothing is held');
    this.#wire.take();
  }
}

/** A request as its steps, with the payload that belongs to it. */
export function drawRequest(random: Random, { headers, plan }: Pick<Setup, 'headers' | 'plan'>): Step[] {
  const extended = headers === 'extended';
  const command = random.chance(0.9)
    ? random.pick([READ, READ, WRITE, WRITE, WRITE, FLUSH, 4, 5, 6, 6, STATUS, STATUS])
    : number32(random, 12) & 0xffff;
  const unit = plan.wish.block?.minimum ?? 1;
  let offset = random.chance(0.85) ? BigInt(random.int(Math.min(plan.sizeBytes, 65536) / unit) * unit) : edge64(random);
  let length = BigInt(random.chance(0.8) ? random.int(random.chance(0.1) ? 100 : 8) * Math.max(unit, 64) : random.int(20) * unit);
  if (random.chance(0.1)) length = extended ? edge64(random) : BigInt(edge32(random));
  const atEnd = BigInt(plan.sizeBytes + random.pick([-1, 0, 0, 1])) - length;
  if (atEnd >= 0n && random.chance(0.1)) offset = atEnd;
  let flags = random.chance(0.75) ? 0 : random.int(64);
  if (extended && command === WRITE && random.chance(0.95)) flags |= PAYLOAD_LEN;
  const cookie = BigInt(random.int(1 << 20));
  if (extended && command === STATUS && random.chance(0.4)) {
    const payload = Buffer.alloc(8 + 4 * random.int(4));
    payload.writeBigUInt64BE(length);
    for (let at = 8; at < payload.length; at += 4) payload.writeUInt32BE(1 + random.int(random.chance(0.1) ? 5 : 2), at);
    return [bytesStep(requestBytes({ command, flags: flags | PAYLOAD_LEN, cookie, offset, length: payload.length, payload }, true))];
  }
  const head = requestBytes({ command, flags, cookie, offset, length }, extended);
  const carried =
    (command === WRITE || (extended && (flags & PAYLOAD_LEN) !== 0)) && length > 0n && length <= 2n ** 18n ? Number(length) : 0;
  if (carried === 0) return [bytesStep(head)];
  if (carried > 600 || random.chance(0.2)) return [bytesStep(head), fillStep(random.int(256), carried)];
  return [bytesStep(head, Buffer.alloc(carried, random.int(256)))];
}

/** So many requests at once that there is no room for all: small ones, or reads of as much as may be read. */
function drawFlood(random: Random, { headers, plan }: Setup): Step {
  const length = Math.min(plan.wish.block?.maximumPayload ?? plan.sizeBytes, plan.sizeBytes);
  const small = { command: random.pick([FLUSH, READ, STATUS]), length: plan.wish.block?.minimum ?? 1 };
  const [count, fields] = random.chance(0.5)
    ? [1100, small]
    : [Math.ceil(((random.chance(0.5) ? 2 : 6) * 2 ** 20) / length), { command: READ, length }];
  return repeatStep(count, requestBytes({ cookie: BigInt(random.int(256)), ...fields }, headers === 'extended'));
}

function drawEvent(random: Random): Step {
  const kind = random.pick([RELEASE, RELEASE, RELEASE, TURN, TAKE, TAKE, TAKE, PEER_END, SHUT_DOWN, CLOSE]);
  return { kind, data: kind === RELEASE ? Buffer.from([random.int(256), random.int(256)]) : Buffer.alloc(0) };
}

export const SESSION: Target = {
  name: 'session',

  draw(random) {
    const steps = [setupStep(random.int(3), random.int(5), random.int(4), random.int(4), random.int(4), random.int(4), random.int(4))];
    const setup = readSetup(steps);
    const calm = random.chance(0.6);
    for (let left = 1 + random.int(10); left > 0; left -= 1) {
      steps.push(...drawRequest(random, setup));
      if (!calm && random.chance(0.3)) steps.push(drawEvent(random));
      if (random.chance(0.03)) steps.push(bytesStep(anyBytes(random, 40)));
    }
    if (random.chance(0.004)) steps.splice(1 + random.int(steps.length), 0, drawFlood(random, setup));
    if (random.chance(0.2)) steps.push(bytesStep(requestBytes({ command: 2 }, setup.headers === 'extended')));
    return steps;
  },

  run(steps) {
    const setup = readSetup(steps);
    const given = Turns.during((turns) => {
      const run = new Run(setup, turns);
      return { output: run.play(steps, AS_GIVEN), contents: run.device.bytes, contexts: run.contexts };
    });
    const stream = Buffer.concat(steps.flatMap((step) => streamBytes(step) ?? []));
    const { plan, headers, fails, completion } = setup;
    const expectation = expectSession(stream, plan, headers, given.contexts, fails);
    const stopped = steps.some(({ kind }) => kind === PEER_END || kind === SHUT_DOWN || kind === CLOSE);
    const exact = completion === 'sync' && !expectation.inParts;
    // Whose reply a simple one is can be told only by its order.
    if (!stopped && (exact || headers !== 'simple')) {
      checkReplies(given.output, expectation, headers, { exact, deviceErrnos: exact ? [] : [5] });
      if (exact && expectation.end !== 'violation')
        assert(given.contents.equals(expectation.contents), 'the device holds what was written');
    }
    const cut = Turns.during((turns) => {
      const run = new Run(setup, turns);
      return { output: run.play(expectation.inParts || stopped ? steps : joined(steps), otherwise()), contents: run.device.bytes };
    });
    if (expectation.end === 'violation') {
      const length = Math.min(given.output.length, cut.output.length);
      assert(given.output.subarray(0, length).equals(cut.output.subarray(0, length)), 'the same answers, however the stream is cut');
    } else {
      assert(given.output.equals(cut.output), 'the same answers, however the stream is cut');
      assert(given.contents.equals(cut.contents), 'the same contents, however the stream is cut');
    }
  },
};
