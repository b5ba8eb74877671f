// Who is the active target next: flips that are wished for, failovers when the active target is lost, one at a time.
// How each goes is in flip.ts, what it makes durable in role-change.ts.
import { type Clock, type Log, sleep } from '../../replication/world.js';
import { type FlipCertificate, type Outcome, refuse, type TargetRef, type VolumeFact } from '../control.js';
import type { Copies, MirrorCopy } from './copies.js';
import { type Copy, describeTarget } from './copy.js';
import { type FlipCause, type FlipGround, failOver, flip, preflush, tooLate } from './flip.js';
import type { IoPath } from './io-path.js';
import type { RecordKeeper } from './record-keeper.js';
import type { RoleChange } from './role-change.js';
import type { VolumeSettings } from './volume-settings.js';

export interface SuccessionOptions {
  volume: string;
  copies: Copies;
  roles: RoleChange;
  keeper: RecordKeeper;
  path: IoPath;
  clock: Clock;
  log: Log;
  settings(): VolumeSettings;
  /** Copies differ and nobody can tell which is right: no mirror may take over. */
  damaged(): boolean;
  /** Reads some of the copies back. Not null: this is no time to flip. */
  sample(): Promise<Outcome<never> | null>;
  fact(fact: VolumeFact): void;
}

export class Succession {
  readonly #options: SuccessionOptions;
  readonly #ground: FlipGround;
  /** Where an unfinished flip or failover goes: nothing may cross it. */
  #to: TargetRef | null = null;
  /** The last failover did not succeed: its mirror failed or took too long. */
  #failoverFailed = false;
  /** A flip still waits for the active target: told when that refuses a request. */
  #refused: ((reason: string) => void) | null = null;

  constructor(options: SuccessionOptions) {
    this.#options = options;
    const { clock, log, path, copies, roles } = options;
    this.#ground = {
      clock,
      log,
      path,
      active: () => copies.active,
      commit: (certificate, to, doubtful) => roles.commit(certificate, to, doubtful),
      certify: (to, why, held) => roles.certify(to, why, held),
      abandonActive: () => roles.abandonActive(),
      onRefusal: (refused) => {
        this.#refused = refused;
      },
    };
  }

  /** Where an unfinished flip or failover goes; null: none is under way. */
  get flippingTo(): TargetRef | null {
    return this.#to;
  }

  get flipping(): boolean {
    return this.#to !== null;
  }

  get failoverFailed(): boolean {
    return this.#failoverFailed;
  }

  /**
   * To a mirror that is usable. Refused when it, or the volume, is not fit for it after all. One that is called off for its
   * deadline is tried again with twice the time, as far as the policy allows; between the tries hosts go on for as long.
   */
  async flip(to: Copy, cause: FlipCause): Promise<Outcome<FlipCertificate>> {
    const { clock, settings, sample } = this.#options;
    // Nothing is held yet: should the active target fail now, that is a failover as always.
    const unlike = await sample();
    if (unlike !== null) return unlike;
    const { mirror } = to;
    try {
      for (let deadlineMs = settings().flipDeadlineMs; ; deadlineMs *= 2) {
        const longestMs = settings().flipDeadlineMaxMs;
        const outcome = await this.#tryFlip(to, cause, Math.min(deadlineMs, longestMs), deadlineMs >= longestMs);
        if (outcome.ok || outcome.code !== 'flip-deadline' || deadlineMs >= longestMs) return outcome;
        await sleep(clock, deadlineMs);
      }
    } finally {
      mirror?.limitQueue(Number.POSITIVE_INFINITY);
    }
  }

  async #tryFlip(to: Copy, cause: FlipCause, deadlineMs: number, insists: boolean): Promise<Outcome<FlipCertificate>> {
    const { copies, volume, settings } = this.#options;
    const flushed = await preflush(this.#ground, to, deadlineMs);
    if (!flushed.ok) return flushed;
    // There is no need to hold hosts to find that out.
    if (flushed.value > deadlineMs && !insists) return tooLate(to, deadlineMs);
    if (this.flipping || copies.closed) return refuse('busy', `${volume} is being failed over: try again when that is over`);
    const failoverMs = settings().giveUpAfterMs;
    return this.#move(to, () => flip(this.#ground, to, cause, { deadlineMs, insists, failoverMs }));
  }

  /** The active target answers no more: a mirror takes over, if one may. */
  async failOver(reason: string): Promise<void> {
    const { copies, log, volume, settings } = this.#options;
    const to = this.#mayFailOver();
    if (to === null) return;
    const from = copies.active;
    log.warn({ volume, from: from.target, to: to.target, reason }, 'the active target is given up for its mirror');
    const why: FlipCause = { kind: 'failover', reason: `${describeTarget(from.target)}: ${reason}`, verdict: null };
    await this.#move(to, async () => {
      const outcome = await failOver(this.#ground, to, why, settings().giveUpAfterMs);
      this.#failoverFailed = !outcome.ok;
      if (!outcome.ok) log.error({ volume, reason: outcome.message }, 'the failover did not succeed: hosts wait for the old target');
      return outcome;
    });
  }

  /** To a mirror that an operator says may take over, from an active target that does not answer. */
  takeOver(to: Copy, reason: string): Promise<Outcome<FlipCertificate>> {
    const { settings } = this.#options;
    return this.#move(to, () => failOver(this.#ground, to, { kind: 'failover', reason, verdict: null }, settings().giveUpAfterMs));
  }

  /** The active target refused a write or a flush. True: the request waits for what another target says. */
  activeRefused(errno: number): boolean {
    const { copies, path } = this.#options;
    if (this.#refused !== null) {
      this.#refused(`${describeTarget(copies.active.target)} answered a request with error ${errno}`);
      return true;
    }
    if (!this.#mayFailOver()) return this.flipping && path.isSuspended;
    void this.failOver(`it answered a request with error ${errno}`);
    return true;
  }

  #mayFailOver(): MirrorCopy | null {
    const { copies, damaged } = this.#options;
    if (copies.closed || this.flipping || damaged()) return null;
    return copies.mirrors.find((copy) => copy.mirror.usable) ?? null;
  }

  /** Nothing crosses it. Told once, when hosts go on: only then the certificate says how long they were held. */
  async #move(to: Copy, work: () => Promise<Outcome<FlipCertificate>>): Promise<Outcome<FlipCertificate>> {
    const { keeper, fact } = this.#options;
    this.#to = to.target;
    let outcome: Outcome<FlipCertificate>;
    try {
      outcome = await work();
    } finally {
      this.#to = null;
    }
    if (outcome.ok) {
      // The flip's own transaction has the certificate without the pause.
      void keeper.remember();
      fact({ type: 'flipped', certificate: outcome.value });
    }
    return outcome;
  }
}
