// Rules of what is agreed on before the transmission: structured replies, extended headers, metadata contexts.
import { BASE_ALLOCATION, COMMAND, EXPORT_FLAG, OPTION, OPTION_REPLY, OPTION_REPLY_ERROR_BIT } from '../../nbd/constants.js';
import { contextData, contextsOf, enter } from '../attach.js';
import { uint32 } from '../big-endian.js';
import { expectAck, expectRefusal, expectSuccess, expectThat } from '../expect.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import type { OptionAnswer, RawLink } from '../raw-link.js';
import { RawSession } from '../raw-session.js';
import { type Rule, SECTION } from '../rule.js';
import { isString } from '../text.js';
import { DoesNotApply } from '../verdict.js';
import { optionName, quoted } from '../words.js';

const CONTEXT_OPTIONS = [OPTION.LIST_META_CONTEXT, OPTION.SET_META_CONTEXT];

/** With replies in chunks agreed on, so that contexts may be asked for. */
async function chunked(probe: Probe): Promise<RawLink> {
  const link = await probe.connect();
  expectAck(await link.option(probe.facts.structured ? OPTION.STRUCTURED_REPLY : OPTION.EXTENDED_HEADERS));
  return link;
}

async function asked(probe: Probe, option: number, queries: readonly string[]): Promise<OptionAnswer> {
  return (await chunked(probe)).option(option, contextData(probe.target.export, queries));
}

/** ACK and exactly these contexts. */
function expectContexts(answer: OptionAnswer, wanted: readonly string[], what: string): void {
  expectAck(answer, what);
  const came = answer.replies.filter(({ type }) => type === OPTION_REPLY.META_CONTEXT).map(({ data }) => data.toString('utf8', 4));
  const words = (names: readonly string[]) => (names.length === 0 ? 'no context' : [...names].sort().join(', '));
  expectThat(words(came) === words(wanted), `${what} to give ${words(wanted)}`, `${words(came)} came`);
}

/** What follows SET_META_CONTEXT must not leave a context in force: BLOCK_STATUS is not answered with one. */
async function expectNoStatus(probe: Probe, link: RawLink, name = probe.target.export): Promise<void> {
  const session = await enter(link, name, { exportName: !probe.facts.go });
  const chunks = new RawSession(link, {
    ...session,
    contexts: new Map(),
    headers: probe.facts.structured ? 'structured' : 'extended',
    blockBytes: probe.unit,
  });
  const answer = await chunks.ask({ command: COMMAND.BLOCK_STATUS, length: probe.unit });
  expectThat(!answer.succeeded, 'BLOCK_STATUS to be refused, no context being in force', () => answer.words);
}

/** Data in which something is longer than what is there; each must get ERR_INVALID, and the session goes on. */
async function expectInvalid(probe: Probe, wrong: readonly Buffer[], what: string): Promise<void> {
  for (const option of CONTEXT_OPTIONS) {
    const link = await chunked(probe);
    for (const data of wrong)
      expectRefusal(await link.option(option, data), [OPTION_REPLY.ERR_INVALID], `${optionName(option)} with ${what}`);
    await link.staysInStep();
  }
}

function named(probe: Probe, ...rest: Buffer[]): Buffer {
  const name = Buffer.from(probe.target.export);
  return Buffer.concat([uint32(name.length), name, ...rest]);
}

