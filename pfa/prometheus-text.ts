// Parser of the Prometheus text exposition format 0.0.4, for chunks as they arrive.
// Guarantees an error with its line number instead of a wrong value: names, escapes, numbers, duplicate labels, repeated TYPE lines and a
// body that was cut short are all refused; bytes, line length, samples and labels are bounded. It must never throw on any input.
// Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format).

export type FamilyType = 'counter' | 'gauge' | 'histogram' | 'summary' | 'untyped';

export interface ExpositionSample {
  /** As written, with a histogram's suffix. */
  name: string;
  labels: Record<string, string>;
  /** NaN and infinities are values here; the mapping to samples leaves them out. */
  value: number;
  timestampMs: number | null;
}

export interface Family {
  name: string;
  type: FamilyType;
  help: string | null;
  samples: ExpositionSample[];
}

export type Exposition = { ok: true; families: Map<string, Family> } | { ok: false; line: number; message: string };

export interface ExpositionLimits {
  bytesMax: number;
  lineBytesMax: number;
  samplesMax: number;
  labelsMax: number;
  /** Families it refuses are checked but not kept. */
  wanted?: (family: string) => boolean;
}

const LIMITS: ExpositionLimits = { bytesMax: 16 * 2 ** 20, lineBytesMax: 64 * 2 ** 10, samplesMax: 200_000, labelsMax: 64 };
const TYPES = new Set<string>(['counter', 'gauge', 'histogram', 'summary', 'untyped']);
const METRIC_NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const LABEL_NAME = /[a-zA-Z_][a-zA-Z0-9_]*/y;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const BLANKS = /[ \t]*/y;

/** A whole text at once. */
export function parsePrometheusText(text: string, limits: Partial<ExpositionLimits> = {}): Exposition {
  const parser = new PrometheusTextParser(limits);
  parser.push(text);
  return parser.end();
}

class SyntaxProblem extends Error {}

export class PrometheusTextParser {
  readonly #limits: ExpositionLimits;
  readonly #families = new Map<string, Family>();
  readonly #typed = new Set<string>();
  readonly #seen = new Set<string>();
  #pending = '';
  #line = 0;
  #bytes = 0;
  #samples = 0;
  #failure: { ok: false; line: number; message: string } | null = null;

  constructor(limits: Partial<ExpositionLimits> = {}) {
    this.#limits = { ...LIMITS, ...limits };
  }

