// A copy of the sources to be fuzzed, with counters on the branches of the protocol machines, and perhaps a flaw planted in
// one of them. Nothing of it is left when its user is done.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { edited } from '../sim/mutate.js';
import type { Edit } from '../sim/mutations.js';
import { type BranchSite, withBranchCounters } from './branch-counters.js';
import { ROOT } from './corpus.js';

const SOURCES = ['config', 'gateway', 'pfa', 'replication', 'test/fuzz', 'test/sim', 'test/support', 'package.json', 'tsconfig.json'];
/** Machines whose branches are counted. */
const COUNTED = ['gateway/nbd', 'gateway/upstream/reply-reader.ts'];

export interface InstrumentedCopy {
  directory: string;
  branches: BranchSite[];
}

/** The caller removes the directory. */
export function instrumentedCopy(edits: readonly Edit[] = []): InstrumentedCopy {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-fuzz-'));
  try {
    for (const source of SOURCES) cpSync(join(ROOT, source), join(directory, source), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
    for (const edit of edits) change(join(directory, edit.file), (text) => edited(text, edit));
    const branches: BranchSite[] = [];
    for (const file of COUNTED.flatMap(filesOf)) change(join(directory, file), (text) => withBranchCounters(file, text, branches));
    return { directory, branches };
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function filesOf(path: string): string[] {
  if (path.endsWith('.ts')) return [path];
  const names = readdirSync(join(ROOT, path)).filter((name) => name.endsWith('.ts'));
  return names.sort().map((name) => `${path}/${name}`);
}

function change(path: string, by: (text: string) => string): void {
  writeFileSync(path, by(readFileSync(path, 'utf8')));
}
