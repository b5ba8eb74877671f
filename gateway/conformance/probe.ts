// What a rule's check works with: connections to the server as the rule wants them, and what is known of the server. All of them
// share the rule's deadline and are gone when it ends.
import type { HeaderStyle } from '../nbd/codec.js';
import { BASE_ALLOCATION, HANDSHAKE_FLAG } from '../nbd/constants.js';
import { enter, type Wishes } from './attach.js';
import type { RawLink } from './raw-link.js';
import type { RawSession } from './raw-session.js';
import type { Deadline } from './raw-stream.js';
import { type Facts, payloadBytesMax } from './survey.js';
import { openLink, startTls, type Target } from './target.js';

export interface LinkWishes {
  /** Without TLS, also where the URI names it. */
  plain?: boolean;
  /** Client flags; default what the server offers. Null: send none. */
  flags?: number | null;
}

export class Probe {
  readonly facts: Facts;
  readonly target: Target;
  readonly deadline: Deadline;
  #links: RawLink[] = [];

  constructor(target: Target, facts: Facts, deadline: Deadline) {
    this.target = target;
    this.facts = facts;
    this.deadline = deadline;
  }

  /** The unit that rules read and write in: aligned for any server. */
  get unit(): number {
    return Math.max(512, this.facts.block?.minimum ?? 1);
  }

  get payloadBytesMax(): number {
    return payloadBytesMax(this.facts);
  }

  /** The best style that the server has without extended headers. */
  get headers(): HeaderStyle {
    return this.facts.structured ? 'structured' : 'simple';
  }

  get extendedIfAny(): HeaderStyle[] {
    return this.facts.extended ? [this.headers, 'extended'] : [this.headers];
  }

  /** Greeted, flags sent, through TLS where the URI says so: options may follow. */
  async connect({ plain = false, flags }: LinkWishes = {}): Promise<RawLink> {
    const link = await this.open();
    await link.readGreeting();
    if (flags === null) return link;
    link.sendFlags(flags);
    if (!plain && this.target.tls !== null) await startTls(link, this.target);
    return link;
  }

  /** Not even the greeting is read. */
  async open(): Promise<RawLink> {
    const link = await openLink(this.target, this.deadline);
    this.#links.push(link);
    return link;
  }

  /** In the transmission phase; by default with the best style that is not extended. */
  async session(wishes: Wishes & LinkWishes = {}): Promise<RawSession> {
    const noZeroes = (this.facts.handshakeFlags & HANDSHAKE_FLAG.NO_ZEROES) !== 0;
    const link = await this.connect(wishes);
    return enter(link, this.target.export, {
      headers: this.headers,
      exportName: !this.facts.go,
      zeroes: !noZeroes,
      unit: this.unit,
      ...wishes,
    });
  }

  /** With base:allocation selected. */
  statusSession(headers: HeaderStyle = this.headers): Promise<RawSession> {
    return this.session({ headers, contexts: [BASE_ALLOCATION] });
  }

  /** The first bytes of what came last, on whichever connection. */
  get evidence(): Buffer {
    return this.#links.findLast(({ evidence }) => evidence.length > 0)?.evidence ?? Buffer.alloc(0);
  }

  close(): void {
    for (const link of this.#links) link.destroy();
  }
}
