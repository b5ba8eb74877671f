// Puts a counter on every branch of a source: functions, both sides of each decision, cases, loops. Lines stay where they are, and
// nothing else differs. Loops count against a budget too, so that one that never ends is an error and no hang.
import ts from 'typescript';

/** How instrumented sources reach what `branch-record.ts` keeps. */
const HEAD = 'const $b = globalThis.forestallBranches, $loop = globalThis.forestallLoop;';

export interface BranchSite {
  file: string;
  line: number;
}

/** `sites` grows by the branches of `text`. Gives the text with the counters in it. */
export function withBranchCounters(file: string, text: string, sites: BranchSite[]): string {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true);
  const count = (node: ts.Node): string => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
    sites.push({ file, line: line + 1 });
    return `$b[${sites.length - 1}]++`;
  };
  const statement = (node: ts.Node, inner: string): string => ` {${count(node)};${inner}}`;
  const expression = (node: ts.Node, inner: string): string => ` (${count(node)}, ${inner})`;

  /** What `parent` needs around its part `node`, whose text is `inner`. */
  const wrapped = (parent: ts.Node, node: ts.Node, inner: string): string => {
    if (ts.isIfStatement(parent)) {
      if (node === parent.elseStatement) return statement(node, inner);
      if (node !== parent.thenStatement) return inner;
      return parent.elseStatement === undefined ? `${statement(node, inner)} else {${count(parent)};}` : statement(node, inner);
    }
    if (ts.isConditionalExpression(parent)) return node === parent.whenTrue || node === parent.whenFalse ? expression(node, inner) : inner;
    if (ts.isBinaryExpression(parent)) {
      const { kind } = parent.operatorToken;
      const decides =
        kind === ts.SyntaxKind.AmpersandAmpersandToken ||
        kind === ts.SyntaxKind.BarBarToken ||
        kind === ts.SyntaxKind.QuestionQuestionToken ||
        kind === ts.SyntaxKind.QuestionQuestionEqualsToken;
      return decides && node === parent.right ? expression(node, inner) : inner;
    }
    if (ts.isIterationStatement(parent, false) && node === parent.statement) return ` {$loop();${count(node)};${inner}}`;
    if (ts.isCaseOrDefaultClause(parent) && node === parent.statements[0]) return ` ${count(node)};${inner}`;
    if (ts.isArrowFunction(parent) && node === parent.body && !ts.isBlock(node)) return expression(node, inner);
    return inner;
  };

  const emit = (node: ts.Node): string => {
    let out = '';
    let at = node.getFullStart();
    if (ts.isBlock(node) && ts.isFunctionLike(node.parent)) {
      const start = node.getStart(source) + 1;
      out = `${text.slice(at, start)}${count(node)};`;
      at = start;
    }
    ts.forEachChild(node, (child) => {
      out += text.slice(at, child.getFullStart()) + wrapped(node, child, emit(child));
      at = child.end;
    });
    return out + text.slice(at, node.end);
  };
  return HEAD + emit(source);
}
