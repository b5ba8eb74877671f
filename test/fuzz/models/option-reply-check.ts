// Holds the answers of a server's handshake against what they must be: option replies, whole ones and no others, and
// behind them what EXPORT_NAME is answered with.
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import { STRING_BYTES_MAX } from '../../../gateway/nbd/constants.js';
import { parseOptionReplies } from '../../support/nbd-bytes.js';
import type { HandshakeExpectation } from './handshake-model.js';

/** Checks that `output` begins with what `expectation` wants; gives what is behind it. */
export function checkOptionReplies(output: Buffer, { replies, bare, end }: HandshakeExpectation): Buffer {
  let at = 0;
  for (const expected of replies) {
    assert(at + 20 <= output.length, `no answer to option ${expected.option}`);
    const length = output.readUInt32BE(at + 16);
    assert(at + 20 + length <= output.length, 'half an option reply');
    const [reply] = parseOptionReplies(output.subarray(at, at + 20 + length));
    at += 20 + length;
    assert.equal(reply.option, expected.option, 'the option that is answered');
    assert(
      expected.types.includes(reply.type),
      `option ${expected.option} got ${reply.type.toString(16)} instead of ${expected.types.map((type) => type.toString(16))}`,
    );
    if (expected.data !== null) assert(reply.data.equals(expected.data), `the data of reply ${reply.type} to option ${expected.option}`);
    else assert(reply.data.length <= STRING_BYTES_MAX && isUtf8(reply.data), 'a message of UTF-8, not too long');
  }
  if (bare !== null) {
    assert(output.subarray(at, at + bare.length).equals(bare), 'the answer to EXPORT_NAME');
    at += bare.length;
  }
  if (end !== 'transmits') assert.equal(at, output.length, 'nothing that was not asked for');
  return output.subarray(at);
}