export const STRUCTURED_NEGOTIATION_RULES: readonly Rule[] = [
  {
    id: 'structured.with-data',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'STRUCTURED_REPLY takes no data: with data it gets ERR_INVALID.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const answer = await (await probe.connect()).option(OPTION.STRUCTURED_REPLY, uint32(1));
      expectRefusal(answer, [OPTION_REPLY.ERR_INVALID], 'STRUCTURED_REPLY with data');
    },
  },
  {
    id: 'structured.refused-not-in-force',
    level: 'must',
    section: SECTION.CHUNK,
    says: 'Structured replies are sent only when they were agreed on: not after a STRUCTURED_REPLY that was refused.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const link = await probe.connect();
      const refused = await link.option(OPTION.STRUCTURED_REPLY, uint32(1));
      if (refused.closed || refused.acknowledged) throw new DoesNotApply('the server does not refuse STRUCTURED_REPLY with data');
      const session = await enter(link, probe.target.export, { exportName: !probe.facts.go });
      const answer = await session.read(0, probe.unit);
      expectSuccess(answer);
      expectThat(answer.messages[0].style === 'simple', 'a simple reply', `a reply in the ${answer.messages[0].style} style came`);
    },
  },
  {
    id: 'structured.repeated',
    level: 'must',
    section: SECTION.FIXED_NEWSTYLE,
    says: 'A second STRUCTURED_REPLY is acknowledged or gets ERR_INVALID, and changes nothing: replies are structured.',
    needs: [NEED.STRUCTURED],
    async check(probe) {
      const link = await probe.connect();
      expectAck(await link.option(OPTION.STRUCTURED_REPLY));
      const again = await link.option(OPTION.STRUCTURED_REPLY);
      if (!again.acknowledged) expectRefusal(again, [OPTION_REPLY.ERR_INVALID], 'the second STRUCTURED_REPLY');
      const session = await enter(link, probe.target.export, { exportName: !probe.facts.go });
      const answer = await session.read(0, probe.unit);
      expectSuccess(answer);
      expectThat(answer.messages[0].style === 'structured', 'a structured reply', `a reply in the ${answer.messages[0].style} style came`);
    },
  },
  {
    id: 'structured.with-export-name',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'What was agreed on holds however the transmission is entered: after EXPORT_NAME a READ gets a structured reply, too.',
    needs: [NEED.STRUCTURED, NEED.NO_ZEROES, NEED.NO_ALIGNMENT],
    async check(probe) {
      const session = await probe.session({ headers: 'structured', exportName: true, zeroes: false });
      const answer = await session.read(0, probe.unit);
      expectSuccess(answer);
      expectThat(answer.messages[0].style === 'structured', 'a structured reply', `a reply in the ${answer.messages[0].style} style came`);
    },
  },
  {
    id: 'structured.no-df-without',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'SEND_DF is clear where neither structured replies nor extended headers were agreed on.',
    needs: [],
    async check(probe) {
      const { flags } = await probe.session({ headers: 'simple' });
      expectThat((flags & EXPORT_FLAG.SEND_DF) === 0, 'SEND_DF clear', `the flags are 0x${flags.toString(16)}`);
    },
  },
];

