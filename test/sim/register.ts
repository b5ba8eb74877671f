// Decides whether the history of one block is that of a register: every operation takes effect at one moment between its
// invocation and its completion (an unanswered write at any later moment, or never), reads give the newest value, and
// nothing goes back but by a loss that was allowed. Exact also where values repeat (zeroes).
//
// How: events are taken in their order, and every state the register may be in is kept ("possibility"). A write takes
// effect as late as it can: when its completion, or that of a read which saw it, leaves no choice. A write that was under
// way when another took effect may also have gone just before it, seen by nobody or by reads that were under way then.
// A write that nobody reads later goes unseen where it can; only writes that are read make a difference, so that there are
// few possibilities and the work is near-linear in the events.

export interface RegisterWrite {
  value: number;
  /** Places in one order; `completed` is Infinity for a write whose outcome nobody knows. */
  invoked: number;
  completed: number;
  /** Acknowledged as being on stable storage (FUA). */
  durable: boolean;
}

export interface RegisterRead {
  value: number;
  invoked: number;
  completed: number;
}

/** A flush that succeeded: what was acknowledged before `invoked` cannot be lost after `completed`. What was never acknowledged it promises nothing about. */
export interface RegisterFlush {
  invoked: number;
  completed: number;
}

/** A fault that may take away what no flush has covered. */
export interface RegisterLoss {
  at: number;
  mayLose(write: Pick<RegisterWrite, 'invoked' | 'completed'>): boolean;
}

export interface RegisterHistory {
  writes: RegisterWrite[];
  reads: RegisterRead[];
  flushes: readonly RegisterFlush[];
  losses: readonly RegisterLoss[];
}

/** The read that no possibility explains, and the values that would have been legal at its completion. */
export interface RegisterViolation {
  read: RegisterRead;
  legal: number[];
}

/** More than this many states at once: the history cannot be decided. Never reached by tens of operations at a time. */
const POSSIBILITIES_MAX = 20_000;
/** From so many on a rule is used that leaves out more, and once in a million histories one too many: a false alarm, never a missed one. */
const MANY = 500;
/** The one that was current ends here before the moment its successor takes over; those squeezed in between, here. */
const BEFORE = 0.5;
const SQUEEZED = 0.25;

class Possibility {
  constructor(
    /** The write whose value the register has; 0: the initial zero. */
    readonly current: number,
    /** The latest moment at which it may have taken effect. */
    readonly since: number,
    /** Writes that took effect and were replaced: the latest moment at which each may have been current. */
    readonly past: Map<number, number>,
    /** What was last current at or before this moment can never come back. */
    public floor: number,
  ) {}

  /** `write` takes effect now and is what the register has. */
  become(write: number, at: number): Possibility {
    const past = new Map(this.past);
    past.delete(write);
    past.set(this.current, at - BEFORE);
    return new Possibility(write, at, past, this.floor);
  }

  /** `write` took effect just before the current one did. */
  squeeze(write: number): Possibility {
    return new Possibility(this.current, this.since, new Map(this.past).set(write, this.since - SQUEEZED), this.floor);
  }
}

const EVENT = { INVOKE_WRITE: 0, INVOKE_READ: 1, FLUSH: 2, LOSS: 3, COMPLETE_WRITE: 4, COMPLETE_READ: 5 } as const;

interface Event {
  at: number;
  kind: number;
  index: number;
}

/** Null: legal. */
export function judgeRegister(history: RegisterHistory): RegisterViolation | null {
  return new Judge(history).run();
}

class Judge {
  readonly #writes: RegisterWrite[];
  readonly #reads: RegisterRead[];
  readonly #history: RegisterHistory;
  readonly #pendingWrites = new Set<number>();
  readonly #pendingReads = new Set<number>();
  /** Per value, when the last read that gave it completed. */
  readonly #lastRead = new Map<number, number>();
  #lossesLeft: number;
  #possibilities: Possibility[] = [new Possibility(0, 0, new Map(), -1)];

