// What is wrong with a request, where, and what would be right, one sentence for each problem. Pure.
import { z } from 'zod';

export interface Problem {
  /** `body.probability`, `query.limit`, `path.name`. */
  path: string;
  problem: string;
}

const SHOWN_CHARS_MAX = 60;

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX)}...` : text;
}

function knownFields(schema: z.ZodType): string {
  const fields = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  return fields.length === 0 ? 'none is taken here' : `it can have ${fields.join(', ')}`;
}

function bound(issue: { origin: string; inclusive?: boolean }, limit: number | bigint, word: 'at least' | 'at most'): string {
  return issue.origin === 'string' ? `must have ${word} ${limit} characters` : `must be ${word} ${limit}`;
}

function kindOf(expected: string): string {
  if (expected === 'int') return 'a whole number';
  return `${/^[aeiou]/.test(expected) ? 'an' : 'a'} ${expected}`;
}

function describe(issue: z.core.$ZodIssue, schema: z.ZodType): string {
  const given = issue.input === undefined ? 'it is missing' : `not ${shown(issue.input)}`;
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${kindOf(issue.expected)}, ${given}`;
    case 'too_small':
      return `${bound(issue, issue.minimum, 'at least')}, ${given}`;
    case 'too_big':
      return `${bound(issue, issue.maximum, 'at most')}, ${given}`;
    case 'invalid_value':
      return `must be ${issue.values.map(String).join(' or ')}, ${given}`;
    case 'unrecognized_keys':
      return `has an unknown field ${issue.keys.map(shown).join(', ')}; ${knownFields(schema)}`;
    default:
      return issue.message;
  }
}

/** `where`: the part of the request that `schema` refused. */
export function problemsOf(error: z.ZodError, where: string, schema: z.ZodType): Problem[] {
  return error.issues.map((issue) => ({ path: [where, ...issue.path.map(String)].join('.'), problem: describe(issue, schema) }));
}
