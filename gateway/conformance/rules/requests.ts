// Rules of the transmission phase as such: transmission flags, forms of replies, cookies, unknown commands, many requests at once, and
// how it ends.
import { CHUNK, CHUNK_ERROR_BIT, CHUNK_FLAG_DONE, COMMAND, COMMAND_FLAG, EXPORT_FLAG } from '../../nbd/constants.js';
import { uint32 } from '../big-endian.js';
import { expectErrno, expectSuccess, expectThat } from '../expect.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import type { Answer, RawRequest, RawSession } from '../raw-session.js';
import { type Rule, SECTION } from '../rule.js';
import { isString } from '../text.js';
import { DoesNotApply } from '../verdict.js';
import { chunkName, commandName, NBD_ERRNO, quoted } from '../words.js';

/** No version of the document defines these; 8 is RESIZE, which is offered by nobody and experimental. */
const UNKNOWN_COMMANDS = [8, 9, 0x7fff, 0xffff];
/** Of the request in an old kernel; reserved for ever. */
const HISTORIC_REQUEST_MAGIC = 0x12560953;
const PIPELINED = 128;
/** Requests outstanding when DISC is sent, and how long each is. */
const OUTSTANDING = { requests: 32, bytes: 256 * 1024 };

/** Replies to a few requests that any server has to answer, right ones and wrong ones, none of which changes anything. */
async function sampled(probe: Probe): Promise<Answer[]> {
  const session = await probe.session();
  const { sizeBytes } = session;
  const unit = probe.unit;
  const requests: RawRequest[] = [
    { command: COMMAND.READ, length: unit },
    { command: COMMAND.READ, offset: sizeBytes, length: unit },
    { command: UNKNOWN_COMMANDS[1] },
    { command: COMMAND.READ, offset: unit, length: 8 * unit },
    { command: COMMAND.READ, length: 0 },
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

async function sampledChunks(probe: Probe) {
  return (await sampled(probe)).flatMap(({ chunks }) => chunks);
}

/** A READ of the first bytes; how they are when nothing is wrong. */
async function readSome(session: RawSession, probe: Probe, length = 16 * probe.unit): Promise<Answer> {
  const answer = await session.read(probe.unit, length);
  expectSuccess(answer);
  return answer;
}

export const FLAG_RULES: readonly Rule[] = [
  {
    id: 'flags.has-flags',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'HAS_FLAGS is set, whatever was agreed on.',
    needs: [],
    async check({ facts }) {
      for (const headers of ['simple', 'structured', 'extended'] as const) {
        const flags = facts.flags[headers];
        if (flags === 0 && headers !== 'simple') continue;
        expectThat((flags & EXPORT_FLAG.HAS_FLAGS) !== 0, 'bit 0 set', `with ${headers} replies the flags are 0x${flags.toString(16)}`);
      }
    },
  },
  {
    id: 'flags.fast-zero-needs-zeroes',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'SEND_FAST_ZERO is clear where SEND_WRITE_ZEROES is.',
    needs: [],
    async check(probe) {
      const { flags } = await probe.session();
      const right = (flags & EXPORT_FLAG.SEND_FAST_ZERO) === 0 || (flags & EXPORT_FLAG.SEND_WRITE_ZEROES) !== 0;
      expectThat(right, 'SEND_WRITE_ZEROES beside SEND_FAST_ZERO', `the flags are 0x${flags.toString(16)}`);
    },
  },
  {
    id: 'flags.status-payload-needs-extended',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'BLOCK_STATUS_PAYLOAD is offered only where extended headers were agreed on.',
    needs: [],
    async check(probe) {
      const { flags } = await probe.session();
      expectThat((flags & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) === 0, 'bit 12 clear', `the flags are 0x${flags.toString(16)}`);
    },
  },
  {
    id: 'flags.fua-on-reading',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'Where SEND_FUA is offered, FUA is accepted on every command, also on those that write nothing.',
    needs: [NEED.FUA],
    async check(probe) {
      const session = await probe.session();
      const flags = COMMAND_FLAG.FUA;
      expectSuccess(await session.ask({ command: COMMAND.READ, flags, length: probe.unit }), 'READ with FUA');
      if (session.offers(EXPORT_FLAG.SEND_FLUSH)) expectSuccess(await session.ask({ command: COMMAND.FLUSH, flags }), 'FLUSH with FUA');
    },
  },
  {
    id: 'flags.fua-not-offered',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'FUA where SEND_FUA is not offered is a flag that does not apply: EINVAL.',
    needs: [NEED.NO_FUA],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.read(0, probe.unit, COMMAND_FLAG.FUA), [NBD_ERRNO.EINVAL], 'READ with FUA');
    },
  },
];

