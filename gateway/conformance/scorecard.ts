// What a run of the suite comes to: counts, and the outcomes as text for a terminal, as Markdown for documents, and as JSON whose
// form docs/conformance.md describes. Pure.
import type { Level } from './rule.js';
import { RULE_GROUPS } from './rules.js';
import type { Outcome, Status } from './suite.js';

export interface Counts {
  passed: number;
  failed: number;
  notApplicable: number;
  notRun: number;
}

const KEYS: Readonly<Record<Status, keyof Counts>> = {
  passed: 'passed',
  failed: 'failed',
  'not-applicable': 'notApplicable',
  'not-run': 'notRun',
};
const WORDS: Readonly<Record<Status, string>> = {
  passed: 'ok',
  failed: 'FAILED',
  'not-applicable': 'not applicable',
  'not-run': 'not run',
};

export function count(outcomes: readonly Outcome[], level?: Level): Counts {
  const counts: Counts = { passed: 0, failed: 0, notApplicable: 0, notRun: 0 };
  for (const { rule, status } of outcomes) if (level === undefined || rule.level === level) counts[KEYS[status]] += 1;
  return counts;
}

/** `124 passed, 3 failed (2 must, 1 should), 20 not applicable, 0 not run`. */
export function summed(outcomes: readonly Outcome[]): string {
  const { passed, failed, notApplicable, notRun } = count(outcomes);
  const levels = failed === 0 ? '' : ` (${count(outcomes, 'must').failed} must, ${count(outcomes, 'should').failed} should)`;
  return `${passed} passed, ${failed} failed${levels}, ${notApplicable} not applicable, ${notRun} not run`;
}

function groups(outcomes: readonly Outcome[]): { title: string; outcomes: Outcome[] }[] {
  return RULE_GROUPS.map(({ title, rules }) => ({ title, outcomes: outcomes.filter(({ rule }) => rules.includes(rule)) })).filter(
    (group) => group.outcomes.length > 0,
  );
}

/** Control characters of a server must not reach a terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}

/** `all`: also what passed or does not apply, rule by rule. */
export function asText(outcomes: readonly Outcome[], all: boolean): string {
  const lines: string[] = [];
  for (const { title, outcomes: own } of groups(outcomes)) {
    lines.push(`${title}: ${summed(own)}`);
    for (const { rule, status, reason, bytes } of own) {
      if (!all && status !== 'failed') continue;
      const why = reason === null ? '' : `: ${printable(reason)}`;
      lines.push(`  ${WORDS[status]} ${rule.id} (${rule.level})${status === 'failed' ? '' : why}`);
      if (status !== 'failed') continue;
      lines.push(`    ${rule.says} [${rule.section}]`, `    ${printable(reason ?? '')}`);
      if (bytes !== null) lines.push(`    last bytes: ${bytes}`);
      if (rule.note !== undefined) lines.push(`    note: ${rule.note}`);
    }
  }
  return `${lines.join('\n')}\n\n${summed(outcomes)}\n`;
}

function cell(text: string): string {
  return printable(text).replaceAll('|', '\\|').replaceAll('<', '&lt;');
}

/** A table of the groups, then what failed. Headings are left to the document. */
export function asMarkdown(outcomes: readonly Outcome[]): string {
  const lines = ['| rules of | passed | failed | not applicable | not run |', '|---|--:|--:|--:|--:|'];
  const row = (title: string, own: readonly Outcome[]): string => {
    const { passed, failed, notApplicable, notRun } = count(own);
    return `| ${title} | ${passed} | ${failed} | ${notApplicable} | ${notRun} |`;
  };
  for (const { title, outcomes: own } of groups(outcomes)) lines.push(row(title, own));
  lines.push(row('**all**', outcomes));
  const failed = outcomes.filter(({ status }) => status === 'failed');
  if (failed.length > 0) lines.push('', '| failed | level | what came |', '|---|---|---|');
  for (const { rule, reason } of failed) lines.push(`| \`${rule.id}\` | ${rule.level} | ${cell(reason ?? '')} |`);
  return `${lines.join('\n')}\n`;
}

/** The form is described in docs/conformance.md; `schema` grows when it changes in a way that breaks readers. */
export function asJson(outcomes: readonly Outcome[], uris: readonly string[], version: string) {
  return {
    schema: 1,
    suite: `forestall ${version}`,
    uris,
    counts: { all: count(outcomes), must: count(outcomes, 'must'), should: count(outcomes, 'should') },
    rules: outcomes.map(({ rule, status, reason, bytes, ms, uri }) => ({
      id: rule.id,
      level: rule.level,
      section: rule.section,
      says: rule.says,
      needs: rule.needs.map(({ name }) => name),
      status,
      reason,
      bytes,
      ms,
      uri,
    })),
  };
}
