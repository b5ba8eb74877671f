// Rules of the commands that change contents: WRITE, TRIM, WRITE_ZEROES, also where they have to be refused; and of what several
// connections see of them. All of them need the user's permission.
import { COMMAND, COMMAND_FLAG, EXPORT_FLAG, REQUEST_MAGIC } from '../../nbd/constants.js';
import { uint16, uint32, uint64 } from '../big-endian.js';
import { expectErrno, expectSameBytes, expectSuccess, expectThat } from '../expect.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import type { Answer, RawSession } from '../raw-session.js';
import { type Rule, SECTION } from '../rule.js';
import { DoesNotApply } from '../verdict.js';
import { commandName, NBD_ERRNO } from '../words.js';

const MIB = 1024 * 1024;
const { EINVAL, ENOSPC, EPERM, ENOTSUP, EOVERFLOW } = NBD_ERRNO;
const WRITING = [NEED.WRITING, NEED.WRITABLE];

/** Bytes that no other rule writes: they begin with `seed` and go on counting, and none is zero. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((i * 7 + seed * 31 + (i >> 9)) % 255);
  return bytes;
}

/** A payload that, taken for requests, would end the connection: one DISC after the other. */
function disguised(length: number): Buffer {
  const disc = Buffer.concat([uint32(REQUEST_MAGIC), uint16(0, COMMAND.DISC), uint64(0), uint64(0), uint32(0)]);
  return Buffer.alloc(length, disc);
}

/** Sixteen units with a pattern in them, from `at` on. */
async function prepared(probe: Probe, seed: number): Promise<{ session: RawSession; at: number; bytes: Buffer; unit: number }> {
  const session = await probe.session();
  const unit = probe.unit;
  const at = 16 * unit;
  const bytes = pattern(16 * unit, seed);
  expectSuccess(await session.write(at, bytes), 'the WRITE before');
  return { session, at, bytes, unit };
}

/** The middle eight units are changed by `change`; the four on each side must be as before. Gives the middle. */
async function middleAfter(
  probe: Probe,
  seed: number,
  change: (session: RawSession, offset: number, length: number) => Promise<Answer>,
): Promise<{ middle: Buffer; before: Buffer; answer: Answer }> {
  const { session, at, bytes, unit } = await prepared(probe, seed);
  const [start, end] = [4 * unit, 12 * unit];
  const answer = await change(session, at + start, end - start);
  expectThat(!answer.closed, `${commandName(answer.request.command)} to be answered`, () => answer.words);
  const after = await session.bytes(at, bytes.length);
  expectSameBytes(
    Buffer.concat([after.subarray(0, start), after.subarray(end)]),
    Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]),
    'what is beside the range unchanged',
  );
  return { middle: after.subarray(start, end), before: bytes.subarray(start, end), answer };
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

/** TRIM or WRITE_ZEROES. */
function effect(command: number, flags = 0) {
  return (session: RawSession, offset: number | bigint, length: number): Promise<Answer> => session.ask({ command, flags, offset, length });
}

/** One rule for each of the commands that have no payload and change contents; most sentences are the same for both. */
const zeroes = effect(COMMAND.WRITE_ZEROES);
const trim = effect(COMMAND.TRIM);

