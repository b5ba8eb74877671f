// Rules of the first bytes: greeting, handshake flags, client flags, and options as such, whatever they ask.
import { HANDSHAKE_FLAG, OPTION, OPTION_REPLY, OPTION_REPLY_ERROR_BIT, SIZE, STRING_BYTES_MAX } from '../../nbd/constants.js';
import { uint32 } from '../big-endian.js';
import { infoData } from '../attach.js';
import { expectAck, expectRefusal, expectThat } from '../expect.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import { optionHeader, type OptionReply, UNKNOWN_OPTION } from '../raw-link.js';
import { type Rule, SECTION } from '../rule.js';
import { isString } from '../text.js';
import { quoted } from '../words.js';

/** Those that no version of the document gives a meaning, and a withdrawn one (4). */
const UNKNOWN_OPTIONS = [0, 4, 12, 0x7fffffff, 0xffffffff];
/** Refused options in a row that no server may call an attack. */
const REFUSALS = 20;

async function refusals(probe: Probe): Promise<OptionReply[]> {
  const link = await probe.connect();
  const answers = [await link.option(UNKNOWN_OPTION), await link.option(OPTION.LIST, uint32(0))];
  if (probe.facts.unknownName !== null) answers.push(await link.option(OPTION.INFO, infoData(probe.facts.unknownName)));
  return answers.flatMap(({ final }) => (final !== null && final.type >= OPTION_REPLY_ERROR_BIT ? [final] : []));
}

