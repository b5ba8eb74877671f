// A connection from its first byte to its last: handshake, attaching, session, deadlines, shutting down, on a wire in memory.
// Against the models of both where nothing stops it, and everywhere that it comes to its end, lets go of its export once,
// and that it makes no difference how the stream was cut.
import assert from 'node:assert/strict';
import type { WireHandlers } from '../../../gateway/wire.js';
import type { Attachment, ExportTable } from '../../../gateway/nbd/export.js';
import { NbdServer } from '../../../gateway/nbd/server.js';
import type { HeaderStyle } from '../../../gateway/nbd/codec.js';
import type { Random } from '../../sim/random.js';
import { ManualClock } from '../../support/manual-clock.js';
import { infoData, contextData, optionBytes, requestBytes, uint32 } from '../../support/nbd-bytes.js';
import { QuietLog } from '../../support/quiet-log.js';
import { type BuiltExport, buildExport, EXPORT_PLANS, LOCKED, PARITY_CONTEXT } from '../exports.js';
import { FuzzWire } from '../fuzz-wire.js';
import { bytesStep, setupOf, setupStep, STEP, type Step, streamBytes } from '../input.js';
import { expectHandshake } from '../models/handshake-model.js';
import { checkOptionReplies } from '../models/option-reply-check.js';
import { checkReplies } from '../models/reply-check.js';
import { expectSession, type SessionExpectation } from '../models/session-model.js';
import { AS_GIVEN, type Cut, joined, otherwise, type Target } from '../target.js';
import { Turns } from '../turns.js';
import { drawOption } from './server-handshake.js';
import { drawRequest } from './session.js';

const RELEASE = STEP.OWN;
/** ms16: so much later. */
const LATER = STEP.OWN + 1;
const TAKE = STEP.OWN + 2;
const PEER_END = STEP.OWN + 3;
const SHUT_DOWN = STEP.OWN + 4;
const CLOSE = STEP.OWN + 5;
const STOPPING = new Set<number>([LATER, PEER_END, SHUT_DOWN, CLOSE]);

const STYLES: readonly HeaderStyle[] = ['simple', 'structured', 'extended'];
const GREETING_BYTES = 18;
const END_MS = 200_000;
const ROUNDS_MAX = 20_000;
/** Promises of an attachment, and what follows them. */
const PROMISE_TURNS = 6;

class Exports implements ExportTable {
  readonly #built = new Map<string, BuiltExport>();
  readonly #held: boolean;
  attached = 0;
  detached = 0;
  opened: BuiltExport | null = null;

  constructor(held: boolean) {
    this.#held = held;
  }

  names(): string[] {
    return EXPORT_PLANS.map(({ name }) => name).sort();
  }

  find(name: string): BuiltExport['export'] | undefined {
    return this.#build(name)?.export;
  }

  async attach(name: string): Promise<Attachment | undefined> {
    if (name === LOCKED) throw new Error('in use');
    const built = this.#build(name);
    if (built === null) return undefined;
    this.attached += 1;
    this.opened = built;
    return { export: built.export, detach: () => this.#detach() };
  }

  #detach(): void {
    this.detached += 1;
  }

  #build(name: string): BuiltExport | null {
    const plan = EXPORT_PLANS.find((candidate) => candidate.name === name);
    if (plan === undefined) return null;
    const known = this.#built.get(name);
    if (known !== undefined) return known;
    const built = buildExport(plan, { completion: this.#held ? 'held' : 'sync', fails: false });
    this.#built.set(name, built);
    return built;
  }
}

class Run {
  readonly #turns: Turns;
  readonly #clock = new ManualClock();
  readonly #wire = new FuzzWire(Number.POSITIVE_INFINITY);
  readonly #server: NbdServer;
  readonly #connection: WireHandlers;
  readonly exports: Exports;
  #unread: Buffer[] = [];
  #peerEnded = false;
  #closed = false;
  #shut: Promise<number> | null = null;

  constructor(held: boolean, turns: Turns) {
    this.#turns = turns;
    this.exports = new Exports(held);
    this.#server = new NbdServer({ exports: this.exports, clock: this.#clock, log: new QuietLog(), handshakeMs: 1000 });
    this.#connection = this.#server.accept(this.#wire);
  }

  async play(steps: readonly Step[], cut: Cut): Promise<Buffer> {
    for (const step of steps) await this.#take(step, cut);
    await this.#finish();
    return this.#wire.output;
  }

  async #take(step: Step, cut: Cut): Promise<void> {
    const bytes = streamBytes(step);
    const { kind, data } = step;
    if (bytes !== null) {
      if (!this.#peerEnded) for (const piece of cut(bytes)) this.#unread.push(piece);
    } else if (kind === RELEASE) this.#release(data[0] ?? 0);
    else if (kind === LATER) this.#clock.advance(data.length >= 2 ? data.readUInt16BE() : 0);
    else if (kind === PEER_END) this.#peerEnded = true;
    else if (kind === SHUT_DOWN) this.#shut ??= this.#server.close({ graceMs: 5000 });
    else if (kind === CLOSE) this.#close();
    await this.#deliver();
    if (this.#wire.take() && !this.#closed) this.#connection.drain();
    await this.#deliver();
  }

  #release(which: number): void {
    const held = this.exports.opened?.device.held ?? [];
    if (held.length > 0) this.exports.opened!.device.release(which % held.length);
  }

