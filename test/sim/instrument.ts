// A copy of the sources, to be run by a process of its own, in which every await tells that it was reached and every change
// of a state which it was. Nothing else differs: an await still takes as many turns of the microtask queue as before.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { RECORDER } from './coverage-recorder.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = ['config', 'gateway', 'pfa', 'replication', 'test/sim', 'package.json', 'tsconfig.json'];
/** What is run by the simulation as it ships. */
const COVERED = ['gateway/volume', 'gateway/upstream', 'gateway/protection', 'replication'];
const STATES = new Set(['state', '#state', 'phase', '#condition']);

export interface AwaitSite {
  /** Its place among all. */
  id: number;
  file: string;
  line: number;
  /** What is awaited. */
  text: string;
}

interface Insertion {
  at: number;
  text: string;
}

/** `awaits` grows by those of `text`. Gives the text with the calls in it. */
export function instrumented(file: string, text: string, awaits: AwaitSite[]): string {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true);
  const insertions: Insertion[] = [];
  const call = (node: ts.Expression, method: string, words: string): void => {
    insertions.push({ at: node.getStart(source), text: `${RECORDER}.${method}(${words}, ` }, { at: node.getEnd(), text: ')' });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isAwaitExpression(node)) {
      const id = awaits.length;
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      awaits.push({ id, file, line: line + 1, text: node.expression.getText(source).replace(/\s+/g, ' ') });
      call(node.expression, 'reach', String(id));
    }
    if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.EqualsToken && ts.isPropertyAccessExpression(node.left)) {
      const { left } = node;
      if (STATES.has(left.name.text))
        call(node.right, 'enter', `'${file} ${left.name.text}', ${left.getText(source).replaceAll('?.', '.')}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  // From the end, so that places stay right; of what begins at one place the outer comes first.
  let result = text;
  for (const { at, text: inserted } of insertions.reverse().sort((one, other) => other.at - one.at))
    result = result.slice(0, at) + inserted + result.slice(at);
  return result;
}

/** The caller removes the directory. */
export function instrumentedCopy(): { directory: string; awaits: AwaitSite[] } {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-coverage-'));
  try {
    for (const source of SOURCES) cpSync(join(root, source), join(directory, source), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    const awaits: AwaitSite[] = [];
    for (const covered of COVERED) {
      for (const name of readdirSync(join(root, covered)).sort()) {
        if (!name.endsWith('.ts')) continue;
        const file = `${covered}/${name}`;
        const path = join(directory, file);
        writeFileSync(path, instrumented(file, readFileSync(path, 'utf8'), awaits));
      }
    }
    return { directory, awaits };
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}
