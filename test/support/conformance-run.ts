// Runs the conformance suite in a test and gives what failed, in words.
import { RULES } from '../../gateway/conformance/rules.js';
import type { Rule } from '../../gateway/conformance/rule.js';
import { type Outcome, runSuite, type SuiteOptions } from '../../gateway/conformance/suite.js';
import { readTarget } from '../../gateway/conformance/target.js';

export async function conformance(uri: string, options: Partial<SuiteOptions> = {}, rules: readonly Rule[] = RULES): Promise<Outcome[]> {
  const defaults = { write: true, timeoutMs: 20_000, restartCommand: null, restartMs: 5_000 };
  const target = await readTarget(uri);
  if (!target.ok) throw new Error(target.problem);
  return (await runSuite(target.value, rules, { ...defaults, ...options })).outcomes;
}

/** Ids of the rules with this status. */
export function idsOf(outcomes: readonly Outcome[], status: Outcome['status']): string[] {
  return outcomes.filter((outcome) => outcome.status === status).map(({ rule }) => rule.id);
}

/** Each failed rule with its reason, one a line; empty when none failed. */
export function failures(outcomes: readonly Outcome[]): string {
  return outcomes
    .filter(({ status }) => status === 'failed')
    .map(({ rule, reason }) => `${rule.id}: ${reason}`)
    .join('\n');
}
