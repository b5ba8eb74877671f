// The server's side of the handshake against a model of it: what clients say that know the protocol, know it badly, or not
// at all; signals to shut down between two bytes; exports that are there, not there, and not to be had now.
import assert from 'node:assert/strict';
import { type Agreement, ServerHandshake, type ServerStep } from '../../../gateway/nbd/server-handshake.js';
import type { Export } from '../../../gateway/nbd/export.js';
import type { Random } from '../../sim/random.js';
import { MemoryExports } from '../../support/memory-exports.js';
import { contextData, infoData, optionBytes, uint32 } from '../../support/nbd-bytes.js';
import { buildExport, EXPORT_PLANS, LOCKED, PARITY_CONTEXT } from '../exports.js';
import { anyBytes, edge32, number32, someName } from '../grammar.js';
import { bytesStep, fillStep, repeatStep, STEP, type Step, streamBytes } from '../input.js';
import { checkOptionReplies } from '../models/option-reply-check.js';
import { expectHandshake } from '../models/handshake-model.js';
import { AS_GIVEN, type Cut, joined, otherwise, type Target } from '../target.js';

const SHUT_DOWN = STEP.OWN;
/** Nothing of an export is used but what it is. */
const TABLE = new MemoryExports(
  ...EXPORT_PLANS.map((plan) => buildExport({ ...plan, keptBytes: 0 }, { completion: 'sync', fails: false }).export),
);
const QUERIES = ['base:allocation', 'base:', PARITY_CONTEXT, 'x-fuzz:', 'base:allocation2', '', 'x'.repeat(5000)];

interface Outcome {
  output: Buffer;
  end: 'open' | 'closed' | 'transmits';
  agreement: Agreement | null;
}

function find(name: string): Export | undefined {
  return TABLE.find(name);
}

function play(steps: readonly Step[], cut: Cut): Outcome {
  const machine = new ServerHandshake(TABLE);
  const said: Buffer[] = [];
  const outcome: Outcome = { output: Buffer.alloc(0), end: 'open', agreement: null };
  const take = (first: ServerStep): void => {
    let step = first;
    for (;;) {
      said.push(...step.send);
      if (step.next.kind !== 'attach') break;
      const { name } = step.next;
      step = name === LOCKED ? machine.attachRefused('in use') : machine.attached(find(name));
    }
    if (step.next.kind === 'close') outcome.end = 'closed';
    else if (step.next.kind === 'transmit') {
      outcome.end = 'transmits';
      outcome.agreement = step.next.agreement;
    }
  };
  for (const step of steps) {
    if (step.kind === SHUT_DOWN) machine.shutDown();
    for (const piece of cut(streamBytes(step) ?? Buffer.alloc(0))) if (outcome.end === 'open') take(machine.receive(piece));
  }
  outcome.output = Buffer.concat(said);
  return outcome;
}

function shutDownAt(steps: readonly Step[]): number {
  let bytes = 0;
  for (const step of steps) {
    if (step.kind === SHUT_DOWN) return bytes;
    bytes += streamBytes(step)?.length ?? 0;
  }
  return Number.POSITIVE_INFINITY;
}

/** An option as its step, with the data that belongs to it or other. */
export function drawOption(random: Random): Step[] {
  const option = random.chance(0.95) ? random.pick([1, 2, 3, 5, 6, 6, 7, 7, 7, 8, 8, 9, 10, 10, 10, 11, 11]) : number32(random, 20);
  let data: Buffer = Buffer.alloc(0);
  if (option === 1) data = someName(random);
  else if (option === 6 || option === 7)
    data = infoData(someName(random), ...Array.from({ length: random.int(5) }, () => number32(random, 5) & 0xffff));
  else if (option === 9 || option === 10) {
    const queries = Array.from({ length: random.int(4) }, () => random.pick(QUERIES));
    data = contextData(someName(random).toString('utf8'), ...queries);
  }
  if (random.chance(0.08)) data = anyBytes(random, 40);
  if (random.chance(0.03)) {
    const length = random.pick([4096, 16384, 16385, 65536, 100_000]);
    return [bytesStep(optionBytes(option, Buffer.alloc(0), length)), fillStep(random.int(256), length)];
  }
  return [bytesStep(optionBytes(option, data, random.chance(0.04) ? edge32(random) : data.length))];
}

export const SERVER_HANDSHAKE: Target = {
  name: 'server-handshake',

  draw(random) {
    const steps = [bytesStep(uint32(random.chance(0.9) ? random.pick([1, 3, 3, 3]) : random.pick([0, 2, 4, 5, 0x80000003])))];
    for (let left = 1 + random.int(6); left > 0; left -= 1) steps.push(...drawOption(random));
    if (random.chance(0.1)) steps.push(bytesStep(anyBytes(random, 60)));
    const harmless = optionBytes(random.pick([3, 8, 9, 77]));
    if (random.chance(0.003)) steps.splice(1, 0, repeatStep(random.pick([250, 255, 256, 257, 300]), harmless));
    if (random.chance(0.1)) steps.splice(random.int(steps.length), 0, { kind: SHUT_DOWN, data: Buffer.alloc(0) });
    return steps;
  },

  run(steps) {
    const given = play(steps, AS_GIVEN);
    const stream = Buffer.concat(steps.flatMap((step) => streamBytes(step) ?? []));
    const expected = expectHandshake(stream, shutDownAt(steps));
    const rest = checkOptionReplies(given.output, expected);
    assert.equal(rest.length, 0, 'nothing that was not asked for');
    assert.equal(given.end, expected.end, 'how it ends');
    if (given.agreement !== null) {
      const { export: target, headers, contexts, leftover } = given.agreement;
      assert.equal(target.name, expected.plan!.name, 'the export');
      assert.equal(headers, expected.headers, 'the style of headers');
      assert.deepEqual(
        contexts.map(({ id, known }) => ({ id, name: known?.name ?? 'base:allocation' })),
        expected.contexts,
        'the contexts',
      );
      // What comes in later pieces is for the session too.
      assert(stream.subarray(expected.used).subarray(0, leftover.length).equals(leftover), 'what is left for the session');
    }
    const cut = play(joined(steps), otherwise());
    assert(given.output.equals(cut.output), 'the same answers, however the stream is cut');
    assert.equal(given.end, cut.end, 'the same end, however the stream is cut');
  },
};
