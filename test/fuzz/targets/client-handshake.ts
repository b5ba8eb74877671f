// The client's side of the handshake against a model of it: servers that know the protocol, know it badly, or not at all.
// A step may answer whatever option the client asked last, so that a client that asks for more some day is still answered.
import assert from 'node:assert/strict';
import { ClientHandshake, type ClientStep, type ClientWishes } from '../../../gateway/nbd/client-handshake.js';
import type { Random } from '../../sim/random.js';
import { hex, optionReplyBytes, uint16, uint32, uint64 } from '../../support/nbd-bytes.js';
import { anyBytes, edge32, edge64, number32 } from '../grammar.js';
import { bytesStep, setupOf, setupStep, STEP, type Step, streamBytes } from '../input.js';
import { expectClient, type ModelWishes } from '../models/client-model.js';
import { type Cut, otherwise, type Target } from '../target.js';

/** type32 data: the answer to the option that was asked last. */
const ANSWER = STEP.OWN;
const ABORT = 2;
const NAME = 'disk';

interface Outcome {
  said: Buffer;
  result: ClientStep['outcome'];
}

function readWishes(steps: readonly Step[]): ClientWishes {
  const wishes: ClientWishes = { exportName: NAME, structured: setupOf(steps, 0) % 4 !== 3, tls: setupOf(steps, 3) % 4 === 3 };
  const extended = setupOf(steps, 1) % 8;
  if (extended >= 6) wishes.extended = extended === 7;
  const status = setupOf(steps, 2) % 8;
  if (status >= 6) wishes.status = status === 7;
  return wishes;
}

/** All that is not said is as `structured` is. */
function spelledOut({ structured = true, extended = structured, status = structured, tls = false }: ClientWishes): ModelWishes {
  return { structured, extended, status, tls };
}

class Run {
  readonly #machine: ClientHandshake;
  readonly #said: Buffer[] = [];
  readonly heard: Buffer[] = [];
  #result: Outcome['result'] = null;

  constructor(wishes: ClientWishes) {
    this.#machine = new ClientHandshake(wishes);
  }