export const SIMPLE_RULES: readonly Rule[] = [
  {
    id: 'simple.only',
    level: 'must',
    section: SECTION.SIMPLE_REPLY,
    says: 'Where nothing else was agreed on, every reply is a simple one: to a READ, to one that fails, to an unknown command.',
    needs: [],
    async check(probe) {
      const session = await probe.session({ headers: 'simple' });
      for (const request of [
        { command: COMMAND.READ, length: probe.unit },
        { command: UNKNOWN_COMMANDS[1] },
        { command: COMMAND.READ, offset: session.sizeBytes, length: probe.unit },
      ]) {
        const answer = await session.ask(request);
        const other = answer.messages.find(({ style }) => style !== 'simple');
        expectThat(other === undefined, 'simple replies', () => `${commandName(request.command)} got a reply in the ${other!.style} style`);
        if (answer.closed) break;
      }
    },
  },
  {
    id: 'simple.read-data',
    level: 'must',
    section: SECTION.SIMPLE_REPLY,
    says: 'A simple reply to a READ that succeeds carries exactly the bytes asked for: the next reply begins behind them.',
    needs: [],
    async check(probe) {
      const session = await probe.session({ headers: 'simple' });
      for (const length of [probe.unit, 3 * probe.unit, 64 * 1024]) expectSuccess(await session.read(0, length));
      await session.staysInStep();
    },
  },
  {
    id: 'simple.error-without-data',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A simple reply to a READ that fails carries no data, or the connection is closed.',
    needs: [],
    async check(probe) {
      const session = await probe.session({ headers: 'simple' });
      const answer = await session.read(session.sizeBytes, probe.unit);
      if (answer.closed) return;
      expectErrno(answer, [], 'READ past the end');
      await session.staysInStep();
    },
  },
];

