// The judge of a whole run: takes the history apart by block, has each judged as a register, and looks at errors, at
// answers that never came, and at the copies that must be alike in the end. Knows only what hosts saw and what was
// promised; nothing of how the gateway works.
import { GARBAGE, UNSEEN } from './block-value.js';
import { BLOCK_BYTES } from './disk.js';
import type { DurabilityPromise } from './durability.js';
import { type History, NEVER, type Operation } from './history.js';
import { judgeRegister, type RegisterFlush, type RegisterHistory, type RegisterLoss } from './register.js';

export interface Violation {
  /** linearizability covers stale reads, lost writes, undone writes and loss after a flush: see `text`. */
  property: 'linearizability' | 'garbage' | 'errors' | 'liveness' | 'convergence' | 'integrity' | 'bounds' | 'protection' | 'crash';
  text: string;
  volume?: string;
  block?: number;
}

/** A copy of a volume as its node would serve it. */
export interface Copy {
  node: string;
  contents: Buffer;
}

/** Blocks of which nothing is promised. */
export type Spared = (volume: string, block: number) => boolean;

/** Judges every block of every volume; at most `most` violations are given. */
export function checkBlocks(history: History, promise: DurabilityPromise, spared: Spared = () => false, most = 3): Violation[] {
  const violations: Violation[] = [];
  for (const volume of new Set(history.operations.map((operation) => operation.volume))) {
    let neighbour: RegisterHistory | null = null;
    for (const [block, register] of [...registersOf(history, volume, promise)].sort(([one], [other]) => one - other)) {
      if (violations.length >= most) return violations;
      if (spared(volume, block)) continue;
      // Blocks that were written and read together have one history: what is legal for one is for the next.
      if (neighbour !== null && isAlike(register, neighbour)) continue;
      neighbour = register;
      const garbage = register.reads.find((read) => read.value === GARBAGE);
      if (garbage !== undefined) {
        violations.push({ property: 'garbage', volume, block, text: `a read gave bytes of block ${block} that no write made` });
        continue;
      }
      const flaw = judgeRegister(register);
      if (flaw === null) continue;
      const name = (value: number): string => (value === 0 ? 'zeroes' : `write ${value}`);
      const text = `block ${block} was read as ${name(flaw.read.value)}; only ${flaw.legal.map(name).join(', ')} would be legal`;
      violations.push({ property: 'linearizability', volume, block, text });
    }
  }
  return violations;
}

/** Operations that were never answered though their gateway lived. */
export function checkAnswers(unanswered: readonly Operation[]): Violation[] {
  return unanswered.slice(0, 3).map((operation) => ({
    property: 'liveness',
    volume: operation.volume,
    block: operation.block,
    text: `operation ${operation.id} (${operation.kind}) of session ${operation.session} was never answered`,
  }));
}

/** Answers that came, but later than anybody should have to wait. */
export function checkWaits(history: History, mostMs: number): Violation[] {
  const late = history.operations.filter((operation) => operation.errno !== null && operation.completedMs - operation.invokedMs > mostMs);
  return late.slice(0, 3).map((operation) => ({
    property: 'liveness',
    volume: operation.volume,
    block: operation.block,
    text: `operation ${operation.id} (${operation.kind}) was answered after ${Math.round(operation.completedMs - operation.invokedMs)} ms, ${mostMs} are the most`,
  }));
}

/** Error answers that nothing excuses. */
export function checkErrors(history: History, excused: (operation: Operation) => boolean): Violation[] {
  const wrong = history.operations.filter((operation) => operation.errno !== null && operation.errno !== 0 && !excused(operation));
  return wrong.slice(0, 3).map((operation) => ({
    property: 'errors',
    volume: operation.volume,
    block: operation.block,
    text: `operation ${operation.id} (${operation.kind}) failed with error ${operation.errno} without a fault that explains it`,
  }));
}

/** Copies of one volume that must be alike, against what a host read last. */
export function checkCopies(
  volume: string,
  expected: Buffer,
  copies: readonly Copy[],
  spared: (block: number) => boolean = () => false,
): Violation[] {
  const violations: Violation[] = [];
  const blocks = expected.length / BLOCK_BYTES;
  for (const { node, contents } of copies) {
    if (expected.compare(contents, 0, expected.length) === 0) continue;
    const isAlikeAt = (at: number): boolean =>
      expected.compare(contents, at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES, at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES) === 0;
    let block = 0;
    while (block < blocks && (spared(block) || isAlikeAt(block))) block += 1;
    if (block === blocks) continue;
    const has = contents.readUInt32LE(block * BLOCK_BYTES);
    const wants = expected.readUInt32LE(block * BLOCK_BYTES);
    const text = `the copy on ${node} differs from what hosts read, first in block ${block}: it has write ${has}, hosts read write ${wants}`;
    violations.push({ property: 'convergence', volume, block, text });
  }
  return violations;
}

/** The same writes, and reads that saw the same. */
function isAlike(one: RegisterHistory, other: RegisterHistory): boolean {
  return (
    one.writes.length === other.writes.length &&
    one.reads.length === other.reads.length &&
    one.writes.every((write, at) => write === other.writes[at]) &&
    one.reads.every(({ value, invoked }, at) => value === other.reads[at].value && invoked === other.reads[at].invoked)
  );
}

/** The history of every block that was written, and of those read as anything but zeroes. */
export function registersOf(history: History, volume: string, promise: DurabilityPromise): Map<number, RegisterHistory> {
  const flushes: RegisterFlush[] = [];
  const losses: RegisterLoss[] = history.marks
    .map((mark, index): RegisterLoss => {
      return { at: mark.at, mayLose: (write) => promise.mayLose(volume, write, history.marks, index) };
    })
    .filter((loss) => loss.mayLose({ invoked: 0, completed: Number.POSITIVE_INFINITY }));
  const registers = new Map<number, RegisterHistory>();
  const registerOf = (block: number): RegisterHistory => {
    let register = registers.get(block);
    if (register === undefined) {
      register = { writes: [], reads: [], flushes, losses };
      registers.set(block, register);
    }
    return register;
  };
  const operations = history.operations.filter((operation) => operation.volume === volume);
  for (const operation of operations) {
    const succeeded = operation.errno === 0;
    if (operation.kind === 'flush' && succeeded) flushes.push({ invoked: operation.invoked, completed: operation.completed });
    if (operation.kind !== 'write' && operation.kind !== 'zeroes') continue;
    const write = {
      value: operation.kind === 'write' ? operation.id : 0,
      invoked: operation.invoked,
      completed: succeeded ? operation.completed : NEVER,
      durable: succeeded && operation.fua,
    };
    for (let block = operation.block; block < operation.block + operation.count; block += 1) registerOf(block).writes.push(write);
  }
  for (const { values, block: first, invoked, completed } of operations) {
    if (values === null) continue;
    for (const [index, value] of values.entries()) {
      if (value === UNSEEN) continue;
      const block = first + index;
      if (value !== 0 || registers.has(block)) registerOf(block).reads.push({ value, invoked, completed });
    }
  }
  return registers;
}
