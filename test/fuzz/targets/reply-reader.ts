// The reader of a node's answers against a model of it, with slots used again as a link does: nodes that answer right, twice,
// for others, too much, too little, or nonsense. Whatever they send ends in answers, a reason or a wait.
import assert from 'node:assert/strict';
import { OP, type Op } from '../../../replication/device.js';
import { LinkSlot, ReplyReader, type ReplySink } from '../../../gateway/upstream/reply-reader.js';
import type { Random } from '../../sim/random.js';
import { hex, uint16, uint32, uint64 } from '../../support/nbd-bytes.js';
import { anyBytes, edge32, edge64 } from '../grammar.js';
import { bytesStep, fillStep, setupOf, setupStep, STEP, type Step, streamBytes } from '../input.js';
import { type ModelAnswer, type ModelJob, type ModelRules, ReaderModel } from '../models/reader-model.js';
import { AS_GIVEN, type Cut, otherwise, type Target } from '../target.js';

/** op8 offset48 length24 flags8: one more request is on its way. */
const ASK = STEP.OWN;
/** which8 error32 data: a simple reply to one of those. */
const SIMPLE = STEP.OWN + 1;
/** which8 flags16 type16 data: a chunk of a reply, in the style that was agreed on. */
const CHUNK = STEP.OWN + 2;
/** astray8 and a chunk: with extended headers, its offset is so far from that of its request. */
const ASTRAY = STEP.OWN + 3;

const OPS: readonly Op[] = [OP.READ, OP.READ, OP.WRITE, OP.FLUSH, OP.ZEROES, OP.STATUS];
const LENGTH_MAX = 40_000;
const IN_FLIGHT_MAX = 64;

const STYLES = ['simple', 'structured', 'extended'] as const;

function readRules(steps: readonly Step[]): ModelRules {
  return {
    style: STYLES[setupOf(steps, 0) % 3],
    contextId: [1, null, 0, 1][setupOf(steps, 1) % 4],
    sizeBytes: [150_000, 2 ** 40, 2 ** 40 - 4000, 2 ** 50][setupOf(steps, 2) % 4],
    blockBytes: [1, 1, 512, 4096][setupOf(steps, 3) % 4],
  };
}

interface Waiting {
  cookie: bigint;
  offset: number;
}

/** Slots as a link has them. */
class Slots implements ReplySink<ModelJob> {
  readonly answers: ModelAnswer[] = [];
  misplacedErrors = 0;
  readonly #slots: LinkSlot<ModelJob>[] = [];
  readonly #free: LinkSlot<ModelJob>[] = [];

  ask(job: ModelJob): bigint {
    const slot = this.#free.pop() ?? this.#add();
    slot.job = job;
    slot.op = job.op;
    slot.offset = job.offset;
    slot.length = job.length;
    slot.fast = job.fast;
    slot.one = job.one;
    return cookieOf(slot);
  }

  /** Those that wait, oldest slot first. */
  get waiting(): Waiting[] {
    return this.#slots.filter(({ job }) => job !== null).map((slot) => ({ cookie: cookieOf(slot), offset: slot.offset }));
  }

