// What rules expect of an answer: each throws a broken rule that says what was expected and what came.
import { OPTION_REPLY_ERROR_BIT } from '../nbd/constants.js';
import type { OptionAnswer } from './raw-link.js';
import type { Answer } from './raw-session.js';
import { RuleBroken } from './verdict.js';
import { commandName, errnoName, oneOf, optionName, optionReplyName } from './words.js';

export function expectThat(right: boolean, expected: string, came: string | (() => string)): asserts right {
  if (!right) throw new RuleBroken(expected, typeof came === 'string' ? came : came());
}

export function expectAck(answer: OptionAnswer, what = optionName(answer.option)): void {
  expectThat(answer.acknowledged, `${what} to be acknowledged`, () => answer.words);
}

/** An error, one of `codes` if any are named. */
export function expectRefusal(answer: OptionAnswer, codes: readonly number[] = [], what = optionName(answer.option)): void {
  const type = answer.final?.type ?? 0;
  const right = type >= OPTION_REPLY_ERROR_BIT && (codes.length === 0 || codes.includes(type));
  expectThat(right, `${what} to get ${codes.length === 0 ? 'an error' : oneOf(codes.map(optionReplyName))}`, () => answer.words);
}

/** The client broke a mandatory rule, so the server may close instead of refusing. */
export function expectRefusalOrClose(answer: OptionAnswer, what = optionName(answer.option)): void {
  if (!answer.closed) expectRefusal(answer, [], what);
}

export function expectSuccess(answer: Answer, what = commandName(answer.request.command)): void {
  expectThat(answer.succeeded, `${what} to succeed`, () => answer.words);
}

/** An error, one of `errnos` if any are named, on a connection that goes on. */
export function expectErrno(answer: Answer, errnos: readonly number[] = [], what = commandName(answer.request.command)): void {
  const right = !answer.closed && answer.errno !== 0 && (errnos.length === 0 || errnos.includes(answer.errno));
  expectThat(right, `${what} to get ${errnos.length === 0 ? 'an error' : oneOf(errnos.map(errnoName))}`, () => answer.words);
}

export function expectSameBytes(came: Buffer, wanted: Buffer, what: string): void {
  if (came.equals(wanted)) return;
  let at = 0;
  while (at < Math.min(came.length, wanted.length) && came[at] === wanted[at]) at += 1;
  const hex = (bytes: Buffer): string => bytes.subarray(at, at + 8).toString('hex') || 'nothing';
  throw new RuleBroken(`${what}, ${hex(wanted)} at byte ${at} of it`, `${hex(came)} is there`);
}