  constructor(history: RegisterHistory) {
    for (const { value, completed } of history.reads) this.#lastRead.set(value, Math.max(this.#lastRead.get(value) ?? 0, completed));
    // An unanswered write that nobody has seen changes nothing.
    const relevant = history.writes.filter((write) => write.completed !== Number.POSITIVE_INFINITY || this.#lastRead.has(write.value));
    this.#writes = [{ value: 0, invoked: -1, completed: 0, durable: true }, ...relevant];
    this.#reads = history.reads;
    this.#history = history;
    this.#lossesLeft = history.losses.length;
  }

  run(): RegisterViolation | null {
    for (const event of this.#events()) {
      const before = this.#possibilities;
      this.#take(event);
      if (this.#possibilities.length === 0) return { read: this.#reads[event.index], legal: this.#legal(before) };
      if (this.#possibilities.length > 1 || this.#possibilities[0].past.size > 0) this.#tidy(event.at);
    }
    return null;
  }

  #events(): Event[] {
    const events: Event[] = [];
    for (let index = 1; index < this.#writes.length; index += 1) {
      const { invoked, completed } = this.#writes[index];
      events.push({ at: invoked, kind: EVENT.INVOKE_WRITE, index });
      if (completed !== Number.POSITIVE_INFINITY) events.push({ at: completed, kind: EVENT.COMPLETE_WRITE, index });
    }
    for (const [index, { invoked, completed }] of this.#reads.entries()) {
      events.push({ at: invoked, kind: EVENT.INVOKE_READ, index }, { at: completed, kind: EVENT.COMPLETE_READ, index });
    }
    if (this.#lossesLeft > 0) {
      for (const [index, { completed }] of this.#history.flushes.entries()) events.push({ at: completed, kind: EVENT.FLUSH, index });
      for (const [index, { at }] of this.#history.losses.entries()) events.push({ at, kind: EVENT.LOSS, index });
    }
    return events.sort((one, other) => one.at - other.at);
  }

  #take({ at, kind, index }: Event): void {
    switch (kind) {
      case EVENT.INVOKE_WRITE:
        this.#pendingWrites.add(index);
        break;
      case EVENT.INVOKE_READ:
        this.#pendingReads.add(index);
        break;
      case EVENT.COMPLETE_WRITE:
        this.#follow((each) => this.#completeWrite(each, index, at));
        this.#pendingWrites.delete(index);
        break;
      case EVENT.COMPLETE_READ:
        this.#follow((each) => this.#completeRead(each, this.#reads[index], at));
        this.#pendingReads.delete(index);
        break;
      case EVENT.FLUSH:
        for (const each of this.#possibilities)
          each.floor = Math.max(each.floor, this.#covered(each, this.#history.flushes[index].invoked));
        break;
      default:
        this.#follow((each) => this.#lose(each, this.#history.losses[index], at));
        this.#lossesLeft -= 1;
    }
  }

  #follow(outcomesOf: (each: Possibility) => Possibility[]): void {
    const before = this.#possibilities;
    this.#possibilities = before.length === 1 ? outcomesOf(before[0]) : before.flatMap(outcomesOf);
  }

  #completeWrite(each: Possibility, write: number, at: number): Possibility[] {
    let outcomes = [each];
    if (each.current !== write && !each.past.has(write)) {
      const squeezable = this.#writes[write].invoked < each.since;
      outcomes = squeezable ? [each.squeeze(write)] : [];
      if (!squeezable || this.#isReadAfter(write, at)) outcomes.push(each.become(write, at));
    }
    if (this.#writes[write].durable) {
      for (const outcome of outcomes) {
        const end = outcome.current === write ? outcome.since : outcome.past.get(write)! - SQUEEZED / 2;
        outcome.floor = Math.max(outcome.floor, end);
      }
    }
    return outcomes;
  }

  #completeRead(each: Possibility, read: RegisterRead, at: number): Possibility[] {
    const writes = this.#writes;
    if (writes[each.current].value === read.value) return [each];
    for (const [write, end] of each.past) if (end > read.invoked && writes[write].value === read.value) return [each];
    const outcomes: Possibility[] = [];
    for (const write of this.#pendingWrites) {
      if (writes[write].value !== read.value || each.past.has(write)) continue;
      outcomes.push(each.become(write, at));
      if (writes[write].invoked < each.since && read.invoked < each.since) outcomes.push(each.squeeze(write));
    }
    return outcomes;
  }

  /**
   * What was current before this moment a flush has made impossible. Where it was a write that nobody acknowledged (its connection's cache
   * may have died with the gateway, unflushed), the newest acknowledged one below it is what is sure to be there.
   */
  #covered({ current, past }: Possibility, flushed: number): number {
    let [at, until] = [current, Number.POSITIVE_INFINITY];
    let below = -1;
    for (const [write, end] of past) {
      if (end > flushed && end < until) [at, until] = [write, end];
      if (end <= flushed && end > below && !this.#unanswered(write)) below = end;
    }
    return this.#unanswered(at) ? below - SQUEEZED / 2 : flushed;
  }

  #unanswered(write: number): boolean {
    return this.#writes[write].completed === Number.POSITIVE_INFINITY;
  }

  /** The register may go back. */
  #lose(each: Possibility, loss: RegisterLoss, at: number): Possibility[] {
    const outcomes = [each, ...this.#undo(each, loss, at)];
    // One that nobody acknowledged may have taken effect, been read by who is told only later, and be gone.
    for (const write of this.#pendingWrites) {
      if (!this.#unanswered(write) || each.past.has(write) || !this.#isBeingRead(write, each)) continue;
      outcomes.push(...this.#undo(each.become(write, at - SQUEEZED), loss, at));
    }
    return outcomes;
  }

  /** What is below: down to the first that cannot be lost, or that a flush has covered. */
  #undo(each: Possibility, loss: RegisterLoss, at: number): Possibility[] {
    const outcomes: Possibility[] = [];
    if (each.current === 0 || !loss.mayLose(this.#writes[each.current])) return outcomes;
    const below = [...each.past].filter(([, end]) => end > each.floor).sort(([, one], [, other]) => other - one);
    for (const [write] of below) {
      outcomes.push(each.become(write, at));
      if (!loss.mayLose(this.#writes[write])) break;
    }
    return outcomes;
  }

  /** Does it give what a read under way gives, and nothing else that may have been read then does? */
  #isBeingRead(write: number, { current, past }: Possibility): boolean {
    const writes = this.#writes;
    for (const read of this.#pendingReads) {
      const { value, invoked } = this.#reads[read];
      if (value !== writes[write].value || value === writes[current].value) continue;
      if (![...past].some(([other, end]) => end > invoked && writes[other].value === value)) return true;
    }
    return false;
  }

  #isReadAfter(write: number, at: number): boolean {
    return (this.#lastRead.get(this.#writes[write].value) ?? 0) > at;
  }

  /** Forgets what can no longer make a difference, and possibilities that allow no more than others do. */
  #tidy(at: number): void {
    const wanted = new Map<number, number>();
    for (const index of this.#pendingReads) {
      const { value, invoked } = this.#reads[index];
      wanted.set(value, Math.min(wanted.get(value) ?? Number.POSITIVE_INFINITY, invoked));
    }
    for (const each of this.#possibilities) {
      const newest = this.#lossesLeft > 0 ? this.#newestAnswered(each.past) : null;
      for (const [write, end] of each.past) {
        if (write === newest) continue;
        const readable = end > (wanted.get(this.#writes[write].value) ?? Number.POSITIVE_INFINITY);
        const revivable = this.#lossesLeft > 0 && end > each.floor;
        const matters = readable || revivable || this.#pendingWrites.has(write);
        if (!matters || !this.#isReadAfter(write, at)) each.past.delete(write);
      }
    }
    if (this.#possibilities.length > 1) this.#dropWeaker(false);
    if (this.#possibilities.length > MANY) this.#dropWeaker(true);
    if (this.#possibilities.length > POSSIBILITIES_MAX) throw new Error('a block history too entangled to be decided');
  }

  /** It says what a flush covers below a write that nobody acknowledged. */
  #newestAnswered(past: Map<number, number>): number | null {
    let newest: number | null = null;
    for (const [write, end] of past) if (!this.#unanswered(write) && (newest === null || end > past.get(newest)!)) newest = write;
    return newest;
  }

  /** Leaves out those that allow nothing that another does not allow; `boldly`: or hardly anything. */
  #dropWeaker(boldly: boolean): void {
    const alike = new Map<number, Possibility[]>();
    for (const each of this.#possibilities) {
      const others = alike.get(each.current) ?? [];
      if (others.some((other) => this.#isAtLeast(other, each, boldly))) continue;
      alike.set(each.current, [...others.filter((other) => !this.#isAtLeast(each, other, boldly)), each]);
    }
    this.#possibilities = [...alike.values()].flat();
  }

  /** The same write is current: does `one` allow all that `other` does? */
  #isAtLeast(one: Possibility, other: Possibility, boldly: boolean): boolean {
    if (one.since < other.since || one.floor > other.floor) return false;
    for (const [write, end] of other.past) {
      const until = one.past.get(write);
      // One that nobody acknowledged may still take effect when that helps; not after each loss, though.
      if (until === undefined ? !(boldly && this.#unanswered(write) && this.#pendingWrites.has(write)) : until < end) return false;
    }
    for (const write of one.past.keys()) if (this.#pendingWrites.has(write) && !other.past.has(write)) return false;
    return true;
  }

  #legal(possibilities: Possibility[]): number[] {
    const values = new Set(possibilities.map((each) => this.#writes[each.current].value));
    for (const write of this.#pendingWrites) values.add(this.#writes[write].value);
    return [...values];
  }
}