export const CONTEXT_RULES: readonly Rule[] = [
  {
    id: 'context.before-structured',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'SET_META_CONTEXT before structured replies or extended headers is refused with ERR_INVALID or ERR_EXT_HEADER_REQD.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const answer = await (await probe.connect()).option(OPTION.SET_META_CONTEXT, contextData(probe.target.export, [BASE_ALLOCATION]));
      expectRefusal(answer, [OPTION_REPLY.ERR_INVALID, OPTION_REPLY.ERR_EXT_HEADER_REQD]);
    },
  },
  {
    id: 'context.list-all',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'LIST_META_CONTEXT without queries gives all contexts, as META_CONTEXT replies before an ACK.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const answer = await asked(probe, OPTION.LIST_META_CONTEXT, []);
      expectAck(answer);
      const names = answer.replies.filter(({ type }) => type === OPTION_REPLY.META_CONTEXT).map(({ data }) => data.toString('utf8', 4));
      expectThat(
        names.length === answer.replies.length,
        'META_CONTEXT replies',
        () => `one of type ${answer.replies.find(({ type }) => type !== OPTION_REPLY.META_CONTEXT)!.type} came`,
      );
      const whole = !probe.facts.allocation || names.some((name) => name === BASE_ALLOCATION || name === 'base:');
      expectThat(whole, 'base:allocation in the list, as it can be selected', `the list is ${names.join(', ') || 'empty'}`);
    },
  },
  {
    id: 'context.names',
    level: 'must',
    section: SECTION.METADATA,
    says: 'The name of a context is a string of a namespace, a colon and a leaf.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const answer = await asked(probe, OPTION.LIST_META_CONTEXT, []);
      expectAck(answer);
      for (const { data } of answer.replies) {
        const name = data.subarray(4);
        expectThat(
          isString(name) && /^[^\s:]+:/u.test(name.toString('utf8')),
          'a namespace and a colon',
          () => `the name is ${quoted(name)}`,
        );
      }
    },
  },
  {
    id: 'context.namespaces',
    level: 'must',
    section: SECTION.METADATA,
    says: 'The namespace of a context is base, nbd-server, one that is registered (qemu), or begins with x-.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      for (const name of probe.facts.contexts)
        expectThat(/^(base|nbd-server|qemu|x-[^:]*):/.test(name), 'a known namespace or x-', `there is ${name}`);
    },
  },
  {
    id: 'context.list-ids',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'The ids in the replies to LIST_META_CONTEXT are zero.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const answer = await asked(probe, OPTION.LIST_META_CONTEXT, []);
      expectAck(answer);
      const other = answer.replies.find(({ data }) => data.length >= 4 && data.readUInt32BE(0) !== 0);
      expectThat(other === undefined, 'ids of 0', () => `one is ${other!.data.readUInt32BE(0)}`);
    },
  },
  {
    id: 'context.list-wildcard',
    level: 'must',
    section: SECTION.BASE,
    says: 'LIST_META_CONTEXT takes "base:" as a wildcard: it gives every context of that namespace.',
    needs: [NEED.ALLOCATION],
    async check(probe) {
      expectContexts(await asked(probe, OPTION.LIST_META_CONTEXT, ['base:']), [BASE_ALLOCATION], 'LIST_META_CONTEXT of "base:"');
    },
  },
  {
    id: 'context.list-by-name',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'LIST_META_CONTEXT with a query gives what matches the query and nothing else.',
    needs: [NEED.ALLOCATION],
    async check(probe) {
      expectContexts(
        await asked(probe, OPTION.LIST_META_CONTEXT, [BASE_ALLOCATION]),
        [BASE_ALLOCATION],
        'LIST_META_CONTEXT of "base:allocation"',
      );
    },
  },
  {
    id: 'context.list-unknown',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'LIST_META_CONTEXT ignores queries of an unknown namespace and unknown leaves of base: when nothing matches, an ACK is all that comes.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const queries = ['x-forestall-no-such:thing', 'base:no-such-leaf'];
      expectContexts(await asked(probe, OPTION.LIST_META_CONTEXT, queries), [], 'LIST_META_CONTEXT of unknown names');
    },
  },
  {
    id: 'context.set',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'SET_META_CONTEXT answers with one META_CONTEXT reply for each context it selects, then ACK.',
    needs: [NEED.ALLOCATION],
    async check(probe) {
      expectContexts(
        await asked(probe, OPTION.SET_META_CONTEXT, [BASE_ALLOCATION]),
        [BASE_ALLOCATION],
        'SET_META_CONTEXT of "base:allocation"',
      );
    },
  },
  {
    id: 'context.set-unique-ids',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Each selected context has an id of its own.',
    needs: [NEED.TWO_CONTEXTS],
    async check(probe) {
      const answer = await asked(probe, OPTION.SET_META_CONTEXT, probe.facts.contexts);
      expectAck(answer);
      const count = answer.replies.length;
      if (count < 2) throw new DoesNotApply('of the listed contexts not more than one can be selected');
      expectThat(contextsOf(answer).size === count, `${count} ids that differ`, `${contextsOf(answer).size} differ`);
    },
  },
  {
    id: 'context.set-none',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'SET_META_CONTEXT without queries selects no context.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      expectContexts(await asked(probe, OPTION.SET_META_CONTEXT, []), [], 'SET_META_CONTEXT without queries');
    },
  },
  {
    id: 'context.set-wildcard',
    level: 'must',
    section: SECTION.BASE,
    says: 'SET_META_CONTEXT ignores "base:".',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      expectContexts(await asked(probe, OPTION.SET_META_CONTEXT, ['base:']), [], 'SET_META_CONTEXT of "base:"');
    },
  },
  {
    id: 'context.set-wildcard-elsewhere',
    level: 'should',
    section: SECTION.METADATA,
    says: 'In other namespaces, too, an empty leaf selects nothing in SET_META_CONTEXT.',
    needs: [NEED.FOREIGN_CONTEXT],
    async check(probe) {
      const foreign = probe.facts.contexts.find((name) => !name.startsWith('base:'))!;
      const namespace = foreign.slice(0, foreign.indexOf(':') + 1);
      expectContexts(await asked(probe, OPTION.SET_META_CONTEXT, [namespace]), [], `SET_META_CONTEXT of "${namespace}"`);
    },
  },
  {
    id: 'context.set-unknown-namespace',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'SET_META_CONTEXT ignores queries of an unknown namespace.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      expectContexts(
        await asked(probe, OPTION.SET_META_CONTEXT, ['x-forestall-no-such:thing']),
        [],
        'SET_META_CONTEXT of an unknown namespace',
      );
    },
  },
  {
    id: 'context.set-unknown-leaf',
    level: 'must',
    section: SECTION.BASE,
    says: 'SET_META_CONTEXT ignores an unknown leaf of base: rather than report an error, and selects what else is asked for.',
    needs: [NEED.ALLOCATION],
    async check(probe) {
      const answer = await asked(probe, OPTION.SET_META_CONTEXT, ['base:no-such-leaf', BASE_ALLOCATION]);
      expectContexts(answer, [BASE_ALLOCATION], 'SET_META_CONTEXT of an unknown and a known leaf');
    },
  },
  {
    id: 'context.without-namespace',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'A query without a colon is ignored or gets ERR_INVALID; it selects nothing.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const answer = await asked(probe, OPTION.SET_META_CONTEXT, ['allocation']);
      if (!answer.acknowledged) expectRefusal(answer, [OPTION_REPLY.ERR_INVALID], 'SET_META_CONTEXT of a query without a colon');
      else expectContexts(answer, [], 'SET_META_CONTEXT of a query without a colon');
    },
  },
  {
    id: 'context.set-replaces',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'SET_META_CONTEXT replaces what was selected before.',
    needs: [NEED.ALLOCATION],
    async check(probe) {
      const link = await chunked(probe);
      expectAck(await link.option(OPTION.SET_META_CONTEXT, contextData(probe.target.export, [BASE_ALLOCATION])));
      expectAck(await link.option(OPTION.SET_META_CONTEXT, contextData(probe.target.export, [])), 'SET_META_CONTEXT without queries');
      await expectNoStatus(probe, link);
    },
  },
  {
    id: 'context.failed-set-replaces',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'SET_META_CONTEXT replaces what was selected before also when it fails.',
    needs: [NEED.ALLOCATION],
    async check(probe) {
      const link = await chunked(probe);
      expectAck(await link.option(OPTION.SET_META_CONTEXT, contextData(probe.target.export, [BASE_ALLOCATION])));
      const failed = await link.option(OPTION.SET_META_CONTEXT, named(probe, uint32(1, 100), Buffer.from('base:allocation')));
      if (failed.closed || failed.acknowledged) throw new DoesNotApply('the server does not refuse a query that is longer than the data');
      await expectNoStatus(probe, link);
    },
  },
  {
    id: 'context.of-another-export',
    level: 'must',
    section: SECTION.METADATA,
    says: 'Contexts belong to the export they were selected for: BLOCK_STATUS on another one does not get them.',
    needs: [NEED.ALLOCATION, NEED.OTHER_NAME, NEED.GO],
    async check(probe) {
      const link = await chunked(probe);
      const answer = await link.option(OPTION.SET_META_CONTEXT, contextData(probe.facts.otherName!, [BASE_ALLOCATION]));
      if (!answer.acknowledged || answer.replies.length === 0) throw new DoesNotApply('the other export has no context base:allocation');
      await expectNoStatus(probe, link);
    },
  },
  {
    id: 'context.query-overruns',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'A query that is longer than the data gets ERR_INVALID.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const query = Buffer.from(BASE_ALLOCATION);
      const wrong = [query.length + 1, 0xffffffff].map((length) => named(probe, uint32(1, length), query));
      await expectInvalid(probe, wrong, 'a query that is longer than the data');
    },
  },
  {
    id: 'context.queries-overrun',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'A number of queries that the data does not hold gets ERR_INVALID.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      const query = Buffer.from(BASE_ALLOCATION);
      const wrong = [2, 0xffffffff].map((count) => named(probe, uint32(count, query.length), query));
      await expectInvalid(probe, wrong, 'fewer queries than announced');
    },
  },
  {
    id: 'context.name-overruns',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'An export name that is longer than the data gets ERR_INVALID, and so does data that ends before its fields.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      await expectInvalid(probe, [uint32(5, 0), uint32(0xffffffff, 0), named(probe), Buffer.alloc(0)], 'data that ends too early');
    },
  },
  {
    id: 'context.trailing-bytes',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'Bytes behind the last query make the request one that does not follow its syntax: it gets ERR_INVALID.',
    needs: [NEED.CONTEXTS],
    async check(probe) {
      await expectInvalid(
        probe,
        [Buffer.concat([contextData(probe.target.export, ['x-a:b']), Buffer.from('more')])],
        'bytes behind the last query',
      );
    },
  },
  {
    id: 'context.unknown-export',
    level: 'should',
    section: SECTION.OPTION_REPLIES,
    says: 'Contexts of an export that does not exist cannot be listed or selected: ERR_UNKNOWN.',
    needs: [NEED.CONTEXTS, NEED.UNKNOWN_NAME],
    async check(probe) {
      const codes: number[] = [OPTION_REPLY.ERR_UNKNOWN];
      if (probe.facts.tls !== 'none' && !probe.facts.throughTls) codes.push(OPTION_REPLY.ERR_TLS_REQD);
      for (const option of CONTEXT_OPTIONS) {
        expectRefusal(await (await chunked(probe)).option(option, contextData(probe.facts.unknownName!, [BASE_ALLOCATION])), codes);
      }
    },
  },
];