  /** What has come is given to the connection, as far as it reads. */
  async #deliver(): Promise<void> {
    for (let idle = 0; idle < PROMISE_TURNS; idle += 1) {
      this.#turns.settle();
      while (this.#unread.length > 0 && !this.#wire.paused && !this.#closed && !this.#wire.destroyed) {
        this.#connection.data(this.#unread.shift()!);
        this.#turns.settle();
        idle = 0;
      }
      await undefined;
    }
    if (this.#wire.destroyed) this.#close();
    else if (this.#peerEnded && this.#unread.length === 0 && !this.#closed && !this.#wire.paused) {
      this.#connection.end!();
      this.#turns.settle();
    }
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wire.take();
    this.#connection.close(null);
    this.#turns.settle();
  }

  async #finish(): Promise<void> {
    for (let round = 0; ; round += 1) {
      assert(round < ROUNDS_MAX, 'the connection comes to no rest');
      await this.#deliver();
      if (this.#wire.take()) {
        if (!this.#closed) this.#connection.drain();
      } else if ((this.exports.opened?.device.held.length ?? 0) > 0) this.exports.opened!.device.release();
      else break;
    }
    if (this.#wire.ended && !this.#closed) {
      this.#clock.advance(END_MS);
      assert(this.#wire.destroyed, 'a client that never closes its side is cut off');
    }
    this.#close();
    await this.#deliver();
    assert.equal(this.#server.connections, 0, 'nothing of the connection is left');
    assert.equal(this.#server.memory.heldBytes, 0, 'nothing is held');
    assert.equal(this.exports.detached, this.exports.attached, 'an export that was attached is detached once');
    assert.equal(this.#clock.pending, 0, 'no timer is left');
    await this.#shut;
  }
}

function drawHandshake(random: Random): Step[] {
  const style = random.int(3);
  const steps = [bytesStep(uint32(3))];
  const name = random.chance(0.9) ? random.pick(EXPORT_PLANS.slice(0, 5)).name : random.pick(EXPORT_PLANS).name;
  if (style > 0) steps.push(bytesStep(optionBytes(style === 1 ? 8 : 11)));
  if (style > 0 && random.chance(0.6)) steps.push(bytesStep(optionBytes(10, contextData(name, 'base:allocation', PARITY_CONTEXT))));
  if (random.chance(0.2)) steps.push(...drawOption(random));
  steps.push(bytesStep(random.chance(0.9) || style === 2 ? optionBytes(7, infoData(name, 3)) : optionBytes(1, Buffer.from(name))));
  const plan = EXPORT_PLANS.find((candidate) => candidate.name === name)!;
  for (let left = random.int(6); left > 0; left -= 1) steps.push(...drawRequest(random, { headers: STYLES[style], plan }));
  if (random.chance(0.3)) steps.push(bytesStep(requestBytes({ command: 2 }, style === 2)));
  return steps;
}

function drawEvent(random: Random): Step {
  const kind = random.pick([RELEASE, RELEASE, LATER, TAKE, PEER_END, SHUT_DOWN, CLOSE]);
  return { kind, data: kind === LATER ? uint32(random.int(2000)).subarray(2) : Buffer.from([random.int(256)]) };
}

export const CONNECTION: Target = {
  name: 'connection',

  draw(random) {
    const steps = [setupStep(random.int(4)), ...drawHandshake(random)];
    if (random.chance(0.3)) steps.splice(1 + random.int(steps.length), 0, drawEvent(random));
    if (random.chance(0.2)) steps.splice(1 + random.int(steps.length), 0, drawEvent(random));
    return steps;
  },

  run: (steps) => Turns.during((turns) => run(steps, turns)),
};

async function run(steps: readonly Step[], turns: Turns): Promise<void> {
  const held = setupOf(steps, 0) % 4 === 3;
  const given = new Run(held, turns);
  const output = await given.play(steps, AS_GIVEN);
  const stream = Buffer.concat(steps.flatMap((step) => streamBytes(step) ?? []));
  const stopped = steps.some(({ kind }) => STOPPING.has(kind));
  const handshake = expectHandshake(stream);
  let expectation: SessionExpectation | null = null;
  if (!stopped) {
    assert.equal(output.toString('latin1', 0, 16), 'NBDMAGICIHAVEOPT', 'the greeting');
    const rest = checkOptionReplies(output.subarray(GREETING_BYTES), handshake);
    if (handshake.plan !== null) {
      const { plan, headers, contexts, used } = handshake;
      expectation = expectSession(stream.subarray(used), plan, headers, contexts, false);
      const exact = !held && !expectation.inParts;
      if (exact || headers !== 'simple') checkReplies(rest, expectation, headers, { exact, deviceErrnos: [] });
    }
  }
  // What is answered first is a matter of turns then.
  if ((stopped && held) || expectation?.inParts || (stopped && handshake.plan?.name === 'huge')) return;
  const cut = new Run(held, turns);
  const other = await cut.play(joined(steps), otherwise());
  const length = stopped || expectation?.end === 'violation' ? Math.min(output.length, other.length) : Number.POSITIVE_INFINITY;
  assert(output.subarray(0, length).equals(other.subarray(0, length)), 'the same answers, however the stream is cut');
}
