// Runs rules against a server, one after the other, each on connections of its own and under its own deadline. Looks after each
// whether the server still lives: one that is gone is waited for (and started again by a command, if there is one), so that later
// rules still run; the rule that killed it has failed.
import { spawn } from 'node:child_process';
import { Probe } from './probe.js';
import { ConnectionEnded, Deadline, DeadlinePassed } from './raw-stream.js';
import type { Rule } from './rule.js';
import { type Facts, survey } from './survey.js';
import { openLink, type Target } from './target.js';
import { DoesNotApply, RuleBroken } from './verdict.js';

export type Status = 'passed' | 'failed' | 'not-applicable' | 'not-run';

export interface Outcome {
  rule: Rule;
  status: Status;
  /** Not passed: why in one sentence, without a full stop; what was expected and what came are in it. */
  reason: string | null;
  /** Failed: the first bytes of what the server sent last, in hexadecimal. */
  bytes: string | null;
  ms: number;
  /** Which of several targets this is of. */
  uri: string;
}

export interface SuiteOptions {
  /** Contents may be destroyed. */
  write: boolean;
  timeoutMs: number;
  /** Run by the shell when the server is gone; should start it again. */
  restartCommand: string | null;
  /** How long a server that is gone is waited for. */
  restartMs: number;
}

const POLL_MS = 50;

/** All rules on one target. Rejects with CannotTest when none can be checked. */
export async function runSuite(
  target: Target,
  rules: readonly Rule[],
  options: SuiteOptions,
): Promise<{ facts: Facts; outcomes: Outcome[] }> {
  const facts = await survey(target, options.timeoutMs);
  const outcomes: Outcome[] = [];
  /** The rule after which the server did not come back. */
  let lost: string | null = null;
  for (const rule of rules) {
    const started = performance.now();
    const outcome: Outcome = { rule, status: 'passed', reason: null, bytes: null, ms: 0, uri: target.uri };
    if (lost !== null) Object.assign(outcome, { status: 'not-run', reason: `the server is gone since ${lost}` });
    else {
      Object.assign(outcome, unmetNeed(rule, facts, options) ?? (await checked(rule, target, facts, options.timeoutMs)));
      if (outcome.status !== 'not-run' && !(await lives(target, options.timeoutMs))) {
        const before = outcome.status === 'failed' ? `${outcome.reason}; then` : 'after the check';
        Object.assign(outcome, { status: 'failed', reason: `${before} the server was gone: nobody answers at ${target.uri}` });
        if (!(await returned(target, options))) lost = rule.id;
      }
    }
    outcome.ms = Math.round(performance.now() - started);
    outcomes.push(outcome);
  }
  return { facts, outcomes };
}

function unmetNeed(rule: Rule, facts: Facts, options: SuiteOptions): Partial<Outcome> | null {
  for (const need of rule.needs) {
    const reason = need.unmet(facts);
    if (reason !== null) return { status: 'not-applicable', reason };
  }
  if (!options.write && rule.needs.some(({ permission }) => permission)) {
    return { status: 'not-run', reason: 'it needs --write, which destroys the contents of the export' };
  }
  return null;
}

async function checked(rule: Rule, target: Target, facts: Facts, timeoutMs: number): Promise<Partial<Outcome>> {
  const probe = new Probe(target, facts, new Deadline(timeoutMs));
  try {
    await rule.check(probe);
    return { status: 'passed' };
  } catch (error) {
    if (error instanceof DoesNotApply) return { status: 'not-applicable', reason: error.message };
    const bytes = probe.evidence.length > 0 ? probe.evidence.toString('hex') : null;
    return { status: 'failed', reason: wordsOf(error), bytes };
  } finally {
    probe.close();
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof RuleBroken) return `expected ${error.expected}; ${error.came}`;
  if (error instanceof DeadlinePassed) {
    const got = error.gotBytes > 0 ? `only ${error.gotBytes} bytes came` : 'nothing came';
    return `expected ${error.what}; ${got} within ${error.totalMs / 1000} s`;
  }
  if (error instanceof ConnectionEnded) return `expected ${error.what}; the server closed the connection (${error.how})`;
  const { code, message } = error as NodeJS.ErrnoException;
  return `expected a connection; ${code === undefined ? message : `${code}`}`;
}

/** Greets whoever connects. A server that hangs is there. */
async function lives(target: Target, timeoutMs: number): Promise<boolean> {
  try {
    const link = await openLink(target, new Deadline(timeoutMs));
    try {
      await link.readGreeting();
      return true;
    } finally {
      link.destroy();
    }
  } catch (error) {
    return !(error instanceof ConnectionEnded) && error instanceof DeadlinePassed;
  }
}

async function returned(target: Target, { restartCommand, restartMs, timeoutMs }: SuiteOptions): Promise<boolean> {
  if (restartCommand !== null) await runCommand(restartCommand, restartMs);
  const deadline = new Deadline(restartMs);
  for (;;) {
    if (await lives(target, Math.min(timeoutMs, Math.max(POLL_MS, deadline.leftMs)))) return true;
    if (deadline.leftMs === 0) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** To its end, or as long as is waited; what it leaves in the background goes on. */
function runCommand(command: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'ignore', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const over = (): void => {
      clearTimeout(timer);
      resolve();
    };
    child.on('error', over).on('exit', over);
  });
}

const PRECEDENCE: readonly Status[] = ['failed', 'passed', 'not-run', 'not-applicable'];

/** One outcome a rule out of those on several targets: failed where it failed on any, else passed where it passed on any. */
export function combined(rules: readonly Rule[], runs: readonly (readonly Outcome[])[]): Outcome[] {
  return rules.map((rule) => {
    const own = runs.flatMap((outcomes) => outcomes.filter((outcome) => outcome.rule === rule));
    return own.reduce((best, next) => (PRECEDENCE.indexOf(next.status) < PRECEDENCE.indexOf(best.status) ? next : best));
  });
}
