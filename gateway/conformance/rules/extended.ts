// Rules of the transmission phase with extended headers: 32-byte requests and replies, 64-bit lengths, payloads announced by a flag.
import { BASE_ALLOCATION, CHUNK_FLAG_DONE, COMMAND, COMMAND_FLAG, EXPORT_FLAG, REQUEST_MAGIC } from '../../nbd/constants.js';
import { uint32, uint64 } from '../big-endian.js';
import { expectErrno, expectSameBytes, expectSuccess, expectThat } from '../expect.js';
import { lengthOf, statusChunks } from '../extents.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import type { Answer, RawRequest, RawSession } from '../raw-session.js';
import { type Rule, SECTION } from '../rule.js';
import { commandName, NBD_ERRNO } from '../words.js';

const { EINVAL, ENOTSUP, EOVERFLOW } = NBD_ERRNO;
const UNKNOWN_COMMAND = 9;
const EXTENDED = [NEED.EXTENDED];
const STATUS = [NEED.EXTENDED, NEED.ALLOCATION];
const SELECTION = [...STATUS, NEED.STATUS_PAYLOAD];
const FOUR_GIB = 2 ** 32;

function extended(probe: Probe): Promise<RawSession> {
  return probe.session({ headers: 'extended' });
}

/** Right requests and wrong ones, none of which changes anything. */
async function sampled(probe: Probe): Promise<Answer[]> {
  const session = await extended(probe);
  const requests: RawRequest[] = [
    { command: COMMAND.READ, offset: 3 * probe.unit, length: 4 * probe.unit },
    { command: UNKNOWN_COMMAND, offset: 0x8000000000000001n },
    { command: COMMAND.READ, offset: 0xfffffffffffff000n, length: probe.unit },
    { command: COMMAND.READ, offset: probe.unit, length: 0 },
  ];
  if (session.offers(EXPORT_FLAG.SEND_FLUSH)) requests.push({ command: COMMAND.FLUSH });
  const answers: Answer[] = [];
  for (const request of requests) {
    const answer = await session.ask(request);
    answers.push(answer);
    if (answer.closed) break;
  }
  return answers;
}

/** BLOCK_STATUS that names its contexts. */
function selecting(length: number | bigint, ids: readonly number[], flags = 0): RawRequest {
  const payload = Buffer.concat([uint64(length), uint32(...ids)]);
  return { command: COMMAND.BLOCK_STATUS, flags: flags | COMMAND_FLAG.PAYLOAD_LEN, length: payload.length, payload };
}

async function refusedSelection(probe: Probe, request: (ids: number[]) => RawRequest, what: string): Promise<void> {
  const session = await probe.statusSession('extended');
  expectErrno(await session.ask(request([...session.contexts.keys()])), [EINVAL], what);
  await session.staysInStep();
}

/** A payload where none belongs: EINVAL, and it is passed over. */
async function refusedPayload(probe: Probe, command: number): Promise<void> {
  const session = await extended(probe);
  const payload = Buffer.alloc(2 * probe.unit, session.encode({ command: COMMAND.DISC }, 0n));
  const answer = await session.ask({ command, flags: COMMAND_FLAG.PAYLOAD_LEN, length: payload.length, payload });
  expectErrno(answer, [EINVAL], `${commandName(command)} with a payload`);
  await session.staysInStep();
}

