// The kinds of values a configuration file holds, each a zod schema that says in its errors what would be right.
// Sizes come out in bytes, durations in milliseconds. Nothing here knows what a value is used for.
import { z } from 'zod';
import { shown } from './problem.js';
import { didYouMean } from './spelling.js';
import { formatBytes, formatDuration, type Parsed, parseDuration, parseSize } from './units.js';

/** What a message says of a value that is not of the right kind: missing, empty, or what it is instead. */
function unlike(input: unknown, right: string): string {
  if (input === undefined) return `is missing: it ${right}`;
  return input === null ? `is empty: it ${right}` : `${right}, is ${shown(input)}`;
}

/** The message for unknown keys is the list of those that are known; load.ts makes one problem of each unknown key. */
export function section<Shape extends z.ZodRawShape>(shape: Shape) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? Object.keys(shape).join(' ') : unlike(issue.input, 'must be a map (key: value)'),
  });
}

/** A section that may be left out: every key of it has a default. */
export function optionalSection<Shape extends z.ZodRawShape>(shape: Shape) {
  return section(shape).prefault({} as z.input<ReturnType<typeof section<Shape>>>);
}

export function list<Item extends z.ZodType>(item: Item) {
  return z.array(item, { error: (issue) => unlike(issue.input, 'must be a list ([...], or lines that start with -)') });
}

export function flag() {
  return z.boolean({ error: (issue) => unlike(issue.input, 'must be true or false') });
}

export function choice<const Values extends readonly [string, ...string[]]>(values: Values) {
  return z.enum(values, {
    error: ({ input }) =>
      `${unlike(input, `must be one of ${values.join(', ')}`)}${typeof input === 'string' ? didYouMean(input, values) : ''}`,
  });
}

export function whole(minimum: number, maximum: number) {
  const error = (issue: { input?: unknown }) => unlike(issue.input, `must be a whole number from ${minimum} to ${maximum}`);
  return z.int({ error }).min(minimum, { error }).max(maximum, { error });
}

export function decimal(minimum: number, maximum: number) {
  const error = (issue: { input?: unknown }) => unlike(issue.input, `must be a number from ${minimum} to ${maximum}`);
  return z.number({ error }).min(minimum, { error }).max(maximum, { error });
}

/** Any text; a number in its place is told to be quoted. */
export function text(right = 'must be text') {
  return z.string({
    error: ({ input }) => {
      const quote = typeof input === 'number' || typeof input === 'boolean' ? `: put it in quotes, as "${input}"` : '';
      return `${unlike(input, right)}${quote}`;
    },
  });
}

/** Text for which `problem` says what is wrong, or nothing. */
export function checkedText(right: string, problem: (value: string) => string | undefined) {
  return text(right).check((context) => {
    const message = problem(context.value);
    if (message !== undefined) context.issues.push({ code: 'custom', message, input: context.value });
  });
}

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
export const nameRule = 'up to 64 letters, digits, ".", "_" and "-", the first a letter or digit';

export function isName(value: string): boolean {
  return namePattern.test(value);
}

/** A name that people, URLs and metrics can carry. */
export function name(what: string) {
  return checkedText(`must be ${what}: ${nameRule}`, (value) => (isName(value) ? undefined : `must be ${nameRule}, is ${shown(value)}`));
}

function quantity(
  right: string,
  read: (text: string) => Parsed<number>,
  format: (value: number) => string,
  minimum: number,
  maximum: number,
) {
  const union = z.union([z.string(), z.number()], { error: (issue) => unlike(issue.input, right) });
  return union.transform((input, context): number => {
    const parsed = read(String(input));
    if (!parsed.ok) context.addIssue(parsed.problem);
    else if (parsed.value >= minimum && parsed.value <= maximum) return parsed.value;
    else context.addIssue(`must be from ${format(minimum)} to ${format(maximum)}, is ${shown(input)}`);
    return z.NEVER;
  });
}

/** Bytes; bounds in bytes. */
export function size(minimum: number, maximum: number) {
  return quantity('must be a size such as 1GiB', parseSize, formatBytes, minimum, maximum);
}

/** Bytes per second. */
export function bandwidth(minimum: number, maximum: number) {
  return quantity('must be bytes per second such as 500MiB', parseSize, formatBytes, minimum, maximum);
}

/** Milliseconds, bounds too; null: never. */
export function durationOrNever(minimum: number, maximum: number) {
  const union = z.union([z.string(), z.number()], { error: (issue) => unlike(issue.input, 'must be never, or a duration such as 20ms') });
  return union.transform((input, context): number | null => {
    if (input === 'never') return null;
    const parsed = parseDuration(String(input));
    if (!parsed.ok) context.addIssue(parsed.problem);
    else if (parsed.value >= minimum && parsed.value <= maximum) return parsed.value;
    else context.addIssue(`must be never, or from ${formatDuration(minimum)} to ${formatDuration(maximum)}, is ${shown(input)}`);
    return z.NEVER;
  });
}

/** Milliseconds; bounds in milliseconds. */
export function duration(minimum: number, maximum: number) {
  return quantity('must be a duration such as 250ms, 15s or 24h', parseDuration, formatDuration, minimum, maximum);
}
