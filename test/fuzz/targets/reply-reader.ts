// The reader of a node's answers against a model of it, with slots used again as a link does: nodes that answer right, twice,
// for others, too much, too little, or nonsense. Whatever they send ends in answers, a reason or a wait.
import assert from 'node:assert/strict';
import { OP, type Op } from '../../../replication/device.js';
import { LinkSlot, ReplyReader, type ReplySink } from '../../../gateway/upstream/reply-reader.js';
import type { Random } from '../../sim/random.js';
import { hex, uint16, uint32, uint64 } from '../../support/nbd-bytes.js';
import { anyBytes, edge32, edge64, number32 } from '../grammar.js';
import { bytesStep, fillStep, setupOf, setupStep, STEP, type Step, streamBytes } from '../input.js';
import { type ModelAnswer, type ModelJob, ReaderModel } from '../models/reader-model.js';
import { AS_GIVEN, type Cut, otherwise, type Target } from '../target.js';

/** op8 offset64 length24: one more request is on its way. */
const ASK = STEP.OWN;
/** which8 error32 data: a simple reply to one of those. */
const SIMPLE = STEP.OWN + 1;
/** which8 flags16 type16 data: a chunk of a reply. */
const CHUNK = STEP.OWN + 2;

const OPS: readonly Op[] = [OP.READ, OP.READ, OP.WRITE, OP.FLUSH, OP.ZEROES, OP.STATUS];
const LENGTH_MAX = 40_000;
const IN_FLIGHT_MAX = 64;

interface Setup {
  structured: boolean;
  contextId: number | null;
}

function readSetup(steps: readonly Step[]): Setup {
  return { structured: setupOf(steps, 0) % 3 !== 0, contextId: [1, null, 0, 1][setupOf(steps, 1) % 4] };
}

/** Slots as a link has them. */
class Slots implements ReplySink<ModelJob> {
  readonly answers: ModelAnswer[] = [];
  readonly #slots: LinkSlot<ModelJob>[] = [];
  readonly #free: LinkSlot<ModelJob>[] = [];

  ask(job: ModelJob): bigint {
    const slot = this.#free.pop() ?? this.#add();
    slot.job = job;
    slot.op = job.op;
    slot.offset = job.offset;
    slot.length = job.length;
    return cookieOf(slot);
  }

  /** Those that wait, oldest slot first. */
  get waiting(): bigint[] {
    return this.#slots.filter(({ job }) => job !== null).map(cookieOf);
  }

  find(cookieHigh: number, cookieLow: number): LinkSlot<ModelJob> | null {
    const slot = this.#slots[cookieLow];
    return slot?.job != null && slot.generation === cookieHigh ? slot : null;
  }

  answered(slot: LinkSlot<ModelJob>): void {
    const { op, errno, data, extents } = slot;
    const good = errno === 0;
    this.answers.push({
      cookie: cookieOf(slot),
      errno,
      data: good && op === OP.READ ? Buffer.from(data!) : null,
      extents: good && op === OP.STATUS ? extents : null,
    });
    slot.job = null;
    slot.generation = (slot.generation + 1) >>> 0;
    slot.data = null;
    slot.covered = 0;
    slot.pieces = null;
    slot.extents = null;
    slot.errno = 0;
    this.#free.push(slot);
  }

  #add(): LinkSlot<ModelJob> {
    const slot = new LinkSlot<ModelJob>(this.#slots.length);
    this.#slots.push(slot);
    return slot;
  }
}

function cookieOf({ generation, index }: LinkSlot<ModelJob>): bigint {
  return BigInt(generation) * 2n ** 32n + BigInt(index);
}

/** What happened, so that it can be played again with other cuts: requests, and bytes of the stream. */
type Event = { job: ModelJob } | { bytes: Buffer };

class Run {
  readonly slots = new Slots();
  readonly #reader: ReplyReader<ModelJob>;
  readonly events: Event[] = [];
  readonly asked: { cookie: bigint; job: ModelJob }[] = [];
  flaw: string | null = null;

  constructor({ structured, contextId }: Setup) {
    this.#reader = new ReplyReader<ModelJob>(this.slots, { structured, metaContextId: contextId });
  }

  ask(job: ModelJob): void {
    if (this.slots.waiting.length >= IN_FLIGHT_MAX) return;
    this.events.push({ job });
    this.asked.push({ cookie: this.slots.ask(job), job });
  }

  feed(bytes: Buffer, cut: Cut): void {
    this.events.push({ bytes });
    for (const piece of cut(bytes)) this.flaw ??= this.#reader.feed(piece);
  }
}

function jobOf(data: Buffer): ModelJob {
  const op = OPS[data[0] % OPS.length];
  return { op, offset: data.readUIntBE(1, 6), length: op === OP.FLUSH ? 0 : 1 + (data.readUIntBE(7, 3) % LENGTH_MAX) };
}

/** A reply to one of the requests that wait; to nobody, when none does. */
function composed({ kind, data }: Step, waiting: readonly bigint[]): Buffer | null {
  if (kind === SIMPLE && data.length >= 5) {
    return Buffer.concat([hex('67446698'), data.subarray(1, 5), uint64(waiting[data[0] % waiting.length] ?? 0n), data.subarray(5)]);
  }
  if (kind !== CHUNK || data.length < 5) return null;
  const body = data.subarray(5);
  return Buffer.concat([hex('668e33ef'), data.subarray(1, 5), uint64(waiting[data[0] % waiting.length] ?? 0n), uint32(body.length), body]);
}

