// `forestall nbd-conformance`: the rules of the NBD protocol, checked against any server. Changes nothing in an export unless
// --write allows it; prints a scorecard, or the rules themselves.
import { matching, RULE_GROUPS, RULES } from '../conformance/rules.js';
import type { Rule } from '../conformance/rule.js';
import { asJson, asMarkdown, asText, count } from '../conformance/scorecard.js';
import { combined, type Outcome, runSuite } from '../conformance/suite.js';
import { CannotTest } from '../conformance/survey.js';
import { readTarget, type Target } from '../conformance/target.js';
import { CliError, EXIT, type ExitCode } from './cli-error.js';
import type { Output } from './output.js';
import { packageVersion } from './package.js';

/** Exit codes of this command alone: 1 rules have failed, 2 nothing could be checked. */
const SOME_FAILED: ExitCode = 1;

export interface ConformanceOptions {
  write?: boolean;
  only?: string;
  list?: boolean;
  markdown?: boolean;
  all?: boolean;
  timeout: number;
  restartCommand?: string;
  restartTimeout: number;
}

export async function runConformance(output: Output, uris: readonly string[], options: ConformanceOptions): Promise<ExitCode> {
  const rules = options.only === undefined ? RULES : RULES.filter(matching(options.only));
  if (rules.length === 0) throw new CliError(EXIT.USAGE, `No rule is named ${options.only}. --list shows all of them.`);
  if (options.list === true) return listRules(output, rules);
  if (uris.length === 0)
    throw new CliError(EXIT.USAGE, 'Name the server to test: nbd://host:port/export or nbd+unix:///export?socket=/path.');
  const targets = await Promise.all(uris.map(targetOf));
  const runs: Outcome[][] = [];
  for (const target of targets) {
    if (!options.write)
      output.note(`Only rules that change nothing are checked on ${target.uri}; --write, which destroys its contents, checks all.`);
    runs.push(await checkedOn(target, rules, options));
  }
  const outcomes = combined(rules, runs);
  if (options.markdown === true) output.stdout.write(asMarkdown(outcomes));
  else output.result(asJson(outcomes, uris, packageVersion()), () => asText(outcomes, options.all === true));
  return count(outcomes).failed > 0 ? SOME_FAILED : EXIT.OK;
}

async function targetOf(uri: string): Promise<Target> {
  const target = await readTarget(uri);
  if (!target.ok) throw new CliError(EXIT.USAGE, `${target.problem.charAt(0).toUpperCase()}${target.problem.slice(1)}.`);
  return target.value;
}

async function checkedOn(target: Target, rules: readonly Rule[], options: ConformanceOptions): Promise<Outcome[]> {
  try {
    const { outcomes } = await runSuite(target, rules, {
      write: options.write === true,
      timeoutMs: options.timeout * 1000,
      restartCommand: options.restartCommand ?? null,
      restartMs: options.restartTimeout * 1000,
    });
    return outcomes;
  } catch (error) {
    if (error instanceof CannotTest) throw new CliError(EXIT.USAGE, `${error.message}.`);
    throw error;
  }
}

function listRules(output: Output, rules: readonly Rule[]): ExitCode {
  const listed = rules.map(({ id, level, section, says, needs, note }) => {
    return { id, level, section, says, needs: needs.map(({ name }) => name), note: note ?? null };
  });
  output.result({ schema: 1, rules: listed }, () => {
    const groups = RULE_GROUPS.map(({ title, rules: own }) => ({ title, own: own.filter((rule) => rules.includes(rule)) }));
    const lines = groups.flatMap(({ title, own }) => (own.length === 0 ? [] : [title, ...own.map(ruleLine), '']));
    return `${lines.join('\n')}${rules.length} rules\n`;
  });
  return EXIT.OK;
}

function ruleLine({ id, level, section, says, needs }: Rule): string {
  const needed = needs.length === 0 ? '' : ` Needs ${needs.map(({ name }) => name).join(', ')}.`;
  return `  ${id} (${level}; ${section})\n    ${says}${needed}`;
}