export const CHUNK_RULES: readonly Rule[] = [
  {
    id: 'chunk.read',
    level: 'must',
    section: SECTION.CHUNK,
    says: 'With structured replies a READ never gets a simple reply, not even one that fails early.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const session = await probe.session();
      for (const [flags, offset] of [
        [0, 0],
        [0, session.sizeBytes],
        [COMMAND_FLAG.NO_HOLE, 0],
      ] as const) {
        const answer = await session.read(offset, probe.unit, flags);
        if (answer.closed) return;
        expectThat(
          answer.messages[0].style === 'structured',
          'a structured reply',
          () => `${answer.words} in the ${answer.messages[0].style} style`,
        );
      }
    },
  },
  {
    id: 'chunk.cover',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'The content chunks of a READ that succeeds cover all of what was asked for.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const answer = await readSome(await probe.session(), probe);
      const sum = answer.contents.reduce((total, { length }) => total + length, 0);
      expectThat(sum >= Number(answer.request.length), `${answer.request.length} bytes`, `the chunks have ${sum}`);
    },
  },
  {
    id: 'chunk.no-overlap',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'Content chunks of one reply do not overlap.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const { contents } = await readSome(await probe.session(), probe);
      const sorted = [...contents].sort((a, b) => Number(a.offset - b.offset));
      for (const [i, { offset, length }] of sorted.entries()) {
        const next = sorted[i + 1];
        expectThat(
          next === undefined || offset + BigInt(length) <= next.offset,
          'chunks apart from one another',
          `two hold byte ${next?.offset}`,
        );
      }
    },
  },
  {
    id: 'chunk.inside',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'Content chunks lie within what was asked for.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const { contents, request } = await readSome(await probe.session(), probe);
      const [start, end] = [BigInt(request.offset!), BigInt(request.offset!) + BigInt(request.length!)];
      for (const { offset, length } of contents) {
        expectThat(
          offset >= start && offset + BigInt(length) <= end,
          `chunks from ${start} to ${end}`,
          `one goes from ${offset} to ${offset + BigInt(length)}`,
        );
      }
    },
  },
  {
    id: 'chunk.done-last',
    level: 'must',
    section: SECTION.REPLY_FLAGS,
    says: 'The last chunk of a reply, and only that, has the flag DONE: nothing follows it.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const session = await probe.session();
      for (let i = 0; i < 4; i++) await readSome(session, probe, 64 * probe.unit);
    },
  },
  {
    id: 'chunk.known-flags',
    level: 'must',
    section: SECTION.REPLY_FLAGS,
    says: 'Chunks have no flags beside DONE.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const other = (await sampledChunks(probe)).find(({ flags }) => (flags & ~CHUNK_FLAG_DONE) !== 0);
      expectThat(
        other === undefined,
        'flags of 0 or 1',
        () => `a chunk ${chunkName(other!.type)} has flags 0x${other!.flags.toString(16)}`,
      );
    },
  },
  {
    id: 'chunk.known-types',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'Chunks are of a type that is defined for the request: NONE, content for a READ, or an error.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      for (const answer of await sampled(probe)) {
        const reading = answer.request.command === COMMAND.READ;
        const content: number[] = reading ? [CHUNK.OFFSET_DATA, CHUNK.OFFSET_HOLE] : [];
        const other = answer.chunks.find(({ type }) => type !== CHUNK.NONE && type < CHUNK_ERROR_BIT && !content.includes(type));
        expectThat(
          other === undefined,
          'chunks that belong to the request',
          () => `${commandName(answer.request.command)} got a chunk ${chunkName(other!.type)}`,
        );
      }
    },
  },
  {
    id: 'chunk.none',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'A chunk NONE is empty and has the flag DONE.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const nones = (await sampledChunks(probe)).filter(({ type }) => type === CHUNK.NONE);
      if (nones.length === 0) throw new DoesNotApply('the server sent no chunk NONE');
      for (const { payload, flags } of nones) {
        expectThat(
          payload.length === 0 && (flags & CHUNK_FLAG_DONE) !== 0,
          'no payload and DONE',
          `${payload.length} bytes, flags ${flags}`,
        );
      }
    },
  },
  {
    id: 'chunk.content-lengths',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'A chunk OFFSET_DATA has at least 9 bytes; a chunk OFFSET_HOLE has 12, and its size is not 0.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      for (const { type, payload } of await sampledChunks(probe)) {
        if (type === CHUNK.OFFSET_DATA) expectThat(payload.length >= 9, 'at least 9 bytes of OFFSET_DATA', `${payload.length} came`);
        if (type !== CHUNK.OFFSET_HOLE) continue;
        expectThat(payload.length === 12, '12 bytes of OFFSET_HOLE', `${payload.length} came`);
        expectThat(payload.readUInt32BE(8) > 0, 'a hole of some size', 'one of 0 bytes came');
      }
    },
  },
  {
    id: 'chunk.error',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'An error chunk has an error that is not 0 and a message that fits into it: a string, for people.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const errors = (await sampledChunks(probe)).filter(({ type }) => type >= CHUNK_ERROR_BIT);
      if (errors.length === 0) throw new DoesNotApply('the server sent no error chunk');
      for (const { type, payload } of errors) {
        const least = type === CHUNK.ERROR_OFFSET ? 14 : 6;
        expectThat(payload.length >= least, `at least ${least} bytes of an error chunk`, `${payload.length} came`);
        const [errno, length] = [payload.readUInt32BE(0), payload.readUInt16BE(4)];
        expectThat(errno !== 0, 'an error number', 'it is 0');
        expectThat(length <= payload.length - least, `a message of at most ${payload.length - least} bytes`, `its length is ${length}`);
        const text = payload.subarray(6, 6 + length);
        expectThat(isString(text), 'a message that is a string', () => `${quoted(text)} came`);
      }
    },
  },
  {
    id: 'chunk.errors-preferred',
    level: 'should',
    section: SECTION.CHUNK,
    says: 'With structured replies errors come in chunks to other commands, too, so that a message can go with them.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const session = await probe.session();
      const answer = await session.ask({ command: UNKNOWN_COMMANDS[1] });
      expectErrno(answer, [], 'an unknown command');
      expectThat(answer.messages[0].style === 'structured', 'an error chunk', 'a simple reply came');
    },
  },
  {
    id: 'chunk.within-payload',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'The data of a chunk is not longer than the maximum payload.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const length = Math.min(probe.facts.sizeBytes, probe.payloadBytesMax, 32 * 1024 * 1024);
      const answer = await (await probe.session()).read(0, length);
      expectSuccess(answer, `READ of ${length} bytes`);
      const longest = Math.max(...answer.contents.map(({ data }) => data?.length ?? 0));
      expectThat(longest <= probe.payloadBytesMax, `at most ${probe.payloadBytesMax} bytes`, `one chunk has ${longest}`);
    },
  },
  {
    id: 'df.one-chunk',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A READ with DF of up to 65536 bytes succeeds, with one content chunk.',
    needs: [NEED.STRUCTURED, NEED.DF],
    async check(probe) {
      const answer = await (await probe.session()).read(0, 65_536, COMMAND_FLAG.DF);
      expectSuccess(answer, 'READ with DF');
      expectThat(answer.contents.length === 1, 'one content chunk', `${answer.contents.length} came`);
    },
  },
  {
    id: 'df.long',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A longer READ with DF gets one content chunk, or EOVERFLOW and none.',
    needs: [NEED.STRUCTURED, NEED.DF],
    async check(probe) {
      const length = Math.min(probe.facts.sizeBytes, probe.payloadBytesMax, 8 * 1024 * 1024);
      const answer = await (await probe.session()).read(0, length, COMMAND_FLAG.DF);
      if (answer.errno !== 0) expectErrno(answer, [NBD_ERRNO.EOVERFLOW], 'READ with DF');
      const most = answer.errno === 0 ? 1 : 0;
      expectThat(
        !answer.closed && answer.contents.length === most,
        `${most} content chunks`,
        () => `${answer.contents.length} came, and ${answer.words}`,
      );
    },
  },
  {
    id: 'df.without-chunks',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'DF without structured replies is a flag that does not apply: EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session({ headers: 'simple' });
      expectErrno(await session.read(0, probe.unit, COMMAND_FLAG.DF), [NBD_ERRNO.EINVAL], 'READ with DF');
    },
  },
];

