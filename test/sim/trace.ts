// Of all that happened in a run, what concerns one violation: requests for its block, at hosts and at nodes, and besides them
// what strikes everybody: faults, crashes, losses of power, flips, commits and what the gateway logs.
import type { Violation } from './checker.js';

/** Lines of a trace; what came before them is left out. */
const LINES_MAX = 300;

const RANGE = / (\d+)\+(\d+)/;
const ANSWER = /^session (\d+) is told: (\w+) #(\d+)/;
const ASKED = /#(\d+)/;
const CHATTER = /^debug /;
const REQUEST = /^(session \d+ asks|\S+\/\S+ )/;

/** `lines`: as the world kept them, each with its virtual time before two spaces. */
export function traceOf({ block }: Violation, lines: readonly string[]): string[] {
  const shown = new Set<string>();
  const kept = lines.filter((line) => {
    const text = line.slice(line.indexOf(' ms  ') + 5);
    if (CHATTER.test(text)) return false;
    const answer = ANSWER.exec(text);
    if (answer !== null) return shown.has(answer[3]);
    if (!REQUEST.test(text)) return true;
    if (block === undefined) return false;
    const range = RANGE.exec(text);
    const from = Number(range?.[1] ?? 0);
    const count = Number(range?.[2] ?? 0);
    // A flush has no range.
    const concerns = count === 0 || (from <= block && block < from + count);
    if (concerns && text.startsWith('session')) shown.add(ASKED.exec(text)![1]);
    return concerns;
  });
  const left = kept.length - LINES_MAX;
  return left <= 0 ? kept : [`  (${left} lines before)`, ...kept.slice(left)];
}