  misplaced(): void {
    this.misplacedErrors += 1;
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
    slot.errors = 0;
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

  constructor({ style, contextId, sizeBytes, blockBytes }: ModelRules) {
    this.#reader = new ReplyReader<ModelJob>(this.slots, {
      structured: style !== 'simple',
      extended: style === 'extended',
      metaContextId: contextId,
      sizeBytes,
      block: { minimum: blockBytes },
    });
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

/** A request that may be asked: within the export, in whole blocks but at its end. */
function jobOf(data: Buffer, { style, sizeBytes, blockBytes }: ModelRules): ModelJob {
  const op = OPS[data[0] % OPS.length];
  const fast = op === OP.ZEROES && ((data[10] ?? 0) & 1) !== 0;
  const one = op === OP.STATUS && ((data[10] ?? 0) & 1) !== 0;
  if (op === OP.FLUSH) return { op, offset: 0, length: 0, fast, one };
  const place = data.readUIntBE(1, 6) % sizeBytes;
  const offset = place - (place % blockBytes);
  const wide = style === 'extended' && op === OP.STATUS ? 2 ** 20 : 1;
  const wanted = (1 + (data.readUIntBE(7, 3) % LENGTH_MAX)) * wide;
  return { op, offset, length: Math.min(Math.ceil(wanted / blockBytes) * blockBytes, sizeBytes - offset), fast, one };
}

/** A reply to one of the requests that wait; to nobody, when none does. */
function composed({ kind, data }: Step, { style }: ModelRules, waiting: readonly Waiting[]): Buffer | null {
  if (kind === ASTRAY && data.length >= 6) return composedChunk(data.subarray(1), style === 'extended', waiting, data[0]);
  if (kind === CHUNK && data.length >= 5) return composedChunk(data, style === 'extended', waiting, 0);
  if (kind !== SIMPLE || data.length < 5) return null;
  const { cookie } = waiting[data[0] % waiting.length] ?? NOBODY;
  return Buffer.concat([hex('67446698'), data.subarray(1, 5), uint64(cookie), data.subarray(5)]);
}

const NOBODY: Waiting = { cookie: 0n, offset: 0 };

function composedChunk(data: Buffer, extended: boolean, waiting: readonly Waiting[], astray: number): Buffer {
  const { cookie, offset } = waiting[data[0] % waiting.length] ?? NOBODY;
  const body = data.subarray(5);
  const head = [hex(extended ? '6e8a278c' : '668e33ef'), data.subarray(1, 5), uint64(cookie)];
  const rest = extended ? [uint64(offset + astray), uint64(body.length)] : [uint32(body.length)];
  return Buffer.concat([...head, ...rest, body]);
}

function drawAsk(random: Random, rules: ModelRules): { step: Step; job: ModelJob } {
  const place = random.chance(0.2) ? rules.sizeBytes - 1 - random.int(9000) : random.int(100_000);
  const data = Buffer.concat([
    Buffer.from([random.int(6)]),
    uint64(place).subarray(2),
    uint32(random.int(random.chance(0.2) ? LENGTH_MAX : 200)).subarray(1),
    Buffer.from([random.chance(0.3) ? 1 : 0]),
  ]);
  return { step: { kind: ASK, data }, job: jobOf(data, rules) };
}

function chunk(which: number, flags: number, type: number, ...body: Uint8Array[]): Step {
  return { kind: CHUNK, data: Buffer.concat([Buffer.from([which]), uint16(flags), uint16(type), ...body]) };
}

function drawError(random: Random, which: number, { offset, length }: ModelJob): Step {
  const placed = random.chance(0.5);
  const errno = uint32(random.pick([5, 22, 28, 95, 95, 75, 0, 77]));
  const where = random.chance(0.8) ? uint64(offset + random.int(length + 1)) : uint64(edge64(random));
  const done = random.chance(0.8) ? 1 : 0;
  return chunk(
    which,
    done,
    placed ? 0x8002 : 0x8001,
    errno,
    uint16(random.chance(0.9) ? 2 : 30),
    Buffer.from('no'),
    placed ? where : Buffer.alloc(0),
  );
}

/** Extents over the request, the last of them now and then beyond it; or something like that. */
function drawStatus(random: Random, which: number, { offset, length, one }: ModelJob, { style, blockBytes, sizeBytes }: ModelRules): Step {
  const extents: Buffer[] = [];
  const wide = style === 'extended';
  for (let told = 0; told < length && extents.length < 20; ) {
    let part = (1 + random.int(Math.ceil(length / blockBytes))) * blockBytes;
    if ((one && random.chance(0.9)) || random.chance(0.5)) part = Math.min(part, length - told);
    if (random.chance(0.1) && offset + told + part > sizeBytes) part = sizeBytes - offset - told;
    told += part;
    if (random.chance(0.05)) part = wide ? Number(edge64(random)) : edge32(random);
    const flags = random.int(4);
    if (wide) extents.push(uint64(BigInt(part) % 2n ** 64n), uint32(random.chance(0.97) ? 0 : 1), uint32(flags));
    else extents.push(uint32(part % 2 ** 32), uint32(flags));
    if (random.chance(one ? 0.9 : 0.2)) break;
  }
  const context = uint32(random.chance(0.9) ? 1 : edge32(random));
  const count = extents.length / (wide ? 3 : 2);
  const head = wide ? [context, uint32(random.chance(0.95) ? count : edge32(random))] : [context];
  return chunk(which, random.chance(0.9) ? 1 : 0, random.chance(0.97) ? (wide ? 6 : 5) : 11 - (wide ? 6 : 5), ...head, ...extents);
}

/** The right chunks of an answer, or nearly. */
function drawChunks(random: Random, which: number, job: ModelJob, rules: ModelRules): Step[] {
  const { op, offset, length } = job;
  if (random.chance(0.15)) return Array.from({ length: random.chance(0.8) ? 1 : 2 }, () => drawError(random, which, job));
  if (random.chance(0.02)) return [chunk(which, 1, random.pick([3, 4, 7, 0x7fff, 0x8003, 1, 2, 5, 6]), anyBytes(random, 20))];
  if (op === OP.STATUS) return [drawStatus(random, which, job, rules)];
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
    const steps = [setupStep(random.int(3), random.int(4), random.int(4), random.int(4))];
    const rules = readRules(steps);
    const jobs: ModelJob[] = [];
    for (let left = 1 + random.int(10); left > 0; left -= 1) {
      if (jobs.length === 0 || random.chance(0.5)) {
        const { step, job } = drawAsk(random, rules);
        steps.push(step);
        jobs.push(job);
        continue;
      }
      const which = random.int(jobs.length);
      const [job] = jobs.splice(which, 1);
      const chunked = rules.style === 'structured' && (job.op === OP.READ || job.op === OP.STATUS || random.chance(0.3));
      if (chunked || (rules.style === 'extended' && random.chance(0.98))) {
        const chunks = drawChunks(random, which, job, rules);
        if (chunks.length > 0 && random.chance(0.02)) {
          const at = random.int(chunks.length);
          chunks[at] = { kind: ASTRAY, data: Buffer.concat([Buffer.from([1 + random.int(255)]), chunks[at].data]) };
        }
        steps.push(...chunks);
      } else {
        const error = random.chance(0.8) ? 0 : random.pick([5, 22, 28, 1, 95, 95, 108, 1000, 75, 12]);
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
          hex(random.pick(['668e33ef', '67446698', '6e8a278c'])),
          uint32(random.int(4)),
          uint64(random.chance(0.5) ? random.int(4) : edge64(random)),
          anyBytes(random, 20),
        ),
      );
    return steps;
  },

