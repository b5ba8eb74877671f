// What is wrong in a configuration file, where, and what would be right; printed one a line.

export interface Problem {
  file: string;
  /** Both from 1. */
  line: number;
  column: number;
  /** The key as the file nests it, `nodes[0].health[1].url`; `yaml` for what is no YAML, `document` for the file as a whole. */
  path: string;
  message: string;
}

export type KeyPath = readonly (string | number)[];

export function formatProblem({ file, line, column, path, message }: Problem): string {
  return `${file}:${line}:${column} ${path}: ${message}`;
}

function formatKey(key: string | number, at: number): string {
  if (typeof key === 'number') return `[${key}]`;
  if (!/^[\w-]+$/.test(key)) return `[${shown(key)}]`;
  return at === 0 ? key : `.${key}`;
}

export function formatPath(path: KeyPath): string {
  return path.length === 0 ? 'document' : path.map(formatKey).join('');
}

/** A value as a message shows it, short. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 56)}..."` : text;
}
