// The server's side of the handshake against a model of it: what clients say that know the protocol, know it badly, or not
// at all; signals to shut down between two bytes; exports that are there, not there, and not to be had now; TLS wherever it
// may begin, with what was said in plain before it, and what somebody put behind it.
import assert from 'node:assert/strict';
import {
  type Agreement,
  type ExportsInSight,
  ServerHandshake,
  type ServerStep,
  type TlsMode,
} from '../../../gateway/nbd/server-handshake.js';
import type { Random } from '../../sim/random.js';
import { MemoryExports } from '../../support/memory-exports.js';
import { contextData, infoData, optionBytes, optionReplyBytes, uint32 } from '../../support/nbd-bytes.js';
import { buildExport, EXPORT_PLANS, LOCKED, PARITY_CONTEXT, SECRET } from '../exports.js';
import { anyBytes, edge32, number32, someName } from '../grammar.js';
import { bytesStep, fillStep, repeatStep, setupOf, setupStep, STEP, type Step, streamBytes } from '../input.js';
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

interface Setup {
  tls: TlsMode;
  /** Who has TLS is told that there is nothing for him. */
  refused: boolean;
}

const MODES: readonly TlsMode[] = ['off', 'off', 'off', 'off', 'optional', 'optional', 'optional', 'required'];
const STARTTLS = 5;
const STARTTLS_ACK = optionReplyBytes(STARTTLS, 1);

function readSetup(steps: readonly Step[]): Setup {
  return { tls: MODES[setupOf(steps, 0) % MODES.length], refused: setupOf(steps, 1) % 8 === 7 };
}

function play(steps: readonly Step[], { tls, refused }: Setup, cut: Cut): Outcome {
  let secured = false;
  const inSight = (name: string): boolean => secured || tls === 'off' || name !== SECRET;
  const exports: ExportsInSight = {
    names: () => TABLE.names().filter(inSight),
    find: (name) => (inSight(name) ? TABLE.find(name) : undefined),
  };
  const machine = new ServerHandshake(exports, tls);
  const said: Buffer[] = [];
  const outcome: Outcome = { output: Buffer.alloc(0), end: 'open', agreement: null };
  /** `more`: the piece was not the last of those that were sent at once. */
  const take = (first: ServerStep, more: boolean): void => {
    let step = first;
    for (;;) {
      said.push(...step.send);
      if (step.next.kind === 'attach') {
        const { name } = step.next;
        step = name === LOCKED ? machine.attachRefused('in use') : machine.attached(exports.find(name));
      } else if (step.next.kind === 'starttls' && !more) {
        secured = true;
        step = machine.secured(refused ? 'you get nothing here' : null);
      } else break;
    }
    // What is in plain behind STARTTLS is no TLS, and goes no further than there.
    if (step.next.kind === 'starttls') outcome.end = 'closed';
    if (step.next.kind === 'close') outcome.end = 'closed';
    else if (step.next.kind === 'transmit') {
      outcome.end = 'transmits';
      outcome.agreement = step.next.agreement;
    }
  };
  for (const step of steps) {
    if (step.kind === SHUT_DOWN) machine.shutDown();
    const pieces = cut(streamBytes(step) ?? Buffer.alloc(0));
    for (const [i, piece] of pieces.entries()) if (outcome.end === 'open') take(machine.receive(piece), i < pieces.length - 1);
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

function pieceEnds(steps: readonly Step[]): Set<number> {
  let bytes = 0;
  return new Set(steps.map((step) => (bytes += streamBytes(step)?.length ?? 0)));
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

/** Agreed on in plain, and used in TLS as if it still counted. */
function drawTurncoat(random: Random): Step[] {
  const name = random.pick(EXPORT_PLANS.slice(0, 5)).name;
  const style = optionBytes(random.pick([8, 11]));
  const select = optionBytes(10, contextData(name, 'base:allocation', PARITY_CONTEXT));
  const again = random.chance(0.5) ? [bytesStep(style)] : [];
  return [bytesStep(style), bytesStep(select), bytesStep(optionBytes(STARTTLS)), ...again, bytesStep(optionBytes(7, infoData(name, 3)))];
}

export const SERVER_HANDSHAKE: Target = {
  name: 'server-handshake',

  draw(random) {
    const steps = [
      setupStep(random.int(8), random.int(8)),
      bytesStep(uint32(random.chance(0.9) ? random.pick([1, 3, 3, 3]) : random.pick([0, 2, 4, 5, 0x80000003]))),
    ];
    for (let left = 1 + random.int(6); left > 0; left -= 1) steps.push(...drawOption(random));
    if (readSetup(steps).tls === 'optional' && random.chance(0.1)) steps.push(...drawTurncoat(random));
    else if (readSetup(steps).tls !== 'off' && random.chance(0.8)) {
      const behind = random.chance(0.9) ? [] : drawOption(random).flatMap((step) => streamBytes(step) ?? []);
      steps.splice(2 + random.int(steps.length - 1), 0, bytesStep(optionBytes(STARTTLS), ...behind));
    }
    if (random.chance(0.1)) steps.push(bytesStep(anyBytes(random, 60)));
    const harmless = optionBytes(random.pick([3, 8, 9, 77]));
    if (random.chance(0.003)) steps.splice(2, 0, repeatStep(random.pick([250, 255, 256, 257, 300]), harmless));
    if (random.chance(0.1)) steps.splice(1 + random.int(steps.length), 0, { kind: SHUT_DOWN, data: Buffer.alloc(0) });
    return steps;
  },

  run(steps) {
    const setup = readSetup(steps);
    const given = play(steps, setup, AS_GIVEN);
    const stream = Buffer.concat(steps.flatMap((step) => streamBytes(step) ?? []));
    const expected = expectHandshake(stream, { ...setup, shutDownAt: shutDownAt(steps), pieceEnds: pieceEnds(steps) });
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
    // Only without TLS it makes no difference what is sent at once; and the end of STARTTLS may come before what is behind it.
    const cut = play(setup.tls === 'off' ? joined(steps) : steps, setup, otherwise());
    const acknowledged = expected.injected && cut.output.equals(Buffer.concat([given.output, STARTTLS_ACK]));
    assert(given.output.equals(cut.output) || acknowledged, 'the same answers, however the stream is cut');
    assert.equal(given.end, cut.end, 'the same end, however the stream is cut');
  },
};
