// Which version of the sources a run tested: what a failing seed needs to be played again.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** `commit HASH`, `commit HASH with changes`, or the package's version where there is no git. */
export function describeCommit(): string {
  const hash = git('rev-parse', 'HEAD');
  if (hash !== null) return `commit ${hash}${git('status', '--porcelain') === '' ? '' : ' with changes'}`;
  const { version } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { version: string };
  return `version ${version}`;
}

function git(...words: string[]): string | null {
  const { status, stdout } = spawnSync('git', words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? stdout.trim() : null;
}