export const HANDSHAKE_RULES: readonly Rule[] = [
  {
    id: 'handshake.greeting',
    level: 'must',
    section: SECTION.NEWSTYLE,
    says: 'A server speaks first: NBDMAGIC, IHAVEOPT and 16 bits of handshake flags.',
    needs: [],
    async check(probe) {
      await (await probe.open()).readGreeting();
    },
  },
  {
    id: 'handshake.fixed-newstyle',
    level: 'must',
    section: SECTION.HANDSHAKE_FLAGS,
    says: 'A server offers fixed newstyle negotiation (flag bit 0); it belongs to the baseline of every implementation.',
    needs: [],
    async check(probe) {
      const { handshakeFlags } = await probe.connect({ flags: null });
      expectThat(
        (handshakeFlags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) !== 0,
        'flag bit 0 set',
        `the flags are 0x${handshakeFlags.toString(16)}`,
      );
    },
  },
  {
    id: 'handshake.no-other-flags',
    level: 'must',
    section: SECTION.HANDSHAKE_FLAGS,
    says: 'A server sets no handshake flags beside FIXED_NEWSTYLE and NO_ZEROES.',
    needs: [],
    async check(probe) {
      const { handshakeFlags } = await probe.connect({ flags: null });
      const other = handshakeFlags & ~(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
      expectThat(other === 0, 'bits 2 to 15 clear', `the flags are 0x${handshakeFlags.toString(16)}`);
    },
  },
  {
    id: 'handshake.unknown-client-flag',
    level: 'must',
    section: SECTION.CLIENT_FLAGS,
    says: 'A server drops the connection of a client that sets a flag it does not know.',
    needs: [],
    async check(probe) {
      const link = await probe.connect({ flags: null });
      link.sendFlags(HANDSHAKE_FLAG.FIXED_NEWSTYLE | (1 << 6));
      const answer = await link.option(UNKNOWN_OPTION);
      expectThat(answer.closed, 'the connection to be closed', () => answer.words);
    },
  },
  {
    id: 'handshake.unoffered-client-flag',
    level: 'must',
    section: SECTION.CLIENT_FLAGS,
    says: 'A server drops the connection of a client that sets NO_ZEROES where the server did not offer it.',
    needs: [NEED.ZEROES_ONLY],
    async check(probe) {
      const link = await probe.connect({ flags: null });
      link.sendFlags(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
      const answer = await link.option(UNKNOWN_OPTION);
      expectThat(answer.closed, 'the connection to be closed', () => answer.words);
    },
  },
  {
    id: 'handshake.in-pieces',
    level: 'must',
    section: SECTION.FIXED_NEWSTYLE,
    says: 'Flags and options are a stream of bytes: they are understood however the stream is cut.',
    needs: [],
    async check(probe) {
      const link = await probe.connect({ flags: null, plain: true });
      await link.sendInBytes(Buffer.concat([uint32(HANDSHAKE_FLAG.FIXED_NEWSTYLE), optionHeader(UNKNOWN_OPTION, 5), Buffer.from('abcde')]));
      expectRefusal(await link.answer(UNKNOWN_OPTION));
      await link.staysInStep();
    },
  },
  {
    id: 'handshake.wrong-option-magic',
    level: 'should',
    section: SECTION.NEWSTYLE,
    says: 'What does not begin with IHAVEOPT is no option and is not carried out.',
    needs: [],
    note: 'The document lets a server close on any breach by the client; an error is as good. What must not be is an ACK, or waiting for more.',
    async check(probe) {
      const link = await probe.connect();
      link.send(uint32(0x12345678, 0x9abcdef0, OPTION.LIST, 0));
      const answer = await link.answer(OPTION.LIST);
      expectThat(!answer.acknowledged && answer.replies.length === 0, 'an error or the end of the connection', () => answer.words);
    },
  },
  {
    id: 'handshake.broken-off',
    level: 'should',
    section: SECTION.TERMINATION,
    says: 'A client may drop the connection in the middle of an option: the server goes on serving others.',
    needs: [],
    async check(probe) {
      for (let i = 0; i < 5; i++) {
        const link = await probe.connect();
        link.sendOption(OPTION.GO, Buffer.alloc(3), 4000);
        link.destroy();
      }
      await (await probe.connect()).staysInStep();
    },
  },
  {
    id: 'option.reply-format',
    level: 'must',
    section: SECTION.FIXED_NEWSTYLE,
    says: 'The reply to an option repeats the number of the option that it answers.',
    needs: [],
    async check(probe) {
      const link = await probe.connect();
      for (const option of [UNKNOWN_OPTION, OPTION.LIST]) {
        const { final, replies, words } = await link.option(option);
        const others = [...replies, ...(final === null ? [] : [final])].filter((reply) => reply.option !== option);
        expectThat(
          final !== null && others.length === 0,
          `replies to option ${option}`,
          others.length > 0 ? `one says it is to option ${others[0].option}` : words,
        );
      }
    },
  },
  {
    id: 'option.unknown',
    level: 'must',
    section: SECTION.BASELINE,
    says: 'An option that the server does not know gets ERR_UNSUP.',
    needs: [NEED.TLS_NOT_REQUIRED],
    async check(probe) {
      const link = await probe.connect();
      for (const option of UNKNOWN_OPTIONS) expectRefusal(await link.option(option), [OPTION_REPLY.ERR_UNSUP]);
    },
  },
  {
    id: 'option.unknown-data-skipped',
    level: 'must',
    section: SECTION.BASELINE,
    says: 'The data of an unknown option is passed over: the message after it is understood.',
    needs: [],
    async check(probe) {
      const link = await probe.connect();
      expectRefusal(await link.option(UNKNOWN_OPTION, Buffer.alloc(STRING_BYTES_MAX, 'IHAVEOPT')));
      await link.staysInStep();
    },
  },
  {
    id: 'option.refused-data-skipped',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Data behind an option that takes none is passed over when it is refused, or the connection is closed.',
    needs: [],
    async check(probe) {
      for (const option of [OPTION.LIST, OPTION.STRUCTURED_REPLY, OPTION.EXTENDED_HEADERS]) {
        const link = await probe.connect();
        const answer = await link.option(option, Buffer.alloc(64, 'IHAVEOPT'));
        if (!answer.closed) await link.staysInStep();
      }
    },
  },
  {
    id: 'option.keeps-answering',
    level: 'must',
    section: SECTION.TERMINATION,
    says: 'A server does not close on a client whose options it refuses: it goes on refusing them until the client gives up.',
    needs: [],
    async check(probe) {
      const link = await probe.connect();
      for (let i = 0; i < REFUSALS; i++) expectRefusal(await link.option(UNKNOWN_OPTION + i), [], `unknown option ${i + 1} of ${REFUSALS}`);
    },
  },
  {
    id: 'option.error-text',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'What comes with an error is a string to show to people: UTF-8 without NUL, at most 4096 bytes.',
    needs: [],
    async check(probe) {
      for (const { data } of await refusals(probe))
        expectThat(isString(data), 'a string', () => `${data.length} bytes came: ${quoted(data)}`);
    },
  },
  {
    id: 'option.claimed-4gib',
    level: 'should',
    section: SECTION.TERMINATION,
    says: 'An option that claims 4 GiB of data is refused or its connection closed, without waiting for all of that.',
    needs: [],
    note: 'The document lets a server end what it deems an attack, and nothing that it defines comes near 4 GiB. To wait is not forbidden, but lets every client hold a connection.',
    async check(probe) {
      for (const option of [OPTION.INFO, UNKNOWN_OPTION]) {
        const link = await probe.connect();
        const answer = await link.option(option, Buffer.alloc(64 * 1024), 0xffffffff);
        expectThat(!answer.acknowledged, 'an error or the end of the connection', () => answer.words);
      }
    },
  },
  {
    id: 'abort.ack',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'ABORT is answered with ACK.',
    needs: [],
    async check(probe) {
      expectAck(await (await probe.connect()).option(OPTION.ABORT));
    },
  },
  {
    id: 'abort.with-data',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'Data that comes with ABORT is ignored: it is answered with ACK all the same.',
    needs: [],
    async check(probe) {
      expectAck(await (await probe.connect()).option(OPTION.ABORT, Buffer.from('goodbye')));
    },
  },
  {
    id: 'abort.not-waiting',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'A client may send ABORT and close without waiting for the reply: the server goes on serving others.',
    needs: [],
    async check(probe) {
      for (let i = 0; i < 5; i++) {
        const link = await probe.connect();
        link.sendOption(OPTION.ABORT);
        link.destroy();
      }
      await (await probe.connect()).staysInStep();
    },
  },
  {
    id: 'export-name.reply',
    level: 'must',
    section: SECTION.NEWSTYLE,
    says: 'EXPORT_NAME is answered with size, transmission flags and 124 zero bytes when the client has not declined those.',
    needs: [],
    async check(probe) {
      const link = await probe.connect({ flags: HANDSHAKE_FLAG.FIXED_NEWSTYLE });
      link.sendOption(OPTION.EXPORT_NAME, Buffer.from(probe.target.export));
      const reply = await link.read(SIZE.EXPORT_REPLY + SIZE.EXPORT_REPLY_ZEROES, 'the 134 bytes of the answer to EXPORT_NAME');
      const size = Number(reply.readBigUInt64BE(0));
      expectThat(size === probe.facts.sizeBytes, `a size of ${probe.facts.sizeBytes}`, `it is ${size}`);
      expectThat(
        reply.subarray(10).every((byte) => byte === 0),
        '124 zero bytes at the end',
        'others came',
      );
    },
  },
  {
    id: 'export-name.no-zeroes',
    level: 'must',
    section: SECTION.CLIENT_FLAGS,
    says: 'With NO_ZEROES agreed on, the answer to EXPORT_NAME is 10 bytes, and replies follow at once.',
    needs: [NEED.NO_ZEROES],
    async check(probe) {
      const session = await probe.session({ headers: 'simple', exportName: true, zeroes: false });
      expectThat(session.sizeBytes === probe.facts.sizeBytes, `a size of ${probe.facts.sizeBytes}`, `it is ${session.sizeBytes}`);
      await session.staysInStep();
    },
  },
  {
    id: 'export-name.without-fixed-newstyle',
    level: 'must',
    section: SECTION.NEWSTYLE,
    says: 'A client that answers with no flags at all can still use EXPORT_NAME, the one option it has.',
    needs: [NEED.WITHOUT_TLS, NEED.TLS_NOT_REQUIRED],
    async check(probe) {
      const link = await probe.connect({ flags: 0 });
      link.sendOption(OPTION.EXPORT_NAME, Buffer.from(probe.target.export));
      const reply = await link.read(SIZE.EXPORT_REPLY + SIZE.EXPORT_REPLY_ZEROES, 'the 134 bytes of the answer to EXPORT_NAME');
      const size = Number(reply.readBigUInt64BE(0));
      expectThat(size === probe.facts.sizeBytes, `a size of ${probe.facts.sizeBytes}`, `it is ${size}`);
    },
  },
  {
    id: 'export-name.unknown',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'EXPORT_NAME with a name that does not exist ends the connection, because it has no answer that refuses.',
    needs: [NEED.UNKNOWN_NAME],
    async check(probe) {
      const link = await probe.connect();
      link.sendOption(OPTION.EXPORT_NAME, Buffer.from(probe.facts.unknownName!));
      const rest = await link.readToEnd('the end of the connection');
      expectThat(rest.length === 0, 'the end of the connection and nothing else', `${rest.length} bytes came before it`);
    },
  },
  {
    id: 'export-name.too-long',
    level: 'must',
    section: SECTION.CONVENTIONS,
    says: 'A name has at most 4096 bytes, so there is no export of a longer one: EXPORT_NAME ends the connection.',
    needs: [],
    async check(probe) {
      const link = await probe.connect();
      link.sendOption(OPTION.EXPORT_NAME, Buffer.alloc(STRING_BYTES_MAX + 1, 'x'));
      const rest = await link.readToEnd('the end of the connection');
      expectThat(rest.length === 0, 'the end of the connection and nothing else', `${rest.length} bytes came before it`);
    },
  },
  {
    id: 'export-name.same-as-go',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'INFO_EXPORT describes the same as the answer to EXPORT_NAME: size and transmission flags are equal.',
    needs: [NEED.GO, NEED.NO_ALIGNMENT],
    async check(probe) {
      const wishes = { headers: probe.headers, zeroes: true, flags: HANDSHAKE_FLAG.FIXED_NEWSTYLE };
      const [go, name] = [await probe.session({ ...wishes, exportName: false }), await probe.session({ ...wishes, exportName: true })];
      const words = ({ sizeBytes, flags }: { sizeBytes: number; flags: number }) => `${sizeBytes} bytes, flags 0x${flags.toString(16)}`;
      expectThat(words(go) === words(name), `${words(go)} (GO)`, `EXPORT_NAME said ${words(name)}`);
    },
  },
];
