// What there is to test: looks at the server as a careful client would and notes what it offers. A server on which no rule at
// all can be checked (nobody listens, no such export) is refused here with the reason.
import type { HeaderStyle } from '../nbd/codec.js';
import { BASE_ALLOCATION, EXPORT_FLAG, HANDSHAKE_FLAG, OPTION, OPTION_REPLY, STRING_BYTES_MAX } from '../nbd/constants.js';
import { type BlockSizes, blockSizesOf, contextData, contextsOf, enter, infoData } from './attach.js';
import { ConnectionEnded, Deadline } from './raw-stream.js';
import type { OptionReply, RawLink } from './raw-link.js';
import { openLink, startTls, type Target } from './target.js';
import { RuleBroken } from './verdict.js';

/** An export has to have room for what rules read and write beside one another. */
export const EXPORT_BYTES_MIN = 1024 * 1024;
const NO_SUCH_NAME = 'forestall-conformance-no-such-export';

export interface Facts {
  handshakeFlags: number;
  /** Of a plain connection: TLS cannot be had, can, or must. */
  tls: 'none' | 'offered' | 'required';
  throughTls: boolean;
  sizeBytes: number;
  /** Transmission flags by what was agreed on; 0 where it cannot be. */
  flags: Record<HeaderStyle, number>;
  go: boolean;
  structured: boolean;
  extended: boolean;
  /** What BLOCK_SIZE said when it was asked for; null: nothing. */
  block: BlockSizes | null;
  /** Metadata contexts as LIST_META_CONTEXT names them. */
  contexts: string[];
  allocation: boolean;
  /** BLOCK_STATUS_PAYLOAD is offered once a context is selected. */
  statusPayload: boolean;
  /** What LIST said; null: it was refused. */
  names: string[] | null;
  /** A name that the server does not know; null: it takes any. */
  unknownName: string | null;
  /** Another export that may be asked for. */
  otherName: string | null;
}

/** The server cannot be tested; the message says why. */
export class CannotTest extends Error {}

export async function survey(target: Target, timeoutMs: number): Promise<Facts> {
  const facts: Facts = {
    handshakeFlags: 0,
    tls: 'none',
    throughTls: target.tls !== null,
    sizeBytes: 0,
    flags: { simple: 0, structured: 0, extended: 0 },
    go: false,
    structured: false,
    extended: false,
    block: null,
    contexts: [],
    allocation: false,
    statusPayload: false,
    names: null,
    unknownName: null,
    otherName: null,
  };
  const surveyor = new Surveyor(target, timeoutMs, facts);
  await surveyor.lookAtHandshake();
  await surveyor.lookAtTls();
  await surveyor.lookAtExport();
  await surveyor.lookAtNames();
  await surveyor.lookAtHeaders();
  await surveyor.lookAtContexts();
  return facts;
}

class Surveyor {
  constructor(
    readonly target: Target,
    readonly timeoutMs: number,
    readonly facts: Facts,
  ) {}