  /** Takes the next piece of the text, cut anywhere. Returns false once the text is refused: the rest need not be read. */
  push(chunk: string): boolean {
    if (this.#failure) return false;
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limits.bytesMax) return this.#fail(`the text is longer than ${this.#limits.bytesMax} characters`);
    const text = this.#pending + chunk;
    let from = 0;
    for (let to = text.indexOf('\n', from); to >= 0; to = text.indexOf('\n', from)) {
      this.#line++;
      if (!this.#takeLine(text.slice(from, to))) return false;
      from = to + 1;
    }
    this.#pending = text.slice(from);
    if (this.#pending.length > this.#limits.lineBytesMax) return this.#failLong(this.#line + 1);
    return true;
  }

  end(): Exposition {
    if (!this.#failure && this.#pending !== '') {
      this.#line++;
      this.#fail('the last line does not end with a newline: the text was cut short');
    }
    return this.#failure ?? { ok: true, families: this.#families };
  }

  #takeLine(raw: string): boolean {
    if (raw.length > this.#limits.lineBytesMax) return this.#failLong(this.#line);
    const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    const start = skipBlanks(line, 0);
    if (start === line.length) return true;
    try {
      if (line[start] === '#') this.#takeComment(line, start + 1);
      else this.#takeSample(line, start);
      return true;
    } catch (problem) {
      if (!(problem instanceof SyntaxProblem)) throw problem;
      return this.#fail(problem.message);
    }
  }

  #takeComment(line: string, at: number): void {
    const match = /^[ \t]+(HELP|TYPE)[ \t]+(\S+)(?:[ \t]+(.*))?$/.exec(line.slice(at));
    if (!match) return;
    const [, keyword, name, rest = ''] = match;
    const [read, end] = readName(METRIC_NAME, name, 0, 'metric name');
    if (end !== name.length) throw new SyntaxProblem(`"${clip(name)}" is no metric name`);
    const family = this.#family(read);
    if (keyword === 'HELP') {
      if (family.help !== null) throw new SyntaxProblem(`second HELP of ${read}`);
      family.help = unescapeText(rest, false);
      return;
    }
    const type = rest.trim();
    if (!TYPES.has(type)) throw new SyntaxProblem(`"${clip(type)}" is no type; there are ${[...TYPES].join(', ')}`);
    if (this.#typed.has(read)) throw new SyntaxProblem(`second TYPE of ${read}`);
    if (this.#seen.has(read)) throw new SyntaxProblem(`TYPE of ${read} after its samples`);
    this.#typed.add(read);
    family.type = type as FamilyType;
  }

  #takeSample(line: string, start: number): void {
    if (++this.#samples > this.#limits.samplesMax) throw new SyntaxProblem(`more than ${this.#limits.samplesMax} samples`);
    const [name, afterName] = readName(METRIC_NAME, line, start, 'metric name');
    let at = skipBlanks(line, afterName);
    let labels: Record<string, string> = {};
    if (line[at] === '{') [labels, at] = readLabels(line, at + 1, this.#limits.labelsMax);
    else if (at === afterName && at < line.length) throw new SyntaxProblem(`unexpected "${clip(line[at])}" in a metric name`);
    const fields = line
      .slice(at)
      .trim()
      .split(/[ \t]+/);
    if (fields[0] === '') throw new SyntaxProblem(`${name} has no value`);
    if (fields.length > 2) throw new SyntaxProblem(`unexpected "${clip(fields[2])}" after the timestamp`);
    const value = readValue(fields[0]);
    const timestampMs = fields.length === 2 ? readTimestamp(fields[1]) : null;
    const familyName = this.#familyOf(name);
    this.#seen.add(familyName);
    if (this.#limits.wanted && !this.#limits.wanted(familyName)) return;
    this.#family(familyName).samples.push({ name, labels, value, timestampMs });
  }

  /** The family of a sample's name: its own, or the histogram or summary whose suffix it carries. */
  #familyOf(name: string): string {
    const match = /^(.+)_(bucket|sum|count)$/.exec(name);
    if (!match || this.#typed.has(name)) return name;
    const type = this.#families.get(match[1])?.type;
    if (type === 'histogram' || (type === 'summary' && match[2] !== 'bucket')) return match[1];
    return name;
  }

  #family(name: string): Family {
    let family = this.#families.get(name);
    if (family === undefined) {
      family = { name, type: 'untyped', help: null, samples: [] };
      this.#families.set(name, family);
    }
    return family;
  }

  #fail(message: string): false {
    this.#failure = { ok: false, line: Math.max(1, this.#line), message };
    this.#pending = '';
    this.#families.clear();
    return false;
  }

  #failLong(line: number): false {
    this.#line = line;
    return this.#fail(`the line is longer than ${this.#limits.lineBytesMax} characters`);
  }
}

function readLabels(line: string, from: number, labelsMax: number): [Record<string, string>, number] {
  const labels = new Map<string, string>();
  let at = skipBlanks(line, from);
  while (line[at] !== '}') {
    const [name, afterName] = readName(LABEL_NAME, line, at, 'label name');
    at = expect(line, skipBlanks(line, afterName), '=', `after label ${name}`);
    at = expect(line, skipBlanks(line, at), '"', `before the value of label ${name}`);
    const end = closingQuote(line, at);
    if (end < 0) throw new SyntaxProblem(`the value of label ${name} has no closing quote`);
    if (labels.has(name)) throw new SyntaxProblem(`label ${name} is given twice`);
    if (labels.size >= labelsMax) throw new SyntaxProblem(`more than ${labelsMax} labels`);
    labels.set(name, unescapeText(line.slice(at, end), true));
    at = skipBlanks(line, end + 1);
    if (line[at] === ',') at = skipBlanks(line, at + 1);
    else if (line[at] !== '}') throw new SyntaxProblem(`expected "," or "}" after label ${name}, found ${found(line, at)}`);
  }
  return [Object.fromEntries(labels), at + 1];
}

function closingQuote(line: string, from: number): number {
  for (let at = from; at < line.length; at++) {
    if (line[at] === '\\') at++;
    else if (line[at] === '"') return at;
  }
  return -1;
}

function unescapeText(text: string, quotes: boolean): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\(.?)/gs, (whole, escaped: string) => {
    if (escaped === '\\') return '\\';
    if (escaped === 'n') return '\n';
    if (escaped === '"' && quotes) return '"';
    throw new SyntaxProblem(`"${clip(whole)}" is no escape`);
  });
}

function readName(pattern: RegExp, text: string, at: number, what: string): [string, number] {
  pattern.lastIndex = at;
  const match = pattern.exec(text);
  if (!match) throw new SyntaxProblem(`expected a ${what}, found ${found(text, at)}`);
  return [match[0], at + match[0].length];
}

function readValue(text: string): number {
  if (NUMBER.test(text)) return Number(text);
  switch (text.toLowerCase()) {
    case 'nan':
      return Number.NaN;
    case 'inf':
    case '+inf':
      return Number.POSITIVE_INFINITY;
    case '-inf':
      return Number.NEGATIVE_INFINITY;
    default:
      throw new SyntaxProblem(`"${clip(text)}" is no number`);
  }
}

function readTimestamp(text: string): number {
  if (!/^-?\d{1,16}$/.test(text)) throw new SyntaxProblem(`"${clip(text)}" is no timestamp in milliseconds`);
  return Number(text);
}

function expect(line: string, at: number, character: string, where: string): number {
  if (line[at] !== character)
    throw new SyntaxProblem(`expected ${character === '"' ? 'a quote' : `"${character}"`} ${where}, found ${found(line, at)}`);
  return at + 1;
}

function skipBlanks(line: string, at: number): number {
  BLANKS.lastIndex = at;
  return at + (BLANKS.exec(line)?.[0].length ?? 0);
}

function found(text: string, at: number): string {
  return at < text.length ? `"${clip(text[at])}"` : 'the end of the line';
}

function clip(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}
