// Rules of TLS: servers without it, servers that offer it, servers that insist on it. Some speak plaintext on purpose where the
// URI names TLS.
import { BASE_ALLOCATION, COMMAND, OPTION, OPTION_REPLY } from '../../nbd/constants.js';
import { contextData, enter, infoData } from '../attach.js';
import { uint32 } from '../big-endian.js';
import { expectAck, expectRefusal, expectSuccess, expectThat } from '../expect.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import { optionHeader, type OptionAnswer, type RawLink, UNKNOWN_OPTION } from '../raw-link.js';
import { DeadlinePassed } from '../raw-stream.js';
import { type Rule, SECTION } from '../rule.js';
import { shakeHands, startTls } from '../target.js';
import { DoesNotApply, RuleBroken } from '../verdict.js';
import { optionName } from '../words.js';

/** Every option but STARTTLS, ABORT and EXPORT_NAME, with data that is right. */
function otherOptions(probe: Probe): [option: number, data: Buffer][] {
  const name = probe.target.export;
  return [
    [OPTION.LIST, Buffer.alloc(0)],
    [OPTION.INFO, infoData(name)],
    [OPTION.GO, infoData(name)],
    [OPTION.STRUCTURED_REPLY, Buffer.alloc(0)],
    [OPTION.EXTENDED_HEADERS, Buffer.alloc(0)],
    [OPTION.LIST_META_CONTEXT, contextData(name, [])],
    [OPTION.SET_META_CONTEXT, contextData(name, [BASE_ALLOCATION])],
    [UNKNOWN_OPTION, Buffer.alloc(0)],
  ];
}

/** A link in plaintext, whatever the URI says. */
function plain(probe: Probe): Promise<RawLink> {
  return probe.connect({ plain: true });
}

async function answers(probe: Probe, link: RawLink): Promise<OptionAnswer[]> {
  const all: OptionAnswer[] = [];
  for (const [option, data] of otherOptions(probe).filter(([option]) => option !== OPTION.GO)) all.push(await link.option(option, data));
  return all;
}

/** The TLS handshake of a version alone; false: it fails. */
async function speaks(probe: Probe, version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'): Promise<boolean> {
  const link = await plain(probe);
  expectAck(await link.option(OPTION.STARTTLS));
  try {
    // Old versions need what OpenSSL no longer does by itself.
    const old = version === 'TLSv1.1' ? { ciphers: 'DEFAULT@SECLEVEL=0' } : {};
    await shakeHands(link, probe.target, { minVersion: version, maxVersion: version, ...old });
    // With TLS 1.3 the server's refusal of the client comes only after the client's side is done.
    await link.staysInStep();
    return true;
  } catch (error) {
    if (error instanceof DeadlinePassed) throw error;
    return false;
  }
}

