// Rules of how clients find an export: LIST, INFO and GO, and what these say of it.
import { INFO, OPTION, OPTION_REPLY, OPTION_REPLY_ERROR_BIT, STRING_BYTES_MAX } from '../../nbd/constants.js';
import { uint16, uint32 } from '../big-endian.js';
import { blockSizesOf, infoData, infoOf } from '../attach.js';
import { expectAck, expectRefusal, expectRefusalOrClose, expectThat } from '../expect.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import type { OptionAnswer, OptionReply } from '../raw-link.js';
import { RawSession } from '../raw-session.js';
import { type Rule, SECTION } from '../rule.js';
import { isString } from '../text.js';
import { DoesNotApply } from '../verdict.js';
import { infoName, optionName, quoted } from '../words.js';

/** Names out of a list that are tried one by one. */
const NAMES_TRIED_MAX = 5;

async function info(probe: Probe, requests: readonly number[] = [], name: string | Buffer = probe.target.export): Promise<OptionAnswer> {
  return (await probe.connect()).option(OPTION.INFO, infoData(name, requests));
}

/** A successful INFO. */
async function told(probe: Probe, requests: readonly number[] = []): Promise<OptionAnswer> {
  const answer = await info(probe, [...requests, INFO.BLOCK_SIZE]);
  expectAck(answer);
  return answer;
}

async function list(probe: Probe): Promise<OptionReply[]> {
  const answer = await (await probe.connect()).option(OPTION.LIST);
  expectAck(answer);
  return answer.replies.filter(({ type }) => type === OPTION_REPLY.SERVER);
}

function types(answer: OptionAnswer): number[] {
  return answer.replies.filter(({ type, data }) => type === OPTION_REPLY.INFO && data.length >= 2).map(({ data }) => data.readUInt16BE(0));
}

/** What INFO says, in an order of its own. */
function said(answer: OptionAnswer): string {
  return answer.replies
    .map(({ data }) => data.toString('hex'))
    .sort()
    .join(' ');
}

/** Each of the wrong data is refused by INFO and by GO alike, or closes the connection. */
async function refusedByBoth(probe: Probe, wrong: readonly Buffer[]): Promise<void> {
  for (const option of [OPTION.INFO, OPTION.GO]) {
    for (const data of wrong) {
      const link = await probe.connect();
      const answer = await link.option(option, data);
      expectRefusalOrClose(answer, `${optionName(option)} with ${data.length} bytes that do not add up`);
      if (!answer.closed) await link.staysInStep();
    }
  }
}