  async lookAtHandshake(): Promise<void> {
    try {
      await this.#onLink(true, async (link) => {
        this.facts.handshakeFlags = link.handshakeFlags;
      });
    } catch (error) {
      throw new CannotTest(`${this.target.uri} cannot be tested: ${(error as Error).message}`);
    }
  }

  async lookAtTls(): Promise<void> {
    const offered = await this.#tried(true, (link) => link.option(OPTION.STARTTLS));
    if (offered?.acknowledged !== true) {
      if (this.facts.throughTls) {
        throw new CannotTest(
          `${this.target.uri} cannot be tested: it names TLS, and the server does not do it (${offered?.words ?? 'no answer'})`,
        );
      }
      return;
    }
    const list = await this.#tried(true, (link) => link.option(OPTION.LIST));
    this.facts.tls = list?.final?.type === OPTION_REPLY.ERR_TLS_REQD ? 'required' : 'offered';
  }

  /** The one thing that must work: entering the transmission phase. */
  async lookAtExport(): Promise<void> {
    const { facts, target } = this;
    const info = await this.#tried(false, (link) => link.option(OPTION.GO, infoData(target.export)));
    facts.go = info?.acknowledged === true;
    if (info !== null && facts.go) facts.block = blockSizesOf(info);
    try {
      facts.sizeBytes = await this.#onLink(
        false,
        async (link) => (await enter(link, target.export, { exportName: !facts.go, zeroes: this.#zeroes })).sizeBytes,
      );
    } catch (error) {
      const hint = facts.tls === 'required' && !facts.throughTls ? ' (it requires TLS: write nbds:// and credentials)' : '';
      const came = info === null || info.acknowledged ? (error as Error).message : info.words;
      throw new CannotTest(`${target.uri} cannot be tested: its export cannot be entered: ${came}${hint}`);
    }
    if (facts.sizeBytes < EXPORT_BYTES_MIN) {
      throw new CannotTest(`${target.uri} cannot be tested: the export has ${facts.sizeBytes} bytes, and rules need at least 1 MiB`);
    }
  }

  async lookAtNames(): Promise<void> {
    const { facts, target } = this;
    const list = await this.#tried(false, (link) => link.option(OPTION.LIST));
    if (list?.acknowledged === true) facts.names = list.replies.flatMap(nameOf);
    const unknown = await this.#tried(false, (link) => link.option(OPTION.INFO, infoData(NO_SUCH_NAME)));
    if (unknown !== null && !unknown.closed && !unknown.acknowledged) facts.unknownName = NO_SUCH_NAME;
    else if (unknown?.acknowledged === true) facts.otherName = NO_SUCH_NAME;
    facts.otherName = facts.names?.find((name) => name !== target.export && name !== '') ?? facts.otherName;
  }

  async lookAtHeaders(): Promise<void> {
    const { facts } = this;
    for (const headers of ['simple', 'structured', 'extended'] as const) {
      const session = await this.#tried(false, (link) =>
        enter(link, this.target.export, { headers, exportName: !facts.go, zeroes: this.#zeroes }),
      );
      if (session === null) continue;
      facts.flags[headers] = session.flags;
      if (headers === 'structured') facts.structured = true;
      if (headers === 'extended') facts.extended = true;
    }
  }

  async lookAtContexts(): Promise<void> {
    const { facts, target } = this;
    if (!facts.structured && !facts.extended) return;
    const agreed = facts.structured ? OPTION.STRUCTURED_REPLY : OPTION.EXTENDED_HEADERS;
    const listed = await this.#tried(false, async (link) => {
      await link.option(agreed);
      return link.option(OPTION.LIST_META_CONTEXT, contextData(target.export, []));
    });
    if (listed?.acknowledged === true) {
      facts.contexts = listed.replies
        .filter(({ type, data }) => type === OPTION_REPLY.META_CONTEXT && data.length > 4)
        .map(({ data }) => data.toString('utf8', 4));
    }
    const selected = await this.#tried(false, async (link) => {
      await link.option(agreed);
      return link.option(OPTION.SET_META_CONTEXT, contextData(target.export, [BASE_ALLOCATION]));
    });
    facts.allocation = selected?.acknowledged === true && [...contextsOf(selected).values()].includes(BASE_ALLOCATION);
    if (!facts.allocation || !facts.extended) return;
    const session = await this.#tried(false, (link) => enter(link, target.export, { headers: 'extended', contexts: [BASE_ALLOCATION] }));
    facts.statusPayload = session?.offers(EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) === true;
  }

  get #zeroes(): boolean {
    return (this.facts.handshakeFlags & HANDSHAKE_FLAG.NO_ZEROES) === 0;
  }

  /** Null where the server does not do it, in whatever way. */
  async #tried<T>(plain: boolean, look: (link: RawLink) => Promise<T>): Promise<T | null> {
    try {
      return await this.#onLink(plain, look);
    } catch (error) {
      if (error instanceof RuleBroken || error instanceof ConnectionEnded || error instanceof Error) return null;
      throw error;
    }
  }

  async #onLink<T>(plain: boolean, look: (link: RawLink) => Promise<T>): Promise<T> {
    const link = await openLink(this.target, new Deadline(this.timeoutMs));
    try {
      await link.readGreeting();
      link.sendFlags();
      if (!plain && this.facts.throughTls) await startTls(link, this.target);
      return await look(link);
    } finally {
      link.destroy();
    }
  }
}

/** The name in a SERVER reply, if it is well-formed. */
function nameOf({ type, data }: OptionReply): string[] {
  if (type !== OPTION_REPLY.SERVER || data.length < 4) return [];
  const length = data.readUInt32BE(0);
  return length <= data.length - 4 && length <= STRING_BYTES_MAX ? [data.toString('utf8', 4, 4 + length)] : [];
}

/** Flags of the richest style that the server has. */
export function bestFlags(facts: Facts): number {
  return facts.structured ? facts.flags.structured : facts.flags.simple;
}

export function isReadOnly(facts: Facts): boolean {
  return (facts.flags.simple & EXPORT_FLAG.READ_ONLY) !== 0;
}

/** The most a READ may ask for and a WRITE may carry. */
export function payloadBytesMax(facts: Facts): number {
  return facts.block === null ? 32 * 1024 * 1024 : facts.block.maximum;
}