export const TLS_RULES: readonly Rule[] = [
  {
    id: 'tls.none-refuses',
    level: 'must',
    section: SECTION.NOTLS,
    says: 'A server without TLS refuses STARTTLS, and the session goes on without it.',
    needs: [NEED.NO_TLS],
    async check(probe) {
      const link = await probe.connect();
      const answer = await link.option(OPTION.STARTTLS);
      expectRefusal(answer);
      expectThat(answer.final!.type !== OPTION_REPLY.ERR_TLS_REQD, 'any error but ERR_TLS_REQD', () => answer.words);
      await link.staysInStep();
      expectAck(await link.option(OPTION.GO, infoData(probe.target.export)), 'GO after STARTTLS was refused');
    },
  },
  {
    id: 'tls.none-requires',
    level: 'must',
    section: SECTION.NOTLS,
    says: 'A server without TLS answers no option with ERR_TLS_REQD.',
    needs: [NEED.NO_TLS],
    async check(probe) {
      for (const answer of await answers(probe, await probe.connect())) {
        expectThat(answer.final?.type !== OPTION_REPLY.ERR_TLS_REQD, 'any answer but ERR_TLS_REQD', () => answer.words);
      }
    },
  },
  {
    id: 'tls.with-data',
    level: 'should',
    section: SECTION.OPTIONS,
    says: 'STARTTLS takes no data: with data it is refused.',
    needs: [],
    async check(probe) {
      expectRefusal(await (await plain(probe)).option(OPTION.STARTTLS, uint32(1)), [], 'STARTTLS with data');
    },
  },
  {
    id: 'tls.needs-fixed-newstyle',
    level: 'must',
    section: SECTION.TLS,
    says: 'TLS is not begun with a client that did not say fixed newstyle.',
    needs: [NEED.TLS_OFFERED],
    async check(probe) {
      const link = await probe.connect({ plain: true, flags: 0 });
      const answer = await link.option(OPTION.STARTTLS);
      expectThat(!answer.acknowledged, 'STARTTLS to be refused, or the end of the connection', () => answer.words);
    },
  },
  {
    id: 'tls.required-others',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'A server that requires TLS answers every option before it, also INFO, GO and unknown ones, with ERR_TLS_REQD, and tells nothing.',
    needs: [NEED.TLS_REQUIRED],
    async check(probe) {
      const link = await plain(probe);
      for (const [option, data] of otherOptions(probe)) {
        const answer = await link.option(option, data);
        expectRefusal(answer, [OPTION_REPLY.ERR_TLS_REQD], `${optionName(option)} before TLS`);
        expectThat(answer.replies.length === 0, 'no other reply', () => `${answer.replies.length} came before the error`);
      }
    },
  },
  {
    id: 'tls.required-abort',
    level: 'must',
    section: SECTION.TLS,
    says: 'A server that requires TLS answers ABORT before it with ACK.',
    needs: [NEED.TLS_REQUIRED],
    async check(probe) {
      expectAck(await (await plain(probe)).option(OPTION.ABORT), 'ABORT before TLS');
    },
  },
  {
    id: 'tls.required-export-name',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'A server that requires TLS ends the connection on EXPORT_NAME before it.',
    needs: [NEED.TLS_REQUIRED],
    async check(probe) {
      const link = await plain(probe);
      link.sendOption(OPTION.EXPORT_NAME, Buffer.from(probe.target.export));
      const came = await link.readToEnd('the end of the connection');
      expectThat(came.length === 0, 'the end of the connection and nothing else', `${came.length} bytes came before it`);
    },
  },
  {
    id: 'tls.required-still-offers',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'STARTTLS is acknowledged also after other options were refused.',
    needs: [NEED.TLS_OFFERED],
    async check(probe) {
      const link = await plain(probe);
      await link.option(UNKNOWN_OPTION);
      await link.option(OPTION.LIST, uint32(0));
      expectAck(await link.option(OPTION.STARTTLS));
    },
  },
  {
    id: 'tls.failed-handshake',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'When the TLS handshake fails after STARTTLS was acknowledged, the connection ends.',
    needs: [NEED.TLS_OFFERED],
    async check(probe) {
      const link = await plain(probe);
      expectAck(await link.option(OPTION.STARTTLS));
      link.send(Buffer.alloc(512, optionHeader(OPTION.LIST, 0)));
      await link.readToEnd('the end of the connection');
    },
  },
  {
    id: 'tls.plaintext-behind',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'After the ACK to STARTTLS all is TLS: an option that was sent in plaintext right behind it is never answered, before TLS or in it.',
    needs: [NEED.TLS_OFFERED],
    note: 'An attacker on the way can put such an option before the first bytes of TLS (CVE-2021-3716). Ending the connection is right, before the ACK or after it; so is dropping the bytes.',
    async check(probe) {
      const link = await plain(probe);
      link.send(optionHeader(OPTION.STARTTLS, 0), optionHeader(OPTION.LIST, 0), optionHeader(OPTION.ABORT, 0));
      const starttls = await link.answer(OPTION.STARTTLS);
      if (!starttls.acknowledged) return;
      if (probe.target.tls === null) {
        const came = await link.readToEnd('the end of the connection');
        expectThat(!came.includes(uint32(0x0003e889, 0x045565a9)), 'no option reply in plaintext', 'one came');
        return;
      }
      try {
        await shakeHands(link, probe.target);
      } catch (error) {
        if (error instanceof DeadlinePassed) throw error;
        return;
      }
      const answer = await link.option(UNKNOWN_OPTION);
      expectThat(
        answer.closed || answer.final?.option === UNKNOWN_OPTION,
        'the first option within TLS to be answered first',
        () => answer.words,
      );
    },
  },
  {
    id: 'tls.forgets-structured',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'What was agreed on before STARTTLS is forgotten: without a new STRUCTURED_REPLY replies are simple.',
    needs: [NEED.THROUGH_TLS, NEED.TLS_ONLY_OFFERED, NEED.STRUCTURED],
    async check(probe) {
      const link = await plain(probe);
      expectAck(await link.option(OPTION.STRUCTURED_REPLY));
      await startTls(link, probe.target);
      const session = await enter(link, probe.target.export, {});
      const answer = await session.read(0, probe.unit);
      expectSuccess(answer);
      expectThat(answer.messages[0].style === 'simple', 'a simple reply', () => `a reply in the ${answer.messages[0].style} style came`);
    },
  },
  {
    id: 'tls.forgets-contexts',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Contexts that were selected before STARTTLS are forgotten.',
    needs: [NEED.THROUGH_TLS, NEED.TLS_ONLY_OFFERED, NEED.STRUCTURED, NEED.ALLOCATION],
    async check(probe) {
      const link = await plain(probe);
      expectAck(await link.option(OPTION.STRUCTURED_REPLY));
      await link.option(OPTION.SET_META_CONTEXT, contextData(probe.target.export, [BASE_ALLOCATION]));
      await startTls(link, probe.target);
      const session = await enter(link, probe.target.export, { headers: 'structured' });
      const answer = await session.ask({ command: COMMAND.BLOCK_STATUS, length: probe.unit });
      expectThat(!answer.succeeded, 'BLOCK_STATUS to be refused', () => answer.words);
    },
  },
  {
    id: 'tls.forgets-extended',
    level: 'must',
    section: SECTION.OPTIONS,
    says: 'Extended headers that were agreed on before STARTTLS are forgotten: headers are compact.',
    needs: [NEED.THROUGH_TLS, NEED.TLS_ONLY_OFFERED, NEED.EXTENDED],
    async check(probe) {
      const link = await plain(probe);
      expectAck(await link.option(OPTION.EXTENDED_HEADERS));
      await startTls(link, probe.target);
      await (await enter(link, probe.target.export, {})).staysInStep();
    },
  },
  {
    id: 'tls.twice',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'STARTTLS within TLS gets ERR_INVALID.',
    needs: [NEED.THROUGH_TLS],
    async check(probe) {
      const link = await probe.connect();
      expectRefusal(await link.option(OPTION.STARTTLS), [OPTION_REPLY.ERR_INVALID], 'STARTTLS within TLS');
      await link.staysInStep();
    },
  },
  {
    id: 'tls.within-not-required',
    level: 'must',
    section: SECTION.FORCEDTLS,
    says: 'Within TLS no option gets ERR_TLS_REQD.',
    needs: [NEED.THROUGH_TLS],
    async check(probe) {
      for (const answer of await answers(probe, await probe.connect())) {
        expectThat(!answer.closed && answer.final?.type !== OPTION_REPLY.ERR_TLS_REQD, 'any answer but ERR_TLS_REQD', () => answer.words);
      }
    },
  },
  {
    id: 'tls.version-1.2',
    level: 'must',
    section: SECTION.TLS_VERSIONS,
    says: 'TLS 1.2 is supported.',
    needs: [NEED.THROUGH_TLS],
    async check(probe) {
      if (!(await speaks(probe, 'TLSv1.2'))) throw new RuleBroken('a handshake of TLS 1.2 to succeed', 'it failed');
    },
  },
  {
    id: 'tls.version-1.3',
    level: 'should',
    section: SECTION.TLS_VERSIONS,
    says: 'Later versions of TLS are supported: 1.3.',
    needs: [NEED.THROUGH_TLS],
    async check(probe) {
      if (!(await speaks(probe, 'TLSv1.3'))) throw new RuleBroken('a handshake of TLS 1.3 to succeed', 'it failed');
    },
  },
  {
    id: 'tls.version-1.1',
    level: 'should',
    section: SECTION.TLS_VERSIONS,
    says: 'Versions of TLS before 1.2 are not to be had unless somebody asked for them.',
    needs: [NEED.THROUGH_TLS],
    async check(probe) {
      if (probe.target.tls?.psk) throw new DoesNotApply('TLS 1.1 cannot be tried with a pre-shared key');
      if (await speaks(probe, 'TLSv1.1')) throw new RuleBroken('a handshake of TLS 1.1 to fail', 'it succeeded');
    },
  },
];