export const WRITE_RULES: readonly Rule[] = [
  {
    id: 'write.reads-back',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'WRITE puts its payload at its offset, and nothing elsewhere.',
    needs: WRITING,
    async check(probe) {
      const written = pattern(8 * probe.unit, 2);
      const { middle, answer } = await middleAfter(probe, 1, (session, offset) => session.write(offset, written));
      expectSuccess(answer);
      expectSameBytes(middle, written, 'what was written');
    },
  },
  {
    id: 'write.any-byte',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'With a minimum block of 1 any bytes can be written alone, and those beside them stay.',
    needs: [...WRITING, NEED.NO_ALIGNMENT],
    async check(probe) {
      const { session, at, bytes } = await prepared(probe, 3);
      const expected = Buffer.from(bytes);
      for (const [offset, length] of [
        [1, 1],
        [511, 2],
        [1000, 3000],
      ]) {
        const written = pattern(length, 4);
        written.copy(expected, offset);
        expectSuccess(await session.write(at + offset, written), `WRITE of ${length} bytes at ${offset}`);
      }
      expectSameBytes(await session.bytes(at, bytes.length), expected, 'what was written, and the rest as before');
    },
  },
  {
    id: 'write.to-the-end',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'The last block of an export can be written.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      const minimum = probe.facts.block?.minimum ?? 1;
      const offset = session.sizeBytes - (session.sizeBytes % minimum) - probe.unit;
      const written = pattern(probe.unit, 5);
      expectSuccess(await session.write(offset, written), 'WRITE of the last block');
      expectSameBytes(await session.bytes(offset, written.length), written, 'what was written');
    },
  },
  {
    id: 'write.no-content',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'The reply to a WRITE has no content: a simple reply, or a chunk that is NONE or an error.',
    needs: [...WRITING, NEED.STRUCTURED],
    async check(probe) {
      const session = await probe.session();
      const answers = [await session.write(0, pattern(probe.unit, 6)), await session.write(session.sizeBytes, pattern(probe.unit, 6))];
      const other = answers.flatMap(({ chunks }) => chunks).find(({ type }) => type !== 0 && type < 0x8000);
      expectThat(other === undefined, 'NONE or an error', () => `a chunk of type ${other!.type} came`);
    },
  },
  {
    id: 'write.past-end',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A WRITE past the end gets ENOSPC.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.write(session.sizeBytes, pattern(probe.unit, 7)), [ENOSPC], 'WRITE past the end');
    },
  },
  {
    id: 'write.crossing-end',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A WRITE that begins before the end and ends behind it gets ENOSPC.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      const offset = session.sizeBytes - (session.sizeBytes % probe.unit) - probe.unit;
      expectErrno(await session.write(offset, pattern(8 * probe.unit, 8)), [ENOSPC], 'WRITE across the end');
    },
  },
  {
    id: 'write.offset-overflow',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'A WRITE whose end is over 2^64 is refused and does not reach the beginning of the export.',
    needs: WRITING,
    note: 'ENOSPC (past the end) and EINVAL (no such range) are both in the document; a client breaks a mandatory rule here, so the connection may be closed, too.',
    async check(probe) {
      const session = await probe.session();
      const unit = probe.unit;
      const before = pattern(unit, 9);
      expectSuccess(await session.write(0, before));
      const answer = await session.write(2n ** 64n - BigInt(unit), pattern(2 * unit, 10));
      if (!answer.closed) expectErrno(answer, [], 'WRITE across 2^64');
      expectSameBytes(await (await probe.session()).bytes(0, unit), before, 'the beginning unchanged');
    },
  },
  {
    id: 'write.refused-payload-skipped',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'The payload of a WRITE that is refused is passed over: it is not taken for requests.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.write(session.sizeBytes, disguised(128 * probe.unit)), [], 'WRITE past the end');
      await session.staysInStep();
    },
  },
  {
    id: 'write.zero-length',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A WRITE of 0 bytes does not end the connection, whatever it is answered.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      const answer = await session.write(0, Buffer.alloc(0));
      expectThat(!answer.closed, 'WRITE of 0 bytes to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'write.fua',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'Where SEND_FUA is offered, WRITE accepts FUA.',
    needs: [...WRITING, NEED.FUA],
    async check(probe) {
      const session = await probe.session();
      const written = pattern(probe.unit, 11);
      expectSuccess(await session.write(0, written, COMMAND_FLAG.FUA), 'WRITE with FUA');
      expectSameBytes(await session.bytes(0, written.length), written, 'what was written');
    },
  },
  {
    id: 'write.other-flags',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A WRITE with a flag that belongs to another command or is unknown gets EINVAL, and its payload is passed over.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      for (const [name, flag] of [
        ['DF', COMMAND_FLAG.DF],
        ['REQ_ONE', COMMAND_FLAG.REQ_ONE],
        ['bit 13', 1 << 13],
      ] as const) {
        expectErrno(await session.write(0, disguised(probe.unit), flag), [EINVAL], `WRITE with ${name}`);
      }
      await session.staysInStep();
    },
  },
  {
    id: 'write.unaligned',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A WRITE that is not aligned to the minimum block gets EINVAL.',
    needs: [...WRITING, NEED.ALIGNMENT],
    async check(probe) {
      const session = await probe.session();
      const minimum = probe.facts.block!.minimum;
      expectErrno(await session.write(1, pattern(minimum, 12)), [EINVAL], 'WRITE at offset 1');
      expectErrno(await session.write(0, pattern(minimum - 1, 12)), [EINVAL], `WRITE of ${minimum - 1} bytes`);
      await session.staysInStep();
    },
  },
  {
    id: 'write.unaligned-harmless',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'What is refused for its alignment changes nothing.',
    needs: [...WRITING, NEED.ALIGNMENT],
    async check(probe) {
      const { session, at, bytes } = await prepared(probe, 13);
      const minimum = probe.facts.block!.minimum;
      const expected = Buffer.from(bytes);
      const written = pattern(minimum, 14);
      const answer = await session.write(at + 1, written);
      if (answer.closed) throw new DoesNotApply('the server closes the connection on what is not aligned');
      if (answer.succeeded) written.copy(expected, 1);
      expectSameBytes(await session.bytes(at, bytes.length), expected, answer.succeeded ? 'what was written' : 'nothing changed');
    },
  },
  {
    id: 'write.in-pieces',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'Header and payload of a WRITE are understood however the stream is cut.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      const payload = pattern(probe.unit, 15);
      const answer = session.expect({ command: COMMAND.WRITE, length: payload.length, payload });
      await session.link.sendInBytes(session.encode(answer.request, answer.cookie));
      expectSuccess(await session.settled(answer), 'WRITE sent byte by byte');
      expectSameBytes(await session.bytes(0, payload.length), payload, 'what was written');
    },
  },
  {
    id: 'write.pipelined',
    level: 'must',
    section: SECTION.TRANSMISSION,
    says: 'Writes sent one behind the other without waiting are each carried out and answered.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      const unit = probe.unit;
      const payload = pattern(64 * unit, 16);
      const pieces = Array.from({ length: 64 }, (_, i) => payload.subarray(i * unit, (i + 1) * unit));
      const answers = pieces.map((piece, i) => session.expect({ command: COMMAND.WRITE, offset: i * unit, length: unit, payload: piece }));
      session.link.send(...answers.map(({ request, cookie }) => session.encode(request, cookie)));
      for (const answer of answers) expectSuccess(await session.settled(answer));
      expectSameBytes(await session.bytes(0, payload.length), payload, 'what was written');
    },
  },
  {
    id: 'write.before-disc',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'On DISC a server first handles the writes that are outstanding: each gets its reply before the connection ends, and is there.',
    needs: WRITING,
    async check(probe) {
      const session = await probe.session();
      const unit = 8 * probe.unit;
      const payload = pattern(8 * unit, 18);
      const flags = session.offers(EXPORT_FLAG.SEND_FUA) ? COMMAND_FLAG.FUA : 0;
      const answers = Array.from({ length: 8 }, (_, i) => {
        const piece = payload.subarray(i * unit, (i + 1) * unit);
        return session.expect({ command: COMMAND.WRITE, flags, offset: i * unit, length: unit, payload: piece });
      });
      session.link.send(
        ...answers.map(({ request, cookie }) => session.encode(request, cookie)),
        session.encode({ command: COMMAND.DISC }, 0n),
      );
      for (const answer of answers) await session.settled(answer);
      const unanswered = answers.filter(({ closed }) => closed).length;
      expectThat(unanswered === 0, `${answers.length} replies`, `${unanswered} writes had none when the connection ended`);
      expectSameBytes(await (await probe.session()).bytes(0, payload.length), payload, 'what was written');
    },
  },
  {
    id: 'write.32mib',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A payload of 32 MiB is never taken for an attack, and a WRITE of that succeeds unless a smaller maximum was announced.',
    needs: [...WRITING, NEED.ROOM],
    async check(probe) {
      const session = await probe.session();
      const payload = pattern(32 * MIB, 17);
      const answer = await session.write(0, payload);
      if (probe.payloadBytesMax >= 32 * MIB) {
        expectSuccess(answer, 'WRITE of 32 MiB');
        expectSameBytes(await session.bytes(31 * MIB, MIB), payload.subarray(31 * MIB), 'what was written');
      } else expectThat(!answer.closed, 'WRITE of 32 MiB to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'write.over-maximum',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'A WRITE over the maximum payload is carried out, refused with its payload passed over, or ends the connection; nothing else.',
    needs: [...WRITING, NEED.BEYOND_PAYLOAD],
    async check(probe) {
      const session = await probe.session();
      const length = Math.min(probe.facts.sizeBytes, probe.payloadBytesMax + probe.unit);
      const answer = await session.write(0, disguised(length));
      if (!answer.closed) await session.staysInStep();
    },
  },
  {
    id: 'write.claimed-4gib',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A WRITE that claims 4 GiB of payload is refused or ends the connection, without waiting for all of that.',
    needs: WRITING,
    note: 'The document lets a server close on a payload that it deems an attack. To wait for it is not forbidden, but lets every client hold a connection, and its memory if the payload is kept.',
    async check(probe) {
      const session = await probe.session();
      const length = 0xffffffff - (0xffffffff % probe.unit);
      const answer = await session.ask({ command: COMMAND.WRITE, length, payload: Buffer.alloc(64 * 1024) });
      expectThat(!answer.succeeded, 'an error or the end of the connection', () => answer.words);
    },
  },
];

export const TRIM_RULES: readonly Rule[] = [
  {
    id: 'trim.beside',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'TRIM touches nothing outside its range.',
    needs: [...WRITING, NEED.TRIM],
    async check(probe) {
      const { answer } = await middleAfter(probe, 20, trim);
      expectSuccess(answer);
    },
  },
  {
    id: 'trim.past-end',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A TRIM past the end gets EINVAL.',
    needs: [...WRITING, NEED.TRIM],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await trim(session, session.sizeBytes, probe.unit), [EINVAL], 'TRIM past the end');
      expectErrno(await trim(session, 2n ** 64n - BigInt(probe.unit), 2 * probe.unit), [EINVAL], 'TRIM across 2^64');
    },
  },
  {
    id: 'trim.zero-length',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A TRIM of 0 bytes does not end the connection, whatever it is answered.',
    needs: [...WRITING, NEED.TRIM],
    async check(probe) {
      const session = await probe.session();
      const answer = await trim(session, 0, 0);
      expectThat(!answer.closed, 'TRIM of 0 bytes to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'trim.fua',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'Where SEND_FUA is offered, TRIM accepts FUA.',
    needs: [...WRITING, NEED.TRIM, NEED.FUA],
    async check(probe) {
      expectSuccess(await effect(COMMAND.TRIM, COMMAND_FLAG.FUA)(await probe.session(), 0, probe.unit), 'TRIM with FUA');
    },
  },
  {
    id: 'trim.other-flags',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A TRIM with a flag that belongs to another command gets EINVAL.',
    needs: [...WRITING, NEED.TRIM],
    async check(probe) {
      const session = await probe.session();
      for (const [name, flag] of [
        ['NO_HOLE', COMMAND_FLAG.NO_HOLE],
        ['FAST_ZERO', COMMAND_FLAG.FAST_ZERO],
      ] as const) {
        expectErrno(await effect(COMMAND.TRIM, flag)(session, 0, probe.unit), [EINVAL], `TRIM with ${name}`);
      }
    },
  },
  {
    id: 'trim.unaligned',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A TRIM that is not aligned to the minimum block gets EINVAL.',
    needs: [...WRITING, NEED.TRIM, NEED.ALIGNMENT],
    async check(probe) {
      expectErrno(await trim(await probe.session(), 1, probe.unit), [EINVAL], 'TRIM at offset 1');
    },
  },
  {
    id: 'trim.long',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A TRIM longer than the maximum payload, which it does not have, is carried out or refused; it does not end the connection.',
    needs: [...WRITING, NEED.TRIM, NEED.BEYOND_PAYLOAD],
    async check(probe) {
      const session = await probe.session();
      const answer = await trim(session, 0, longest(session, probe));
      if (!answer.succeeded) expectErrno(answer, [EINVAL, EOVERFLOW], 'TRIM of all');
      await session.staysInStep();
    },
  },
];

/** All of the export, as far as 32 bits and its blocks go. */
function longest({ sizeBytes }: RawSession, probe: Probe): number {
  const length = Math.min(sizeBytes, 0xffffffff);
  return length - (length % probe.unit);
}

export const ZEROES_RULES: readonly Rule[] = [
  {
    id: 'zeroes.read-as-zero',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'After WRITE_ZEROES its range reads as zero, and nothing else has changed.',
    needs: [...WRITING, NEED.ZEROES],
    async check(probe) {
      const { middle, answer } = await middleAfter(probe, 30, zeroes);
      expectSuccess(answer);
      expectThat(isZero(middle), 'zeroes', 'other bytes are there');
    },
  },
  {
    id: 'zeroes.no-hole',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'Where SEND_WRITE_ZEROES is offered, NO_HOLE is supported: the range reads as zero.',
    needs: [...WRITING, NEED.ZEROES],
    async check(probe) {
      const { middle, answer } = await middleAfter(probe, 31, effect(COMMAND.WRITE_ZEROES, COMMAND_FLAG.NO_HOLE));
      expectSuccess(answer, 'WRITE_ZEROES with NO_HOLE');
      expectThat(isZero(middle), 'zeroes', 'other bytes are there');
    },
  },
  {
    id: 'zeroes.any-byte',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'With a minimum block of 1 any bytes can be zeroed alone, and those beside them stay.',
    needs: [...WRITING, NEED.ZEROES, NEED.NO_ALIGNMENT],
    async check(probe) {
      const { session, at, bytes } = await prepared(probe, 32);
      const expected = Buffer.from(bytes);
      for (const [offset, length] of [
        [1, 1],
        [511, 2],
        [1000, 3000],
      ]) {
        expected.fill(0, offset, offset + length);
        expectSuccess(await zeroes(session, at + offset, length), `WRITE_ZEROES of ${length} bytes at ${offset}`);
      }
      expectSameBytes(await session.bytes(at, bytes.length), expected, 'zeroes there, and the rest as before');
    },
  },
  {
    id: 'zeroes.past-end',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A WRITE_ZEROES past the end gets ENOSPC.',
    needs: [...WRITING, NEED.ZEROES],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await zeroes(session, session.sizeBytes, probe.unit), [ENOSPC], 'WRITE_ZEROES past the end');
    },
  },
  {
    id: 'zeroes.zero-length',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A WRITE_ZEROES of 0 bytes does not end the connection, whatever it is answered.',
    needs: [...WRITING, NEED.ZEROES],
    async check(probe) {
      const session = await probe.session();
      const answer = await zeroes(session, 0, 0);
      expectThat(!answer.closed, 'WRITE_ZEROES of 0 bytes to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'zeroes.fua',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'Where SEND_FUA is offered, WRITE_ZEROES accepts FUA.',
    needs: [...WRITING, NEED.ZEROES, NEED.FUA],
    async check(probe) {
      const { middle, answer } = await middleAfter(probe, 33, effect(COMMAND.WRITE_ZEROES, COMMAND_FLAG.FUA));
      expectSuccess(answer, 'WRITE_ZEROES with FUA');
      expectThat(isZero(middle), 'zeroes', 'other bytes are there');
    },
  },
  {
    id: 'zeroes.other-flags',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A WRITE_ZEROES with a flag that belongs to another command gets EINVAL.',
    needs: [...WRITING, NEED.ZEROES],
    async check(probe) {
      const session = await probe.session();
      for (const [name, flag] of [
        ['DF', COMMAND_FLAG.DF],
        ['REQ_ONE', COMMAND_FLAG.REQ_ONE],
      ] as const) {
        expectErrno(await effect(COMMAND.WRITE_ZEROES, flag)(session, 0, probe.unit), [EINVAL], `WRITE_ZEROES with ${name}`);
      }
    },
  },
  {
    id: 'zeroes.unaligned',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A WRITE_ZEROES that is not aligned to the minimum block gets EINVAL.',
    needs: [...WRITING, NEED.ZEROES, NEED.ALIGNMENT],
    async check(probe) {
      expectErrno(await zeroes(await probe.session(), 1, probe.unit), [EINVAL], 'WRITE_ZEROES at offset 1');
    },
  },
  {
    id: 'zeroes.long',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A WRITE_ZEROES longer than the maximum payload, which it does not have, is carried out or refused; it does not end the connection.',
    needs: [...WRITING, NEED.ZEROES, NEED.BEYOND_PAYLOAD],
    async check(probe) {
      const session = await probe.session();
      expectSuccess(await session.write(0, pattern(probe.unit, 34)));
      const answer = await zeroes(session, 0, longest(session, probe));
      if (!answer.succeeded) expectErrno(answer, [EINVAL, EOVERFLOW], 'WRITE_ZEROES of all');
      const first = await session.bytes(0, probe.unit);
      expectThat(!answer.succeeded || isZero(first), 'zeroes', 'other bytes are there');
    },
  },
  {
    id: 'zeroes.not-enotsup',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'Where FAST_ZERO is offered, WRITE_ZEROES without that flag never fails with ENOTSUP, however slow it is.',
    needs: [...WRITING, NEED.FAST_ZERO],
    async check(probe) {
      const session = await probe.session();
      for (const flags of [0, COMMAND_FLAG.NO_HOLE]) {
        const answer = await effect(COMMAND.WRITE_ZEROES, flags)(session, 0, 8 * probe.unit);
        expectThat(!answer.closed && answer.errno !== ENOTSUP, 'anything but ENOTSUP', () => answer.words);
      }
    },
  },
  {
    id: 'zeroes.fast',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'WRITE_ZEROES with FAST_ZERO zeroes its range, or fails with ENOTSUP.',
    needs: [...WRITING, NEED.FAST_ZERO],
    async check(probe) {
      const { middle, answer } = await middleAfter(probe, 35, effect(COMMAND.WRITE_ZEROES, COMMAND_FLAG.FAST_ZERO));
      if (!answer.succeeded) expectErrno(answer, [ENOTSUP], 'WRITE_ZEROES with FAST_ZERO');
      expectThat(!answer.succeeded || isZero(middle), 'zeroes', 'other bytes are there');
    },
  },
  {
    id: 'zeroes.fast-refused-harmless',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A FAST_ZERO that fails with ENOTSUP has changed nothing.',
    needs: [...WRITING, NEED.FAST_ZERO],
    async check(probe) {
      const flags = COMMAND_FLAG.FAST_ZERO | COMMAND_FLAG.NO_HOLE;
      const { middle, before, answer } = await middleAfter(probe, 36, effect(COMMAND.WRITE_ZEROES, flags));
      if (answer.succeeded) throw new DoesNotApply('the server zeroes fast here');
      expectSameBytes(middle, before, 'the range as before');
    },
  },
  {
    id: 'zeroes.fast-not-offered',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'FAST_ZERO where it was not offered gets EINVAL.',
    needs: [...WRITING, NEED.ZEROES, NEED.NO_FAST_ZERO],
    async check(probe) {
      const session = await probe.session();
      expectErrno(
        await effect(COMMAND.WRITE_ZEROES, COMMAND_FLAG.FAST_ZERO)(session, 0, probe.unit),
        [EINVAL],
        'WRITE_ZEROES with FAST_ZERO',
      );
      await session.staysInStep();
    },
  },
];

/** Each kind of write on a read-only export. */
async function refusedWrites(probe: Probe): Promise<Answer[]> {
  const session = await probe.session();
  const answers: Answer[] = [];
  for (const send of [
    () => session.write(0, disguised(probe.unit)),
    () => trim(session, 0, probe.unit),
    () => zeroes(session, 0, probe.unit),
  ]) {
    const answer = await send();
    answers.push(answer);
    if (answer.closed) break;
  }
  return answers;
}

export const READ_ONLY_RULES: readonly Rule[] = [
  {
    id: 'read-only.refused',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'An export that is announced read-only takes no WRITE, TRIM or WRITE_ZEROES, and stays as it is.',
    needs: [NEED.WRITING, NEED.READ_ONLY],
    async check(probe) {
      const before = await (await probe.session()).bytes(0, probe.unit);
      for (const answer of await refusedWrites(probe))
        expectThat(!answer.succeeded, `${commandName(answer.request.command)} to be refused`, () => answer.words);
      expectSameBytes(await (await probe.session()).bytes(0, probe.unit), before, 'what was there before');
    },
  },
  {
    id: 'read-only.write',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A WRITE to a read-only export gets EPERM, and its payload is passed over.',
    needs: [NEED.WRITING, NEED.READ_ONLY],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.write(0, disguised(8 * probe.unit)), [EPERM], 'WRITE to a read-only export');
      await session.staysInStep();
    },
  },
  {
    id: 'read-only.trim',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A TRIM of a read-only export gets EPERM.',
    needs: [NEED.WRITING, NEED.READ_ONLY],
    async check(probe) {
      expectErrno(await trim(await probe.session(), 0, probe.unit), [EPERM], 'TRIM of a read-only export');
    },
  },
  {
    id: 'read-only.zeroes',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A WRITE_ZEROES of a read-only export gets EPERM.',
    needs: [NEED.WRITING, NEED.READ_ONLY],
    async check(probe) {
      expectErrno(await zeroes(await probe.session(), 0, probe.unit), [EPERM], 'WRITE_ZEROES of a read-only export');
    },
  },
];