export const EXTENDED_RULES: readonly Rule[] = [
  {
    id: 'extended.replies',
    level: 'must',
    section: SECTION.EXTENDED_CHUNK,
    says: 'With extended headers every reply is an extended one, also those without payload and those to unknown commands.',
    needs: EXTENDED,
    async check(probe) {
      for (const { messages, request } of await sampled(probe)) {
        const other = messages.find(({ style }) => style !== 'extended');
        expectThat(other === undefined, 'extended replies', () => `${commandName(request.command)} got one in the ${other!.style} style`);
      }
    },
  },
  {
    id: 'extended.offset',
    level: 'must',
    section: SECTION.EXTENDED_CHUNK,
    says: 'An extended reply repeats the offset of its request, bit by bit, also of one that was refused.',
    needs: EXTENDED,
    async check(probe) {
      for (const { messages, request } of await sampled(probe)) {
        const wanted = BigInt(request.offset ?? 0);
        const other = messages.find(({ offset }) => offset !== wanted);
        expectThat(
          other === undefined,
          `offset 0x${wanted.toString(16)} in the replies to ${commandName(request.command)}`,
          () => `it is 0x${other!.offset.toString(16)}`,
        );
      }
    },
  },
  {
    id: 'extended.cookie',
    level: 'must',
    section: SECTION.TRANSMISSION,
    says: 'An extended reply has the cookie of its request, bit by bit.',
    needs: EXTENDED,
    async check(probe) {
      const session = await extended(probe);
      for (const cookie of [0n, 0xffffffffffffffffn, 0x8000000000000000n])
        expectSuccess(await session.ask({ command: COMMAND.READ, length: probe.unit, cookie }));
    },
  },
  {
    id: 'extended.read',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A READ brings the same bytes as with compact headers; its chunks cover what was asked for, and the last one has DONE.',
    needs: EXTENDED,
    async check(probe) {
      const plain = await (await probe.session()).bytes(probe.unit, 32 * probe.unit);
      const answer = await (await extended(probe)).read(probe.unit, 32 * probe.unit);
      expectSuccess(answer);
      const sum = answer.contents.reduce((total, { length }) => total + length, 0);
      expectThat(sum === plain.length, `${plain.length} bytes`, `the chunks have ${sum}`);
      expectSameBytes(answer.data, plain, 'what is read with compact headers');
      expectThat((answer.messages.at(-1)!.flags & CHUNK_FLAG_DONE) !== 0, 'DONE at last', 'the flag is missing');
    },
  },
  {
    id: 'extended.in-pieces',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'Extended requests are understood however the stream is cut.',
    needs: EXTENDED,
    async check(probe) {
      const session = await extended(probe);
      const answers = [0, 1].map((i) => session.expect({ command: COMMAND.READ, offset: i * probe.unit, length: probe.unit }));
      await session.link.sendInBytes(Buffer.concat(answers.map(({ request, cookie }) => session.encode(request, cookie))));
      for (const answer of answers) expectSuccess(await session.settled(answer), 'READ sent byte by byte');
    },
  },
  {
    id: 'extended.compact-request',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'With extended headers agreed on, a compact request is none: it is not carried out.',
    needs: EXTENDED,
    async check(probe) {
      const session = await extended(probe);
      const answer = session.expect({ command: COMMAND.READ, length: probe.unit });
      session.link.send(uint32(REQUEST_MAGIC), session.encode(answer.request, answer.cookie).subarray(4));
      await session.settled(answer);
      expectThat(!answer.succeeded, 'an error or the end of the connection', () => answer.words);
    },
  },
  {
    id: 'extended.long-read',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A READ of over 4 GiB past the end gets EINVAL or EOVERFLOW; its length is not cut to 32 bits.',
    needs: [...EXTENDED, NEED.NOT_HUGE],
    async check(probe) {
      const session = await extended(probe);
      for (const length of [FOUR_GIB, FOUR_GIB + probe.unit, 2n ** 64n - BigInt(probe.unit)]) {
        expectErrno(await session.ask({ command: COMMAND.READ, length }), [EINVAL, EOVERFLOW], `READ of ${length} bytes`);
      }
      await session.staysInStep();
    },
  },
  {
    id: 'extended.write',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'A WRITE with PAYLOAD_LEN carries as many bytes as its length says, and writes them.',
    needs: [...EXTENDED, NEED.WRITING, NEED.WRITABLE],
    async check(probe) {
      const session = await extended(probe);
      const payload = Buffer.alloc(16 * probe.unit, 'extended headers');
      expectSuccess(await session.write(probe.unit, payload));
      expectSameBytes(await session.bytes(probe.unit, payload.length), payload, 'what was written');
    },
  },
  {
    id: 'extended.write-without-flag',
    level: 'should',
    section: SECTION.COMMAND_FLAGS,
    says: 'Without PAYLOAD_LEN no payload follows, and a WRITE must have the flag: one without it is refused or ends the connection, and no bytes are waited for.',
    needs: [...EXTENDED, NEED.WRITING, NEED.WRITABLE],
    note: 'Only the client breaks a MUST here. A server that takes what follows for the payload writes requests to the disk; one that takes the payload of a client that forgot the flag for requests carries out what somebody wrote into a block. To end the connection avoids both.',
    async check(probe) {
      const session = await extended(probe);
      const answer = await session.ask({ command: COMMAND.WRITE, length: probe.unit, exact: true });
      expectThat(!answer.succeeded, 'WRITE without PAYLOAD_LEN to be refused', () => answer.words);
      if (!answer.closed) await session.staysInStep();
    },
  },
  {
    id: 'extended.refused-write',
    level: 'should',
    section: SECTION.REQUEST,
    says: 'The payload of a WRITE that is refused is passed over.',
    needs: [...EXTENDED, NEED.WRITING, NEED.WRITABLE],
    async check(probe) {
      const session = await extended(probe);
      const payload = Buffer.alloc(8 * probe.unit, session.encode({ command: COMMAND.DISC }, 0n));
      expectErrno(await session.write(session.sizeBytes, payload), [], 'WRITE past the end');
      await session.staysInStep();
    },
  },
  {
    id: 'extended.payload-on-read',
    level: 'should',
    section: SECTION.REQUEST,
    says: 'A READ with PAYLOAD_LEN gets EINVAL after its payload was passed over.',
    needs: EXTENDED,
    check: (probe) => refusedPayload(probe, COMMAND.READ),
  },
  {
    id: 'extended.payload-on-flush',
    level: 'should',
    section: SECTION.REQUEST,
    says: 'A FLUSH with PAYLOAD_LEN gets EINVAL after its payload was passed over.',
    needs: [...EXTENDED, NEED.FLUSH],
    check: (probe) => refusedPayload(probe, COMMAND.FLUSH),
  },
  {
    id: 'extended.payload-on-unknown',
    level: 'should',
    section: SECTION.REQUEST,
    says: 'An unknown command with PAYLOAD_LEN gets EINVAL after its payload was passed over, although nobody knows what it is.',
    needs: EXTENDED,
    check: (probe) => refusedPayload(probe, UNKNOWN_COMMAND),
  },
  {
    id: 'extended.unknown-without-payload',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'Without PAYLOAD_LEN a length announces no bytes, also that of an unknown command, and be it over 4 GiB.',
    needs: EXTENDED,
    async check(probe) {
      const session = await extended(probe);
      for (const length of [probe.unit, 2n ** 40n]) {
        const answer = await session.ask({ command: UNKNOWN_COMMAND, length });
        expectThat(!answer.closed, 'an unknown command to be answered', () => answer.words);
        await session.staysInStep();
      }
    },
  },
  {
    id: 'extended.claimed-payload',
    level: 'should',
    section: SECTION.REQUEST,
    says: 'A payload that claims to be far over the maximum ends the connection.',
    needs: EXTENDED,
    async check(probe) {
      const session = await extended(probe);
      const answer = await session.ask({ command: COMMAND.READ, flags: COMMAND_FLAG.PAYLOAD_LEN, length: 2n ** 40n });
      expectThat(answer.closed, 'the connection to be closed', () => answer.words);
    },
  },
  {
    id: 'extended.zeroes-over-4gib',
    level: 'should',
    section: SECTION.TRANSMISSION,
    says: 'One WRITE_ZEROES may span more than 4 GiB; it does not end the connection, and what succeeded reads as zero at both ends.',
    needs: [...EXTENDED, NEED.WRITING, NEED.WRITABLE, NEED.ZEROES, NEED.HUGE],
    async check(probe) {
      const session = await extended(probe);
      const length = FOUR_GIB + 2 * probe.unit;
      for (const offset of [0, length - probe.unit]) expectSuccess(await session.write(offset, Buffer.alloc(probe.unit, 0x77)));
      const answer = await session.ask({ command: COMMAND.WRITE_ZEROES, length });
      if (!answer.succeeded) return expectErrno(answer, [EINVAL, EOVERFLOW], `WRITE_ZEROES of ${length} bytes`);
      for (const offset of [0, length - probe.unit]) {
        expectThat(
          (await session.bytes(offset, probe.unit)).every((byte) => byte === 0),
          `zeroes at ${offset}`,
          'other bytes are there',
        );
      }
    },
  },
  {
    id: 'extended.trim-over-4gib',
    level: 'should',
    section: SECTION.TRANSMISSION,
    says: 'One TRIM may span more than 4 GiB; it does not end the connection.',
    needs: [...EXTENDED, NEED.WRITING, NEED.WRITABLE, NEED.TRIM, NEED.HUGE],
    async check(probe) {
      const session = await extended(probe);
      const answer = await session.ask({ command: COMMAND.TRIM, length: FOUR_GIB + 2 * probe.unit });
      if (!answer.succeeded) expectErrno(answer, [EINVAL, EOVERFLOW], 'TRIM of over 4 GiB');
      await session.staysInStep();
    },
  },
  {
    id: 'extended.fast-zero-over-4gib',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A FAST_ZERO is carried out or gets ENOTSUP whatever its length; EOVERFLOW is no answer to it.',
    needs: [...EXTENDED, NEED.WRITING, NEED.WRITABLE, NEED.FAST_ZERO, NEED.HUGE],
    async check(probe) {
      const session = await extended(probe);
      const answer = await session.ask({ command: COMMAND.WRITE_ZEROES, flags: COMMAND_FLAG.FAST_ZERO, length: FOUR_GIB + 2 * probe.unit });
      if (!answer.succeeded) expectErrno(answer, [ENOTSUP], 'WRITE_ZEROES with FAST_ZERO of over 4 GiB');
    },
  },
  {
    id: 'extended.status',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'BLOCK_STATUS gets one status chunk for each context, of 8 bytes and whole extents of 16, at least one.',
    needs: STATUS,
    note: 'Drafts of the extension allowed the compact chunk, too; a client that follows the final text need not understand it.',
    async check(probe) {
      const session = await probe.statusSession('extended');
      const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, length: 1024 * 1024 });
      expectSuccess(answer);
      const chunks = statusChunks(answer);
      const came = chunks.map(({ context }) => context).sort((a, b) => a - b);
      expectThat(
        came.join() === [...session.contexts.keys()].sort((a, b) => a - b).join(),
        'one chunk for each context',
        `those of ${came.join(', ') || 'none'} came`,
      );
      for (const { extents, rest, count } of chunks) {
        expectThat(count !== null, 'chunks BLOCK_STATUS_EXT', 'a compact one came');
        expectThat(rest === 0 && extents.length > 0, 'whole extents, at least one', `${extents.length} came, and ${rest} bytes more`);
      }
    },
  },
  {
    id: 'extended.status-count',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'The number of extents that a chunk BLOCK_STATUS_EXT names is 0 or the number of those in it.',
    needs: STATUS,
    async check(probe) {
      const session = await probe.statusSession('extended');
      const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, length: 1024 * 1024 });
      expectSuccess(answer);
      for (const { count, extents } of statusChunks(answer)) {
        expectThat(count === null || count === 0 || count === extents.length, `a count of ${extents.length}`, `it is ${count}`);
      }
    },
  },
  {
    id: 'extended.status-32-bits',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'Contexts of base: use 32 bits of status: the upper half of each is 0.',
    needs: STATUS,
    async check(probe) {
      const session = await probe.statusSession('extended');
      const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, length: 1024 * 1024 });
      expectSuccess(answer);
      const wrong = statusChunks(answer)
        .flatMap(({ extents }) => extents)
        .find(({ status }) => status > 0xffffffffn);
      expectThat(wrong === undefined, 'status of 32 bits', () => `one is 0x${wrong!.status.toString(16)}`);
    },
  },
  {
    id: 'extended.status-req-one',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'With REQ_ONE each chunk has one extent, not longer than what was asked for.',
    needs: STATUS,
    async check(probe) {
      const session = await probe.statusSession('extended');
      const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, flags: COMMAND_FLAG.REQ_ONE, length: probe.unit });
      expectSuccess(answer, 'BLOCK_STATUS with REQ_ONE');
      for (const { extents } of statusChunks(answer)) {
        expectThat(
          extents.length === 1 && extents[0].length <= BigInt(probe.unit),
          `one extent of up to ${probe.unit}`,
          `${extents.map(({ length }) => length).join(', ')} came`,
        );
      }
    },
  },
  {
    id: 'extended.status-over-4gib',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'BLOCK_STATUS may ask about more than 4 GiB at once; it gets at least one extent.',
    needs: [...STATUS, NEED.HUGE],
    async check(probe) {
      const session = await probe.statusSession('extended');
      const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, length: FOUR_GIB + probe.unit });
      expectSuccess(answer, 'BLOCK_STATUS of over 4 GiB');
      const sum = lengthOf(statusChunks(answer)[0]?.extents ?? []);
      expectThat(sum > 0n, 'an extent', 'none came');
    },
  },
  {
    id: 'extended.status-payload-flag',
    level: 'should',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'BLOCK_STATUS_PAYLOAD is not offered to a client that has selected no context.',
    needs: EXTENDED,
    async check(probe) {
      const { flags } = await extended(probe);
      expectThat((flags & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) === 0, 'bit 12 clear', `the flags are 0x${flags.toString(16)}`);
    },
  },
  {
    id: 'extended.status-selected',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A BLOCK_STATUS with a payload gets the contexts that it names, for the length in the payload.',
    needs: SELECTION,
    async check(probe) {
      const session = await probe.statusSession('extended');
      const ids = [...session.contexts.keys()];
      const answer = await session.ask(selecting(probe.unit, ids, COMMAND_FLAG.REQ_ONE));
      expectSuccess(answer, 'BLOCK_STATUS with a payload');
      const chunks = statusChunks(answer);
      expectThat(chunks.length === 1 && chunks[0].context === ids[0], `one chunk of context ${ids[0]}`, `${chunks.length} came`);
      const { length } = chunks[0].extents[0];
      expectThat(length <= BigInt(probe.unit), `at most ${probe.unit} bytes`, `the extent has ${length}`);
    },
  },
  {
    id: 'extended.status-subset',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'Contexts that are selected and not named in the payload are not reported.',
    needs: [...SELECTION, NEED.TWO_CONTEXTS],
    async check(probe) {
      const session = await probe.session({ headers: 'extended', contexts: probe.facts.contexts });
      for (const id of session.contexts.keys()) {
        const answer = await session.ask(selecting(probe.unit, [id]));
        expectSuccess(answer, 'BLOCK_STATUS with a payload');
        const came = statusChunks(answer).map(({ context }) => context);
        expectThat(came.join() === String(id), `the context ${id}`, `those of ${came.join(', ') || 'none'} came`);
      }
    },
  },
  {
    id: 'extended.status-duplicate-id',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A BLOCK_STATUS whose payload names a context twice gets EINVAL.',
    needs: SELECTION,
    check: (probe) => refusedSelection(probe, ([id]) => selecting(probe.unit, [id, id]), 'BLOCK_STATUS with a context twice'),
  },
  {
    id: 'extended.status-unknown-id',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A BLOCK_STATUS whose payload names a context that was not selected gets EINVAL.',
    needs: SELECTION,
    check: (probe) =>
      refusedSelection(
        probe,
        (ids) => selecting(probe.unit, [...ids, Math.max(...ids) ^ 0x40000000]),
        'BLOCK_STATUS with an unknown context',
      ),
  },
  {
    id: 'extended.status-payload-length',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'The payload of a BLOCK_STATUS is 8 bytes and 4 for each context; another length gets EINVAL or ends the connection.',
    needs: SELECTION,
    async check(probe) {
      for (const length of [7, 11, 13]) {
        const session = await probe.statusSession('extended');
        const payload = Buffer.alloc(length);
        const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, flags: COMMAND_FLAG.PAYLOAD_LEN, length, payload });
        if (answer.closed) continue;
        expectErrno(answer, [EINVAL], `BLOCK_STATUS with a payload of ${length} bytes`);
        await session.staysInStep();
      }
    },
  },
  {
    id: 'extended.status-payload-not-offered',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'Where BLOCK_STATUS_PAYLOAD is not offered, a BLOCK_STATUS with a payload gets EINVAL after that was passed over.',
    needs: [...STATUS, NEED.NO_STATUS_PAYLOAD],
    check: (probe) => refusedSelection(probe, (ids) => selecting(probe.unit, ids), 'BLOCK_STATUS with a payload'),
  },
  {
    id: 'extended.contexts',
    level: 'must',
    section: SECTION.METADATA,
    says: 'Contexts may be selected after EXTENDED_HEADERS alone, without structured replies.',
    needs: STATUS,
    async check(probe) {
      const session = await probe.session({ headers: 'extended', contexts: [BASE_ALLOCATION] });
      expectThat(session.contexts.size === 1, 'one context', `${session.contexts.size} were selected`);
    },
  },
];
