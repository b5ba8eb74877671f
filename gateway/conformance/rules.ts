// All rules of the suite, in the order in which they are checked and shown: groups, each with a title.
import { CONTEXT_RULES, EXTENDED_NEGOTIATION_RULES, STRUCTURED_NEGOTIATION_RULES } from './rules/negotiation.js';
import { EXTENDED_RULES } from './rules/extended.js';
import { HANDSHAKE_RULES } from './rules/handshake.js';
import { INFO_RULES, LIST_RULES } from './rules/naming.js';
import { CACHE_RULES, FLUSH_RULES, READ_RULES } from './rules/reading.js';
import { CHUNK_RULES, FLAG_RULES, REQUEST_RULES, SIMPLE_RULES } from './rules/requests.js';
import { STATUS_RULES } from './rules/status.js';
import { TLS_RULES } from './rules/tls.js';
import { MULTI_CONN_RULES, READ_ONLY_RULES, TRIM_RULES, WRITE_RULES, ZEROES_RULES } from './rules/writing.js';
import type { Rule } from './rule.js';

export interface RuleGroup {
  title: string;
  rules: readonly Rule[];
}

export const RULE_GROUPS: readonly RuleGroup[] = [
  { title: 'Handshake and options', rules: HANDSHAKE_RULES },
  { title: 'LIST', rules: LIST_RULES },
  { title: 'INFO and GO', rules: INFO_RULES },
  { title: 'Structured replies: negotiation', rules: STRUCTURED_NEGOTIATION_RULES },
  { title: 'Metadata contexts', rules: CONTEXT_RULES },
  { title: 'Extended headers: negotiation', rules: EXTENDED_NEGOTIATION_RULES },
  { title: 'TLS', rules: TLS_RULES },
  { title: 'Transmission flags', rules: FLAG_RULES },
  { title: 'Simple replies', rules: SIMPLE_RULES },
  { title: 'Structured replies', rules: CHUNK_RULES },
  { title: 'Requests', rules: REQUEST_RULES },
  { title: 'READ', rules: READ_RULES },
  { title: 'FLUSH', rules: FLUSH_RULES },
  { title: 'CACHE', rules: CACHE_RULES },
  { title: 'BLOCK_STATUS', rules: STATUS_RULES },
  { title: 'WRITE', rules: WRITE_RULES },
  { title: 'TRIM', rules: TRIM_RULES },
  { title: 'WRITE_ZEROES', rules: ZEROES_RULES },
  { title: 'Read-only exports', rules: READ_ONLY_RULES },
  { title: 'Several connections', rules: MULTI_CONN_RULES },
  { title: 'Extended headers', rules: EXTENDED_RULES },
];

export const RULES: readonly Rule[] = RULE_GROUPS.flatMap(({ rules }) => rules);

/** Rules whose id matches: a part of it, or with `*` for any characters the whole. */
export function matching(pattern: string): (rule: Rule) => boolean {
  if (!pattern.includes('*')) return ({ id }) => id.includes(pattern);
  const expression = new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replaceAll(/[^\w-]/g, '\\$&'))
      .join('.*')}$`,
  );
  return ({ id }) => expression.test(id);
}