async function blockSizes(probe: Probe) {
  const sizes = blockSizesOf(await told(probe));
  expectThat(sizes !== null, 'INFO_BLOCK_SIZE, as before', 'none came');
  return sizes;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

export const LIST_RULES: readonly Rule[] = [
  {
    id: 'list.answered',
    level: 'must',
    section: SECTION.BASELINE,
    says: 'LIST is answered with any number of SERVER replies, then ACK or an error that forbids it.',
    needs: [NEED.TLS_NOT_REQUIRED],
    async check(probe) {
      const answer = await (await probe.connect()).option(OPTION.LIST);
      expectThat(!answer.closed && answer.final?.type !== OPTION_REPLY.ERR_UNSUP, 'LIST to be known', () => answer.words);
      const other = answer.replies.find(({ type }) => type !== OPTION_REPLY.SERVER);
      expectThat(other === undefined, 'SERVER replies', () => `one of type ${other!.type} came`);
      if (!answer.acknowledged) throw new DoesNotApply(`the server refuses LIST: ${answer.words}`);
      expectThat(answer.final!.data.length === 0, 'an ACK without data', () => `it has ${answer.final!.data.length} bytes`);
    },
  },
  {
    id: 'list.entry-lengths',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'The length of the name in a SERVER reply is within that reply.',
    needs: [NEED.LISTING],
    async check(probe) {
      for (const { data } of await list(probe)) {
        const length = data.length >= 4 ? data.readUInt32BE(0) : Number.POSITIVE_INFINITY;
        expectThat(length <= data.length - 4, `a name of at most ${data.length - 4} bytes`, `its length is ${length}`);
      }
    },
  },
  {
    id: 'list.strings',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'Names in a list, and what follows them, are strings: UTF-8 without NUL, at most 4096 bytes.',
    needs: [NEED.LISTING],
    async check(probe) {
      for (const { data } of await list(probe)) {
        const end = 4 + Math.min(data.length - 4, data.readUInt32BE(0));
        for (const text of [data.subarray(4, end), data.subarray(end)])
          expectThat(isString(text), 'a string', () => `${quoted(text)} came`);
      }
    },
  },
  {
    id: 'list.names-exist',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'A name in a list is one that INFO and GO know.',
    needs: [NEED.LISTING, NEED.GO],
    async check(probe) {
      const names = (await list(probe)).slice(0, NAMES_TRIED_MAX).map(({ data }) => data.subarray(4, 4 + data.readUInt32BE(0)));
      if (names.length === 0) throw new DoesNotApply('the list is empty');
      for (const name of names) {
        const answer = await info(probe, [INFO.BLOCK_SIZE], name);
        expectThat(
          !answer.closed && answer.final?.type !== OPTION_REPLY.ERR_UNKNOWN,
          `the listed export ${quoted(name)} to be known`,
          () => answer.words,
        );
      }
    },
  },
  {
    id: 'list.with-data',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'LIST takes no data: with data it gets ERR_INVALID.',
    needs: [NEED.TLS_NOT_REQUIRED],
    async check(probe) {
      expectRefusal(await (await probe.connect()).option(OPTION.LIST, uint32(0)), [OPTION_REPLY.ERR_INVALID], 'LIST with data');
    },
  },
  {
    id: 'list.repeated',
    level: 'should',
    section: SECTION.FIXED_NEWSTYLE,
    says: 'Only a message that changes the state of the server may be refused when it is repeated: LIST, which changes none, is answered again.',
    needs: [NEED.LISTING],
    async check(probe) {
      const link = await probe.connect();
      const [first, second] = [await link.option(OPTION.LIST), await link.option(OPTION.LIST)];
      expectAck(second, 'the second LIST');
      expectThat(said(first) === said(second), 'the same list twice', `${first.replies.length} exports, then ${second.replies.length}`);
      await link.staysInStep();
    },
  },
];

export const INFO_RULES: readonly Rule[] = [
  {
    id: 'info.known',
    level: 'must',
    section: SECTION.BASELINE,
    says: 'INFO and GO belong to the baseline: a server knows them.',
    needs: [NEED.TLS_NOT_REQUIRED],
    async check(probe) {
      for (const option of [OPTION.INFO, OPTION.GO]) {
        const answer = await (await probe.connect()).option(option, infoData(probe.target.export));
        expectThat(
          !answer.closed && answer.final?.type !== OPTION_REPLY.ERR_UNSUP,
          `${optionName(option)} to be known`,
          () => answer.words,
        );
      }
    },
  },
  {
    id: 'info.export',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'A successful INFO has said INFO_EXPORT, also when nothing was asked for.',
    needs: [NEED.GO],
    async check(probe) {
      const answer = await info(probe);
      if (answer.final?.type === OPTION_REPLY.ERR_BLOCK_SIZE_REQD) throw new DoesNotApply('the server wants to be asked for block sizes');
      expectAck(answer);
      expectThat(types(answer).includes(INFO.EXPORT), 'INFO_EXPORT before the ACK', `the types ${types(answer).join(', ') || 'none'} came`);
    },
  },
  {
    id: 'info.export-length',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'INFO_EXPORT is 12 bytes long.',
    needs: [NEED.GO],
    async check(probe) {
      const data = infoOf(await told(probe), INFO.EXPORT);
      expectThat(data?.length === 10, '12 bytes', `${(data?.length ?? -2) + 2} came`);
    },
  },
  {
    id: 'info.ack-empty',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'ACK has no data.',
    needs: [NEED.GO],
    async check(probe) {
      const { final } = await told(probe);
      expectThat(final!.data.length === 0, 'an ACK without data', `it has ${final!.data.length} bytes`);
    },
  },
  {
    id: 'info.only-info-replies',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Before its final reply INFO gets INFO replies only, each with at least its type.',
    needs: [NEED.GO],
    async check(probe) {
      const other = (await told(probe, [INFO.NAME, INFO.DESCRIPTION])).replies.find(
        ({ type, data }) => type !== OPTION_REPLY.INFO || data.length < 2,
      );
      expectThat(other === undefined, 'INFO replies', () => `a reply of type ${other!.type} with ${other!.data.length} bytes came`);
    },
  },
  {
    id: 'info.once-each',
    level: 'should',
    section: SECTION.OPTION_REPLIES,
    says: 'Each type of information comes once.',
    needs: [NEED.GO],
    async check(probe) {
      const came = types(await told(probe, [INFO.NAME, INFO.DESCRIPTION]));
      expectThat(new Set(came).size === came.length, 'each type once', `${came.map(infoName).join(', ')} came`);
    },
  },
  {
    id: 'info.unknown-request',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Requests for information that the server does not know are ignored.',
    needs: [NEED.GO],
    async check(probe) {
      const answer = await info(probe, [0x7fff, INFO.BLOCK_SIZE, 0xffff]);
      expectAck(answer, 'INFO with unknown requests');
      expectThat(types(answer).includes(INFO.EXPORT), 'INFO_EXPORT', 'none came');
    },
  },
  {
    id: 'info.unknown-export',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'INFO and GO for an export that does not exist get ERR_UNKNOWN.',
    needs: [NEED.GO, NEED.UNKNOWN_NAME],
    note: 'Without TLS a server that has it may say ERR_TLS_REQD, so that nobody can try out names.',
    async check(probe) {
      const codes: number[] = [OPTION_REPLY.ERR_UNKNOWN];
      if (probe.facts.tls !== 'none' && !probe.facts.throughTls) codes.push(OPTION_REPLY.ERR_TLS_REQD);
      for (const option of [OPTION.INFO, OPTION.GO]) {
        expectRefusal(await (await probe.connect()).option(option, infoData(probe.facts.unknownName!)), codes);
      }
    },
  },
  {
    id: 'info.unknown-export-untold',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'Nothing is told about an export that does not exist.',
    needs: [NEED.GO, NEED.UNKNOWN_NAME],
    async check(probe) {
      const answer = await info(probe, [INFO.BLOCK_SIZE], probe.facts.unknownName!);
      expectThat(answer.replies.length === 0, 'no INFO reply', `${answer.replies.length} came`);
    },
  },
  {
    id: 'info.name',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'INFO_NAME is a string, and a name by which the export can be asked for.',
    needs: [NEED.GO],
    async check(probe) {
      const name = infoOf(await told(probe, [INFO.NAME]), INFO.NAME);
      if (name === undefined) throw new DoesNotApply('the server sends no INFO_NAME');
      expectThat(isString(name), 'a string', () => `${quoted(name)} came`);
      expectAck(await info(probe, [INFO.BLOCK_SIZE], name), `INFO for ${quoted(name)}, the name that INFO_NAME gave`);
    },
  },
  {
    id: 'info.description',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'INFO_DESCRIPTION is a string.',
    needs: [NEED.GO],
    async check(probe) {
      const text = infoOf(await told(probe, [INFO.DESCRIPTION]), INFO.DESCRIPTION);
      if (text === undefined) throw new DoesNotApply('the server sends no INFO_DESCRIPTION');
      expectThat(isString(text), 'a string', () => `${quoted(text)} came`);
    },
  },
  {
    id: 'info.block-size-length',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'INFO_BLOCK_SIZE is 14 bytes long.',
    needs: [NEED.GO, NEED.BLOCK_SIZES],
    async check(probe) {
      const data = infoOf(await told(probe), INFO.BLOCK_SIZE);
      expectThat(data?.length === 12, '14 bytes', `${(data?.length ?? -2) + 2} came`);
    },
  },
  {
    id: 'info.minimum-block',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'The minimum block is a power of two and at most 65536.',
    needs: [NEED.GO, NEED.BLOCK_SIZES],
    async check(probe) {
      const { minimum } = await blockSizes(probe);
      expectThat(isPowerOfTwo(minimum) && minimum <= 65_536, 'a power of two up to 65536', `it is ${minimum}`);
    },
  },
  {
    id: 'info.preferred-block',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'The preferred block is a power of two, at least 512 and at least the minimum block.',
    needs: [NEED.GO, NEED.BLOCK_SIZES],
    async check(probe) {
      const { minimum, preferred } = await blockSizes(probe);
      const least = Math.max(512, minimum);
      expectThat(isPowerOfTwo(preferred) && preferred >= least, `a power of two, at least ${least}`, `it is ${preferred}`);
    },
  },
  {
    id: 'info.maximum-payload',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'The maximum payload is not below the preferred block, or the export where that is smaller.',
    needs: [NEED.GO, NEED.BLOCK_SIZES],
    async check(probe) {
      const { preferred, maximum } = await blockSizes(probe);
      const least = Math.min(preferred, probe.facts.sizeBytes);
      expectThat(maximum >= least, `at least ${least}`, `it is ${maximum}`);
    },
  },
  {
    id: 'info.maximum-payload-mebibyte',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'The maximum payload is at least 1 MiB where the export is that large.',
    needs: [NEED.GO, NEED.BLOCK_SIZES],
    async check(probe) {
      const { maximum } = await blockSizes(probe);
      expectThat(maximum >= 2 ** 20, 'at least 1048576', `it is ${maximum}`);
    },
  },
  {
    id: 'info.size-in-blocks',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'The size of an export is a multiple of its minimum block, so that all of it can be reached.',
    needs: [NEED.GO, NEED.ALIGNMENT],
    async check(probe) {
      const { minimum } = await blockSizes(probe);
      expectThat(probe.facts.sizeBytes % minimum === 0, `a multiple of ${minimum}`, `the size is ${probe.facts.sizeBytes}`);
    },
  },
  {
    id: 'info.block-size-not-required',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A client that does not ask for block sizes is not refused where the defaults hold.',
    needs: [NEED.GO, NEED.NO_ALIGNMENT],
    async check(probe) {
      const answer = await info(probe);
      expectThat(answer.final?.type !== OPTION_REPLY.ERR_BLOCK_SIZE_REQD, 'INFO without requests to be answered', () => answer.words);
    },
  },
  {
    id: 'info.block-size-asked',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Who asks for block sizes is never told ERR_BLOCK_SIZE_REQD.',
    needs: [],
    async check(probe) {
      const answer = await info(probe, [INFO.BLOCK_SIZE]);
      expectThat(
        answer.final?.type !== OPTION_REPLY.ERR_BLOCK_SIZE_REQD,
        'INFO that asks for block sizes to be answered',
        () => answer.words,
      );
    },
  },
  {
    id: 'info.no-data',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'INFO and GO whose data is too short for what it has to hold are refused or end the connection; no bytes beyond it are waited for.',
    needs: [],
    async check(probe) {
      await refusedByBoth(probe, [Buffer.alloc(0), Buffer.alloc(3), uint32(0)]);
    },
  },
  {
    id: 'info.name-overruns',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'INFO and GO with a name that is longer than the data are refused or end the connection; no bytes beyond it are waited for.',
    needs: [],
    async check(probe) {
      const tooLong = (length: number) => Buffer.concat([uint32(length), Buffer.from('abcd'), uint16(0)]);
      await refusedByBoth(probe, [tooLong(5), tooLong(100), tooLong(0xffffffff)]);
    },
  },
  {
    id: 'info.requests-overrun',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'INFO and GO that announce more information requests than their data holds are refused or end the connection.',
    needs: [],
    async check(probe) {
      const name = Buffer.from(probe.target.export);
      const announcing = (count: number) => Buffer.concat([uint32(name.length), name, uint16(count, INFO.BLOCK_SIZE)]);
      await refusedByBoth(probe, [announcing(2), announcing(0xffff)]);
    },
  },
  {
    id: 'info.trailing-bytes',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'INFO and GO with bytes behind the last information request are not of the form defined, and are refused.',
    needs: [],
    async check(probe) {
      await refusedByBoth(probe, [Buffer.concat([infoData(probe.target.export), Buffer.from('more')])]);
    },
  },
  {
    id: 'info.name-too-long',
    level: 'should',
    section: SECTION.CONVENTIONS,
    says: 'A name of over 4096 bytes is none: INFO does not find it.',
    needs: [],
    async check(probe) {
      expectRefusalOrClose(await info(probe, [INFO.BLOCK_SIZE], Buffer.alloc(STRING_BYTES_MAX + 1, 'x')), 'INFO for a name of 4097 bytes');
    },
  },
  {
    id: 'info.name-with-nul',
    level: 'should',
    section: SECTION.CONVENTIONS,
    says: 'A name with a NUL in it is none: INFO does not find it.',
    needs: [],
    async check(probe) {
      expectRefusalOrClose(
        await info(probe, [INFO.BLOCK_SIZE], Buffer.from(`${probe.target.export}\0`)),
        'INFO for a name that ends with NUL',
      );
    },
  },
  {
    id: 'info.name-not-utf8',
    level: 'should',
    section: SECTION.CONVENTIONS,
    says: 'A name that is not UTF-8 is none: INFO does not find it.',
    needs: [],
    note: 'The document binds the client. A server that takes any name for its one export has to look at this, too, before it shows the name to anybody.',
    async check(probe) {
      expectRefusalOrClose(await info(probe, [INFO.BLOCK_SIZE], Buffer.from([0x78, 0xff, 0xfe])), 'INFO for a name that is not UTF-8');
    },
  },
  {
    id: 'go.same-as-info',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'GO right after a successful INFO with the same parameters tells the same.',
    needs: [NEED.GO],
    async check(probe) {
      const link = await probe.connect();
      const data = infoData(probe.target.export, [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE]);
      const [first, second] = [await link.option(OPTION.INFO, data), await link.option(OPTION.GO, data)];
      expectAck(first);
      expectAck(second);
      expectThat(said(first) === said(second), `what INFO said (${said(first)})`, `GO said ${said(second)}`);
    },
  },
  {
    id: 'go.no-padding',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'No zeroes follow the ACK to GO, also where the client has not declined those of EXPORT_NAME: the next bytes are a reply.',
    needs: [NEED.GO],
    async check(probe) {
      const link = await probe.connect({ flags: 1 });
      const answer = await link.option(OPTION.GO, infoData(probe.target.export));
      expectAck(answer);
      const { sizeBytes } = probe.facts;
      await new RawSession(link, { headers: 'simple', sizeBytes, flags: 0, contexts: new Map(), blockBytes: probe.unit }).staysInStep();
    },
  },
  {
    id: 'go.refused-stays',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'A GO that is refused leaves the negotiation where it was: options are still answered, and another GO succeeds.',
    needs: [NEED.GO, NEED.UNKNOWN_NAME],
    async check(probe) {
      const link = await probe.connect();
      const refused = await link.option(OPTION.GO, infoData(probe.facts.unknownName!));
      expectThat(
        !refused.closed && refused.final!.type >= OPTION_REPLY_ERROR_BIT,
        'GO for an unknown export to be refused',
        () => refused.words,
      );
      await link.staysInStep();
      expectAck(await link.option(OPTION.GO, infoData(probe.target.export)), 'the second GO');
    },
  },
];