export const EXTENDED_NEGOTIATION_RULES: readonly Rule[] = [
  {
    id: 'extended.declined',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'A server without extended headers refuses EXTENDED_HEADERS and goes on with compact ones.',
    needs: [NEED.NOT_EXTENDED],
    async check(probe) {
      const link = await probe.connect();
      const answer = await link.option(OPTION.EXTENDED_HEADERS);
      expectThat(!answer.closed && answer.final!.type >= OPTION_REPLY_ERROR_BIT, 'EXTENDED_HEADERS to be refused', () => answer.words);
      const session = await enter(link, probe.target.export, { headers: probe.headers, exportName: !probe.facts.go });
      await session.staysInStep();
    },
  },
  {
    id: 'extended.with-data',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'EXTENDED_HEADERS takes no data: with data it gets ERR_INVALID.',
    needs: [NEED.EXTENDED],
    async check(probe) {
      const answer = await (await probe.connect()).option(OPTION.EXTENDED_HEADERS, uint32(1));
      expectRefusal(answer, [OPTION_REPLY.ERR_INVALID], 'EXTENDED_HEADERS with data');
    },
  },
  {
    id: 'extended.refused-not-in-force',
    level: 'must',
    section: SECTION.REQUEST,
    says: 'Headers stay compact after an EXTENDED_HEADERS that was refused.',
    needs: [NEED.EXTENDED],
    async check(probe) {
      const link = await probe.connect();
      const refused = await link.option(OPTION.EXTENDED_HEADERS, uint32(1));
      if (refused.closed || refused.acknowledged) throw new DoesNotApply('the server does not refuse EXTENDED_HEADERS with data');
      await (await enter(link, probe.target.export, {})).staysInStep();
    },
  },
  {
    id: 'extended.alone',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'EXTENDED_HEADERS is accepted also where structured replies were not agreed on before.',
    needs: [NEED.EXTENDED],
    async check(probe) {
      expectAck(await (await probe.connect()).option(OPTION.EXTENDED_HEADERS));
    },
  },
  {
    id: 'extended.after-structured',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'EXTENDED_HEADERS takes precedence over structured replies that were agreed on before.',
    needs: [NEED.EXTENDED, NEED.STRUCTURED],
    async check(probe) {
      const link = await probe.connect();
      expectAck(await link.option(OPTION.STRUCTURED_REPLY));
      const session = await enter(link, probe.target.export, { headers: 'extended' });
      const answer = await session.read(0, probe.unit);
      expectSuccess(answer);
      expectThat(answer.messages[0].style === 'extended', 'an extended reply', `a reply in the ${answer.messages[0].style} style came`);
    },
  },
  {
    id: 'extended.then-structured',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'STRUCTURED_REPLY after EXTENDED_HEADERS gets ERR_EXT_HEADER_REQD, and headers stay extended.',
    needs: [NEED.EXTENDED],
    async check(probe) {
      const link = await probe.connect();
      expectAck(await link.option(OPTION.EXTENDED_HEADERS));
      expectRefusal(await link.option(OPTION.STRUCTURED_REPLY), [OPTION_REPLY.ERR_EXT_HEADER_REQD]);
      const session = await enter(link, probe.target.export, {});
      await new RawSession(link, { ...session, headers: 'extended', contexts: new Map(), blockBytes: probe.unit }).staysInStep();
    },
  },
  {
    id: 'extended.repeated',
    level: 'must',
    section: SECTION.FIXED_NEWSTYLE,
    says: 'A second EXTENDED_HEADERS is acknowledged or gets ERR_INVALID, and changes nothing.',
    needs: [NEED.EXTENDED],
    async check(probe) {
      const link = await probe.connect();
      expectAck(await link.option(OPTION.EXTENDED_HEADERS));
      const again = await link.option(OPTION.EXTENDED_HEADERS);
      if (!again.acknowledged) expectRefusal(again, [OPTION_REPLY.ERR_INVALID], 'the second EXTENDED_HEADERS');
      const session = await enter(link, probe.target.export, {});
      await new RawSession(link, { ...session, headers: 'extended', contexts: new Map(), blockBytes: probe.unit }).staysInStep();
    },
  },
  {
    id: 'extended.export-name',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'A client that has extended headers must not use EXPORT_NAME: the server ends the connection.',
    needs: [NEED.EXTENDED],
    note: 'The document forbids it to the client and lets a server close on what is forbidden; any other answer would leave in doubt which headers follow.',
    async check(probe) {
      const link = await probe.connect();
      expectAck(await link.option(OPTION.EXTENDED_HEADERS));
      link.sendOption(OPTION.EXPORT_NAME, Buffer.from(probe.target.export));
      const rest = await link.readToEnd('the end of the connection');
      expectThat(rest.length === 0, 'the end of the connection and nothing else', `${rest.length} bytes came before it`);
    },
  },
];
