// The data of options and the payload of a BLOCK_STATUS: taken apart exactly when they are right to the last byte, and into
// what a plain model finds there.
import assert from 'node:assert/strict';
import { parseContextSelection } from '../../../gateway/nbd/context-selection.js';
import { parseInfoRequest, parseMetaContextRequest, parseName } from '../../../gateway/nbd/option-data.js';
import { contextData, infoData, uint32, uint64 } from '../../support/nbd-bytes.js';
import { anyBytes, edge32, edge64, number32, someName } from '../grammar.js';
import { bytesStep, streamBytes } from '../input.js';
import { parseInfo, parseMeta, parseSelection, parseText } from '../models/option-model.js';
import type { Target } from '../target.js';

const KNOWN = [
  { id: 1, known: null },
  { id: 2, known: null },
  { id: 7, known: null },
];
const IDS = KNOWN.map(({ id }) => id);

export const OPTION_DATA: Target = {
  name: 'option-data',

  draw(random) {
    const name = someName(random);
    let data: Buffer;
    switch (random.int(5)) {
      case 0:
        data = infoData(name, ...Array.from({ length: random.int(6) }, () => number32(random, 6) & 0xffff));
        break;
      case 1:
        data = contextData(
          name.toString('utf8'),
          ...Array.from({ length: random.int(5) }, () => random.pick(['base:allocation', 'base:', '', 'é'])),
        );
        break;
      case 2:
        data = Buffer.concat([
          uint64(edge64(random)),
          ...Array.from({ length: random.int(5) }, () => uint32(random.chance(0.8) ? random.pick(IDS) : edge32(random))),
        ]);
        break;
      case 3:
        data = name;
        break;
      default:
        data = anyBytes(random, 40);
    }
    return [bytesStep(data)];
  },

  run(steps) {
    const data = Buffer.concat(steps.flatMap((step) => streamBytes(step) ?? []));
    const before = Buffer.from(data);
    const name = parseName(data);
    assert.equal(name.flaw === null ? name.value : null, parseText(data), 'a name');
    const info = parseInfoRequest(data);
    assert.deepEqual(info.flaw === null ? info.value : null, parseInfo(data), 'an INFO');
    const meta = parseMetaContextRequest(data);
    assert.deepEqual(meta.flaw === null ? meta.value : null, parseMeta(data), 'a META_CONTEXT');
    const selection = parseContextSelection(data, KNOWN);
    const expected = parseSelection(data, IDS);
    assert.equal(selection === null, expected === null, 'whether it is a selection');
    if (selection !== null && expected !== null) {
      assert.deepEqual(new Set(selection.contexts.map(({ id }) => id)), new Set(expected.ids), 'the contexts selected');
      assert.equal(selection.length, Number(expected.length), 'the length asked about');
    }
    for (const parsed of [name, info, meta]) {
      if (parsed.flaw !== null)
        assert(parsed.flaw.reply > 2 ** 31 && Buffer.byteLength(parsed.flaw.message) <= 4096, 'an error with a reason');
    }
    assert(data.equals(before), 'what is read stays as it is');
  },
};