  run(steps) {
    const rules = readRules(steps);
    const given = new Run(rules);
    for (const step of steps) {
      if (step.kind === ASK && step.data.length >= 10) given.ask(jobOf(step.data, rules));
      const bytes = streamBytes(step) ?? composed(step, rules, given.slots.waiting);
      if (bytes !== null) given.feed(bytes, AS_GIVEN);
    }
    const model = new ReaderModel(rules);
    let asked = 0;
    for (const event of given.events) {
      if ('bytes' in event) model.feed(event.bytes);
      else model.ask(given.asked[asked++].cookie, event.job);
    }
    assert.equal(given.flaw !== null, model.wrong, given.flaw ?? 'what is wrong is found');
    assert.deepEqual(given.slots.answers, model.answers, 'the answers');
    assert.equal(given.slots.misplacedErrors, model.misplaced, 'errors that such a request cannot have');
    const cut = new Run(rules);
    const pieces = otherwise();
    for (const event of given.events) {
      if ('bytes' in event) cut.feed(event.bytes, pieces);
      else cut.ask(event.job);
    }
    assert.equal(given.flaw, cut.flaw, 'the same flaw, however the stream is cut');
    assert.deepEqual(given.slots.answers, cut.slots.answers, 'the same answers, however the stream is cut');
  },
};