function drawAsk(random: Random): { step: Step; job: ModelJob } {
  const data = Buffer.concat([
    Buffer.from([random.int(6)]),
    uint64(random.int(100_000)).subarray(2),
    uint32(random.int(random.chance(0.2) ? LENGTH_MAX : 200)).subarray(1),
  ]);
  return { step: { kind: ASK, data }, job: jobOf(data) };
}

function chunk(which: number, flags: number, type: number, ...body: Uint8Array[]): Step {
  return { kind: CHUNK, data: Buffer.concat([Buffer.from([which]), uint16(flags), uint16(type), ...body]) };
}

/** The right chunks of an answer, or nearly. */
function drawChunks(random: Random, which: number, { op, offset, length }: ModelJob): Step[] {
  if (random.chance(0.15))
    return [chunk(which, 1, random.pick([0x8001, 0x8002]), uint32(random.pick([5, 22, 28, 0, 77])), uint16(2), Buffer.from('no'))];
  if (op === OP.STATUS) {
    const extents = Array.from({ length: 1 + random.int(4) }, () => Buffer.concat([uint32(number32(random, 4096)), uint32(random.int(4))]));
    return [chunk(which, random.chance(0.9) ? 1 : 0, 5, uint32(random.chance(0.9) ? 1 : edge32(random)), ...extents)];
  }
  if (op !== OP.READ) return [chunk(which, 1, 0)];
  const steps: Step[] = [];
  const cuts = [0, ...Array.from({ length: random.int(4) }, () => random.int(length)).sort((a, b) => a - b), length];
  for (let i = 1; i < cuts.length; i += 1) {
    const from = cuts[i - 1] + (random.chance(0.03) ? 1 : 0);
    const bytes = cuts[i] - from;
    if (bytes <= 0) continue;
    const flags = i === cuts.length - 1 && random.chance(0.8) ? 1 : 0;
    if (random.chance(0.25)) steps.push(chunk(which, flags, 2, uint64(offset + from), uint32(bytes)));
    else if (bytes <= 2000) steps.push(chunk(which, flags, 1, uint64(offset + from), Buffer.alloc(bytes, random.int(256))));
    else return [];
  }
  if (random.chance(0.3)) random.shuffle(steps);
  if (random.chance(0.3)) steps.push(chunk(which, 1, 0));
  return steps;
}

export const REPLY_READER: Target = {
  name: 'reply-reader',

  draw(random) {
    const steps = [setupStep(random.int(3), random.int(4))];
    const { structured } = readSetup(steps);
    const jobs: ModelJob[] = [];
    for (let left = 1 + random.int(10); left > 0; left -= 1) {
      if (jobs.length === 0 || random.chance(0.5)) {
        const { step, job } = drawAsk(random);
        steps.push(step);
        jobs.push(job);
        continue;
      }
      const which = random.int(jobs.length);
      const [job] = jobs.splice(which, 1);
      if (structured && (job.op === OP.READ || job.op === OP.STATUS || random.chance(0.3))) steps.push(...drawChunks(random, which, job));
      else {
        const error = random.chance(0.8) ? 0 : random.pick([5, 22, 28, 1, 95, 108, 1000, 75, 12]);
        const data = error === 0 && job.op === OP.READ ? job.length : 0;
        steps.push({
          kind: SIMPLE,
          data: Buffer.concat([Buffer.from([which]), uint32(error), Buffer.alloc(data <= 600 ? data : 0, random.int(256))]),
        });
        if (data > 600) steps.push(fillStep(random.int(256), data));
      }
    }
    if (random.chance(0.1))
      steps.push(
        bytesStep(
          random.chance(0.5) ? hex('668e33ef') : hex('67446698'),
          uint32(random.int(4)),
          uint64(random.chance(0.5) ? random.int(4) : edge64(random)),
          anyBytes(random, 20),
        ),
      );
    return steps;
  },

  run(steps) {
    const setup = readSetup(steps);
    const given = new Run(setup);
    for (const step of steps) {
      if (step.kind === ASK && step.data.length >= 10) given.ask(jobOf(step.data));
      const bytes = streamBytes(step) ?? composed(step, given.slots.waiting);
      if (bytes !== null) given.feed(bytes, AS_GIVEN);
    }
    const model = new ReaderModel(setup.structured, setup.contextId);
    let asked = 0;
    for (const event of given.events) {
      if ('bytes' in event) model.feed(event.bytes);
      else model.ask(given.asked[asked++].cookie, event.job);
    }
    assert.equal(given.flaw !== null, model.wrong, given.flaw ?? 'what is wrong is found');
    assert.deepEqual(given.slots.answers, model.answers, 'the answers');
    const cut = new Run(setup);
    const pieces = otherwise();
    for (const event of given.events) {
      if ('bytes' in event) cut.feed(event.bytes, pieces);
      else cut.ask(event.job);
    }
    assert.equal(given.flaw, cut.flaw, 'the same flaw, however the stream is cut');
    assert.deepEqual(given.slots.answers, cut.slots.answers, 'the same answers, however the stream is cut');
  },
};
