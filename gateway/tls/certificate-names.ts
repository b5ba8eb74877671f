// The names in a client's certificate by which access rules know it: its common name and its alternative names, each exactly
// as the authority signed it. Nothing is matched here, and nothing is guessed: what is ambiguous is no name.
import type { PeerCertificate } from 'node:tls';

/** Kinds of alternative names that name somebody, as Node.js writes them. */
const KINDS = new Set(['DNS', 'IP Address', 'email', 'URI']);

export function certificateNames({ subject, subjectaltname }: Pick<PeerCertificate, 'subject' | 'subjectaltname'>): string[] {
  const names = alternativeNames(subjectaltname ?? '');
  // Of several common names some programs take the first and some the last: then none counts.
  const commonName: unknown = (subject as Partial<PeerCertificate['subject']> | undefined)?.CN;
  if (typeof commonName === 'string' && commonName !== '') names.push(commonName);
  return [...new Set(names)];
}

/** `DNS:a.example, URI:"x, y"`: a value that holds what separates values is a JSON string. Malformed: no names. */
function alternativeNames(text: string): string[] {
  const names: string[] = [];
  let at = 0;
  while (at < text.length) {
    const [entry, kind, quoted, bare] = /^([^:"]+):(?:("(?:[^"\\]|\\.)*")|([^,"]*))(?:, |$)/.exec(text.slice(at)) ?? [];
    if (entry === undefined || kind === undefined) return [];
    at += entry.length;
    const name = quoted === undefined ? bare : unquoted(quoted);
    if (name !== undefined && name !== '' && KINDS.has(kind)) names.push(name);
  }
  return names;
}

function unquoted(literal: string): string | undefined {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return undefined;
  }
}
