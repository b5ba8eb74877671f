// YAML text into plain data that remembers where each value stood. Bounded: aliases cannot blow a small file up into a
// large one. Duplicate keys do not stop the reading, so that everything else wrong can be reported too.
import { isAlias, isMap, isNode, isSeq, LineCounter, type Node, type Pair, parseDocument, visit, type YAMLError } from 'yaml';
import { type KeyPath, shown } from './problem.js';

const aliasesMax = 100;

export interface Position {
  line: number;
  column: number;
}

/** Something that makes the text no proper YAML. `fatal`: the data cannot be trusted. */
export interface Fault extends Position {
  message: string;
  fatal: boolean;
}

export interface YamlText {
  /** Undefined when a fault is fatal. */
  data: unknown;
  faults: Fault[];
  /** Where the value at `path` (or its key) begins; of what is not there, where the nearest thing around it begins. */
  locate(path: KeyPath, part: 'key' | 'value'): Position;
}

function pairOf(node: Node, key: string | number): Pair | undefined {
  return isMap(node) ? node.items.find((pair) => String(pair.key) === String(key)) : undefined;
}

/** The YAML library's words are for its programmers; these are for the file's author. */
function describe({ code, message, pos }: YAMLError, text: string): string {
  if (code === 'DUPLICATE_KEY') {
    const key = /^[^:\s]+/.exec(text.slice(pos[0], pos[0] + 60))?.[0];
    return `the key ${shown(key)} is given twice in this map: keep one`;
  }
  if (code === 'TAB_AS_INDENT') return 'a tab is no indentation: use spaces';
  if (code === 'MULTIPLE_DOCS') return 'a second document begins here: a configuration is one document, remove the ---';
  return `${message[0].toLowerCase()}${message.slice(1)}`;
}

export function readYaml(text: string): YamlText {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'error' });
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const faults: Fault[] = [...document.errors, ...document.warnings].map((error) => ({
    ...at(error.pos[0]),
    message: describe(error, text),
    fatal: error.code !== 'DUPLICATE_KEY',
  }));
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) !== undefined) return;
      faults.push({ ...at(alias.range?.[0] ?? 0), message: `there is no anchor &${alias.source} before this alias`, fatal: true });
    },
  });

  const resolved = (node: unknown): Node | undefined => {
    const target = isAlias(node) ? node.resolve(document) : node;
    return isNode(target) ? target : undefined;
  };
  const locate = (path: KeyPath, part: 'key' | 'value'): Position => {
    let node = resolved(document.contents);
    let offset = node?.range?.[0] ?? 0;
    for (const [depth, key] of path.entries()) {
      if (node === undefined) break;
      const pair = pairOf(node, key);
      const child = isSeq(node) ? node.items[Number(key)] : pair?.value;
      const named = part === 'key' && depth === path.length - 1 && isNode(pair?.key) ? pair.key : undefined;
      const target = named ?? (isAlias(child) ? child : resolved(child));
      if (!isNode(target)) break;
      offset = target.range?.[0] ?? offset;
      node = resolved(child);
    }
    return at(offset);
  };

  let data: unknown;
  if (!faults.some(({ fatal }) => fatal)) {
    try {
      data = document.toJS({ maxAliasCount: aliasesMax });
    } catch (error) {
      // Thrown for aliases alone: every other fault was found above.
      if (!(error instanceof ReferenceError)) throw error;
      faults.push({
        line: 1,
        column: 1,
        message: `the aliases (*name) repeat too much: at most ${aliasesMax} values may come from them`,
        fatal: true,
      });
    }
  }
  return { data, faults, locate };
}