export const MULTI_CONN_RULES: readonly Rule[] = [
  {
    id: 'multi-conn.two',
    level: 'should',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'A server that says CAN_MULTI_CONN lets several connections use the export at once.',
    needs: [NEED.MULTI_CONN],
    async check(probe) {
      const sessions = [await probe.session(), await probe.session(), await probe.session(), await probe.session()];
      for (const session of sessions) await session.staysInStep();
    },
  },
  {
    id: 'multi-conn.flush',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'With CAN_MULTI_CONN, what one connection wrote is seen by every other once a FLUSH on any of them is answered.',
    needs: [...WRITING, NEED.MULTI_CONN, NEED.FLUSH],
    async check(probe) {
      const [writer, flusher, reader] = [await probe.session(), await probe.session(), await probe.session()];
      await reader.bytes(0, 8 * probe.unit);
      const written = pattern(8 * probe.unit, 40);
      expectSuccess(await writer.write(0, written));
      expectSuccess(await flusher.ask({ command: COMMAND.FLUSH }), 'FLUSH on another connection');
      expectSameBytes(await reader.bytes(0, written.length), written, 'on a third connection what was written');
    },
  },
  {
    id: 'multi-conn.fua',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'With CAN_MULTI_CONN, a WRITE with FUA is seen by every other connection once it is answered.',
    needs: [...WRITING, NEED.MULTI_CONN, NEED.FUA],
    async check(probe) {
      const [writer, reader] = [await probe.session(), await probe.session()];
      await reader.bytes(0, 8 * probe.unit);
      const written = pattern(8 * probe.unit, 41);
      expectSuccess(await writer.write(0, written, COMMAND_FLAG.FUA), 'WRITE with FUA');
      expectSameBytes(await reader.bytes(0, written.length), written, 'on another connection what was written');
    },
  },
];
