// What a person needs to understand a violation: the history of the block it is about, in order, with the faults between.
import type { Violation } from './checker.js';
import { type History, NEVER, type Operation } from './history.js';

/** Lines: every operation on the block, and every mark, by the place of its invocation. */
export function blockHistory(history: History, volume: string, block: number): string[] {
  const rows: { at: number; text: string }[] = [];
  for (const operation of history.operations) {
    if (operation.volume !== volume) continue;
    const touches = operation.kind === 'flush' || (operation.block <= block && block < operation.block + operation.count);
    if (touches) rows.push({ at: operation.invoked, text: describeOperation(operation, block) });
  }
  for (const { at, atMs, kind, node, activeFor } of history.marks) {
    const role = activeFor.includes(volume) ? ' (active)' : '';
    rows.push({ at, text: `${placeOf(at, atMs)} ${''.padStart(20)} *** ${kind} ${node}${role}` });
  }
  return rows.sort((one, other) => one.at - other.at).map((row) => row.text);
}

export function describeViolation(violation: Violation, history: History): string {
  const lines = [`${violation.property}: ${violation.text}`];
  if (violation.volume !== undefined && violation.block !== undefined) {
    const rows = blockHistory(history, violation.volume, violation.block);
    lines.push(`  history of block ${violation.block} of ${violation.volume}:`, ...rows.map((row) => `  ${row}`));
  }
  return lines.join('\n');
}

function describeOperation(operation: Operation, block: number): string {
  const { id, kind, session, fua, invoked, invokedMs, completed, completedMs, errno, values } = operation;
  const end = completed === NEVER ? 'never answered'.padEnd(20) : placeOf(completed, completedMs);
  const range = kind === 'flush' ? '' : ` ${operation.block}+${operation.count}`;
  const value = values === null ? '' : ` -> ${values[block - operation.block]}`;
  const error = errno === null || errno === 0 ? '' : ` error ${errno}`;
  return `${placeOf(invoked, invokedMs)} ${end} session ${session} ${kind} #${id}${range}${fua ? ' FUA' : ''}${value}${error}`;
}

function placeOf(at: number, ms: number): string {
  return `${String(at).padStart(6)} ${ms.toFixed(3).padStart(10)} ms`;
}