export const REQUEST_RULES: readonly Rule[] = [
  {
    id: 'request.cookie-opaque',
    level: 'must',
    section: SECTION.TRANSMISSION,
    says: 'A reply has the cookie of its request, bit by bit, whatever it is.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      for (const cookie of [0n, 0xffffffffffffffffn, 0x8000000000000000n, 0x0123456789abcdefn, 0x25609513_25609513n]) {
        expectSuccess(
          await session.ask({ command: COMMAND.READ, length: probe.unit, cookie }),
          `READ with cookie 0x${cookie.toString(16)}`,
        );
      }
    },
  },
  {
    id: 'request.cookie-again',
    level: 'must',
    section: SECTION.TRANSMISSION,
    says: 'A cookie may be used again once it was answered, and by two requests that are under way at once, though clients should not.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const request = { command: COMMAND.READ, length: probe.unit, cookie: 7n };
      for (let i = 0; i < 3; i++) expectSuccess(await session.ask(request), 'READ with a cookie that was used before');
      const both = [session.send(request), session.send(request)];
      for (const answer of both) expectSuccess(await session.settled(answer), 'READ with a cookie that another request has, too');
    },
  },
  {
    id: 'request.unknown-command',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'An unknown command gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      for (const command of UNKNOWN_COMMANDS) expectErrno(await session.ask({ command }), [NBD_ERRNO.EINVAL], `command ${command}`);
      await session.staysInStep();
    },
  },
  {
    id: 'request.length-no-payload',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'With compact headers only WRITE has a payload: the length of another command, known or not, announces no bytes.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const commands: number[] = [UNKNOWN_COMMANDS[1]];
      if (session.offers(EXPORT_FLAG.SEND_CACHE)) commands.push(COMMAND.CACHE);
      for (const command of commands) {
        const answer = await session.ask({ command, length: probe.unit });
        expectThat(!answer.closed, `${commandName(command)} to be answered`, () => answer.words);
        await session.staysInStep();
      }
    },
  },
  {
    id: 'request.unknown-flag',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A flag that is not defined gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      for (const flags of [1 << 15, 1 << 9])
        expectErrno(await session.read(0, probe.unit, flags), [NBD_ERRNO.EINVAL], `READ with flags ${flags}`);
      await session.staysInStep();
    },
  },
  {
    id: 'request.payload-flag-without-extended',
    level: 'should',
    section: SECTION.COMMAND_FLAGS,
    says: 'PAYLOAD_LEN without extended headers is a flag that does not apply: EINVAL, and no payload is waited for.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.read(0, probe.unit, COMMAND_FLAG.PAYLOAD_LEN), [NBD_ERRNO.EINVAL], 'READ with PAYLOAD_LEN');
      await session.staysInStep();
    },
  },
  {
    id: 'request.wrong-magic',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'What does not begin with the magic of a request is none: it is not carried out.',
    needs: [],
    note: 'The document lets a server close on any breach by the client. To go on with an error assumes that the rest of the header was right.',
    async check(probe) {
      const session = await probe.session();
      const answer = session.expect({ command: COMMAND.READ, length: probe.unit });
      const bytes = session.encode(answer.request, answer.cookie);
      session.link.send(uint32(HISTORIC_REQUEST_MAGIC), bytes.subarray(4));
      await session.settled(answer);
      expectThat(!answer.succeeded, 'an error or the end of the connection', () => answer.words);
    },
  },
  {
    id: 'request.in-pieces',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'Requests are a stream of bytes: they are understood however it is cut.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const answers = [0, 1].map((i) => session.expect({ command: COMMAND.READ, offset: i * probe.unit, length: probe.unit }));
      await session.link.sendInBytes(Buffer.concat(answers.map(({ request, cookie }) => session.encode(request, cookie))));
      for (const answer of answers) expectSuccess(await session.settled(answer), 'READ sent byte by byte');
    },
  },
  {
    id: 'request.pipelined',
    level: 'must',
    section: SECTION.TRANSMISSION,
    says: 'Requests sent one behind the other without waiting are each answered, once, with what they asked for.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const unit = probe.unit;
      const whole = await session.bytes(0, PIPELINED * unit);
      const answers = Array.from({ length: PIPELINED }, (_, i) =>
        session.expect({ command: COMMAND.READ, offset: i * unit, length: unit }),
      );
      session.link.send(...answers.map(({ request, cookie }) => session.encode(request, cookie)));
      for (const [i, answer] of answers.entries()) {
        expectSuccess(await session.settled(answer), `READ ${i + 1} of ${PIPELINED}`);
        expectThat(
          answer.data.equals(whole.subarray(i * unit, (i + 1) * unit)),
          `in READ ${i + 1} the bytes at ${i * unit}`,
          'others came',
        );
      }
    },
  },
  {
    id: 'request.error-numbers',
    level: 'must',
    section: SECTION.ERRORS,
    says: 'Errors are of the numbers that the document defines.',
    needs: [],
    async check(probe) {
      const known: readonly number[] = Object.values(NBD_ERRNO);
      for (const answer of await sampled(probe)) {
        expectThat(answer.errno === 0 || known.includes(answer.errno), 'an error number of NBD', () => answer.words);
      }
    },
  },
  {
    id: 'disc.closes',
    level: 'must',
    section: SECTION.END,
    says: 'DISC ends the connection, and there is no reply to it.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      await session.staysInStep();
      session.send({ command: COMMAND.DISC });
      const came = await session.link.readToEnd('the end of the connection');
      expectThat(came.length === 0, 'no reply', `${came.length} bytes came`);
    },
  },
  {
    id: 'disc.outstanding',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'On DISC a server first handles all outstanding requests: each gets its reply before the connection ends.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const { requests, bytes } = OUTSTANDING;
      const last = Math.floor(session.sizeBytes / bytes);
      const answers = Array.from({ length: requests }, (_, i) =>
        session.expect({ command: COMMAND.READ, offset: (i % last) * bytes, length: bytes }),
      );
      session.link.send(
        ...answers.map(({ request, cookie }) => session.encode(request, cookie)),
        session.encode({ command: COMMAND.DISC }, 0n),
      );
      let unanswered = 0;
      for (const answer of answers) {
        await session.settled(answer);
        if (answer.closed) unanswered += 1;
      }
      expectThat(unanswered === 0, `${requests} replies`, `${unanswered} requests had none when the connection ended`);
    },
  },
  {
    id: 'disc.dropped',
    level: 'should',
    section: SECTION.END,
    says: 'A client may drop the connection, also with requests outstanding: the server goes on serving others.',
    needs: [],
    note: 'A few connections are dropped while the server answers; whether that meets the moment in which a server is weak is chance.',
    async check(probe) {
      for (let i = 0; i < 5; i++) {
        const session = await probe.session();
        for (let j = 0; j < 8; j++) session.send({ command: COMMAND.READ, length: 64 * 1024 });
        session.link.destroy();
      }
      await (await probe.session()).staysInStep();
    },
  },
];
