// The inputs worth keeping: one file a target, an input a line (deflated, in base64), each of which takes a branch, or takes one in an order
// of magnitude, that none before it does. Failing inputs have files of their own, in hexadecimal digits.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { packSteps, type Step, unpackSteps } from './input.js';

function fileOf(target: string, root: string): string {
  return `${root}/test/fuzz/corpus/${target}.txt`;
}

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export function readCorpus(target: string, root = ROOT): Step[][] {
  const file = fileOf(target, root);
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map(fromLine);
}

export function writeCorpus(target: string, lines: readonly string[]): void {
  writeFileSync(fileOf(target, ROOT), lines.map((line) => `${line}\n`).join(''));
}

export function toLine(steps: readonly Step[]): string {
  return deflateRawSync(packSteps(steps), { level: 9 }).toString('base64');
}

export function fromLine(line: string): Step[] {
  return unpackSteps(inflateRawSync(Buffer.from(line, 'base64')));
}

/** `target TARGET`, then what is wrong as a comment, then hexadecimal digits, a step a line. */
export function findingText(target: string, message: string, steps: readonly Step[]): string {
  const words = message.split('\n').map((line) => `# ${line}`);
  return [`target ${target}`, ...words, ...steps.map((step) => packSteps([step]).toString('hex')), ''].join('\n');
}

export function parseFinding(text: string): { target: string; steps: Step[] } {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const target = /^target (\S+)$/.exec(lines[0] ?? '')?.[1];
  if (target === undefined) throw new Error('the file begins with `target NAME`');
  const digits = lines.slice(1).join('');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error('behind the target come hexadecimal digits alone');
  return { target, steps: unpackSteps(Buffer.from(digits, 'hex')) };
}