  get outcome(): Outcome {
    return { said: Buffer.concat(this.#said), result: this.#result };
  }

  /** `more`: the piece is not the last of those that were sent at once. */
  hear(bytes: Buffer, more = false): void {
    this.heard.push(bytes);
    if (this.#result !== null) return;
    const step = this.#machine.receive(bytes);
    this.#take(step);
    if (!step.starttls) return;
    // What is in plain behind the answer is no TLS, and goes no further than there.
    if (more) this.#result = { ok: false, code: 'protocol-error', message: 'no TLS' };
    else this.#take(this.#machine.secured());
  }

  #take({ send, outcome }: ClientStep): void {
    this.#said.push(...send);
    this.#result = outcome;
  }

  answer(data: Buffer): void {
    const { asked } = parseAsked(Buffer.concat(this.#said));
    if (data.length >= 4 && asked.length > 0) this.hear(optionReplyBytes(asked.at(-1)!, data.readUInt32BE(0), data.subarray(4)));
  }
}

/** What a client said: its flags, and the options in order, without a parting ABORT. */
function parseAsked(said: Buffer): { asked: number[]; aborted: boolean } {
  const asked: number[] = [];
  for (let at = 4; at < said.length; ) {
    assert.equal(said.toString('latin1', at, at + 8), 'IHAVEOPT', 'the magic of an option');
    const length = said.readUInt32BE(at + 12);
    assert(at + 16 + length <= said.length, 'a whole option');
    asked.push(said.readUInt32BE(at + 8));
    at += 16 + length;
  }
  const aborted = asked.at(-1) === ABORT;
  return { asked: aborted ? asked.slice(0, -1) : asked, aborted };
}

/** With TLS each piece is cut for itself: what was sent at once makes a difference there. */
function replay(heard: readonly Buffer[], wishes: ClientWishes, cut: Cut): Outcome {
  const run = new Run(wishes);
  for (const bytes of wishes.tls ? heard : [Buffer.concat(heard)]) {
    const pieces = cut(bytes);
    for (const [i, piece] of pieces.entries()) run.hear(piece, i < pieces.length - 1);
  }
  return run.outcome;
}

function drawInfo(random: Random): Buffer {
  switch (random.int(4)) {
    case 0:
      return Buffer.concat([
        uint16(3),
        uint32(random.pick([1, 512, 4096, 3, 0])),
        uint32(random.pick([4096, 512, 1, 65536])),
        uint32(edge32(random)),
      ]);
    case 1:
      return Buffer.concat([uint16(number32(random, 4) & 0xffff), anyBytes(random, 20)]);
    default:
      return Buffer.concat([
        uint16(0),
        uint64(random.chance(0.2) ? edge64(random) : 8192),
        uint16(random.chance(0.9) ? 0x1ed : random.int(65536)),
      ]);
  }
}

function answer(type: number, data: Buffer = Buffer.alloc(0)): Step {
  return { kind: ANSWER, data: Buffer.concat([uint32(type), data]) };
}

function drawAnswer(random: Random): Step {
  if (random.chance(0.4)) return answer(1, random.chance(0.05) ? anyBytes(random, 5) : undefined);
  if (random.chance(0.3)) return answer(3, drawInfo(random));
  if (random.chance(0.3))
    return answer(4, Buffer.concat([uint32(random.int(3)), Buffer.from(random.chance(0.9) ? 'base:allocation' : 'base:other')]));
  if (random.chance(0.7)) return answer(2 ** 31 + 1 + random.int(11), random.chance(0.5) ? Buffer.from('no') : undefined);
  return answer(random.chance(0.5) ? random.int(8) : edge32(random), anyBytes(random, random.chance(0.1) ? 9000 : 20));
}

export const CLIENT_HANDSHAKE: Target = {
  name: 'client-handshake',

  draw(random) {
    const flags = random.chance(0.9) ? 3 : random.int(random.chance(0.5) ? 8 : 65536);
    const second = random.chance(0.97) ? '49484156454f5054' : '0000420281861253';
    const steps = [
      setupStep(random.int(4), random.int(8), random.int(8), random.int(4)),
      bytesStep(hex('4e42444d41474943'), hex(second), uint16(flags)),
    ];
    const described = answer(3, drawInfo(random));
    const info = [described, random.chance(0.2) ? described : answer(3, drawInfo(random))];
    if (readWishes(steps).tls) {
      const behind = random.chance(0.1) ? [drawInfo(random)] : [];
      if (behind.length > 0) steps.push(bytesStep(optionReplyBytes(5, 1), ...behind));
      else if (random.chance(0.95)) steps.push(answer(1));
    }
    if (random.chance(0.3)) steps.push(answer(random.pick([2 ** 31 + 1, 2 ** 31 + 3])));
    if (random.chance(0.005)) {
      steps.splice(0, steps.length, setupStep(3), steps[1]);
      for (let left = random.pick([63, 64, 65]); left > 0; left -= 1) steps.push(answer(3, uint16(9)));
    }
    if (random.chance(0.5))
      steps.push(
        answer(1),
        answer(4, Buffer.concat([uint32(random.int(3)), Buffer.from('base:allocation')])),
        answer(1),
        ...info,
        answer(1),
      );
    else if (random.chance(0.3)) steps.push(answer(2 ** 31 + 1), ...info, answer(1));
    else for (let left = random.int(8); left > 0; left -= 1) steps.push(drawAnswer(random));
    if (random.chance(0.02)) for (let left = 70; left > 0; left -= 1) steps.push(answer(3, drawInfo(random)));
    if (random.chance(0.15)) steps.push(bytesStep(uint64(edge64(random)), uint16(random.int(4)), anyBytes(random, 130)));
    if (random.chance(0.2))
      steps.splice(1 + random.int(steps.length), 0, random.chance(0.5) ? drawAnswer(random) : bytesStep(anyBytes(random, 30)));
    return steps;
  },

  run(steps) {
    const wishes = readWishes(steps);
    const run = new Run(wishes);
    for (const step of steps) {
      const bytes = streamBytes(step);
      if (bytes !== null) run.hear(bytes);
      else if (step.kind === ANSWER) run.answer(step.data);
    }
    const { said, result } = run.outcome;
    const { asked, aborted } = parseAsked(said);
    const stream = Buffer.concat(run.heard);
    let heardBytes = 0;
    const pieceEnds = new Set(run.heard.map((piece) => (heardBytes += piece.length)));
    const expected = expectClient(stream, spelledOut(wishes), pieceEnds);
    if (stream.length >= 18) assert.deepEqual(asked, expected.asked, 'what the client asks');
    const verdict = result === null ? 'waits' : result.ok ? 'agrees' : 'refuses';
    assert.equal(verdict, expected.verdict, result === null || result.ok ? 'how it ends' : `how it ends: ${result.message}`);
    assert(!aborted || verdict === 'refuses', 'ABORT only where the client gives up');
    if (result?.ok) {
      const { sizeBytes, flags, structured, extended, metaContextId, block, leftover } = result.value;
      assert.equal(BigInt(sizeBytes), expected.sizeBytes, 'the size');
      assert.deepEqual(
        { flags, structured, extended, metaContextId, block },
        {
          flags: expected.flags,
          structured: expected.structured,
          extended: expected.extended,
          metaContextId: expected.contextId,
          block: expected.block,
        },
      );
      assert(stream.subarray(expected.used).subarray(0, leftover.length).equals(leftover), 'what is left over');
    }
    const cut = replay(run.heard, wishes, otherwise());
    if (expected.injected) {
      assert.deepEqual([cut.result?.ok, parseAsked(cut.said).asked], [false, asked], 'nothing follows STARTTLS, however it is cut');
      return;
    }
    assert(said.equals(cut.said), 'the same options, however the stream is cut');
    assert.deepEqual(describe(result), describe(cut.result), 'the same end, however the stream is cut');
  },
};

/** All but what is left over, which depends on the cut. */
function describe(result: Outcome['result']): unknown {
  return result?.ok ? { ...result.value, leftover: null } : result;
}
