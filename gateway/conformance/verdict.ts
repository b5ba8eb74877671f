// How a check ends when it does not pass: a rule that was broken, with what was expected and what came instead, or one that
// turned out not to apply.

/** The server broke the rule. Both are sentences without a full stop. */
export class RuleBroken extends Error {
  constructor(
    readonly expected: string,
    readonly came: string,
  ) {
    super(`expected ${expected}, but ${came}`);
  }
}

/** The rule cannot be checked on this server; the message says why. */
export class DoesNotApply extends Error {}
