// The Dockerfile without a Docker engine: what a linter would say about it, and its COPY and RUN steps done for real in a
// temporary directory (the packages come from this checkout's node_modules instead of npm ci), up to starting the entry point
// with nothing but the packages of production.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

interface Instruction {
  name: string;
  text: string;
}

interface Stage {
  base: string;
  alias: string;
  instructions: Instruction[];
}

function parse(dockerfile: string): Stage[] {
  const lines = dockerfile
    .split('\n')
    .filter((line) => !line.trim().startsWith('#'))
    .join('\n')
    .replace(/\\\n\s*/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const stages: Stage[] = [];
  for (const line of lines) {
    const [, name, text] = /^(\w+)\s+(.*)$/.exec(line) ?? ['', '', ''];
    assert.ok(name !== '', `not an instruction: ${line}`);
    if (name === 'FROM') {
      const [base, , alias = ''] = text.split(/\s+/);
      stages.push({ base, alias, instructions: [] });
    } else stages.at(-1)?.instructions.push({ name, text });
  }
  return stages;
}

function argumentsOf(stage: Stage, name: string): string[] {
  return stage.instructions.filter((instruction) => instruction.name === name).map((instruction) => instruction.text);
}

/** COPY's sources and destination; `from` is the stage they come from, or '' for the build context. */
function copyOf(text: string): { from: string; sources: string[]; destination: string } {
  const words = text.split(/\s+/);
  const from = words.find((word) => word.startsWith('--from='))?.slice('--from='.length) ?? '';
  const paths = words.filter((word) => !word.startsWith('--'));
  return { from, sources: paths.slice(0, -1), destination: paths.at(-1) ?? '' };
}

const stages = parse(readFileSync(join(root, 'Dockerfile'), 'utf8'));
const [build] = stages;
const last = stages.at(-1) as Stage;

const lint = suite('Dockerfile, as a linter sees it');

lint('every base image is pinned to a version, never latest, and all are the same', () => {
  for (const { base } of stages) assert.match(base, /^node:\d+\.\d+\.\d+-bookworm-slim$/);
  assert.is(new Set(stages.map(({ base }) => base)).size, 1);
});

lint('the base image satisfies the engines of package.json', () => {
  const [major, minor] = build.base.slice('node:'.length).split('.').map(Number);
  const [needMajor, needMinor] = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    .engines.node.slice(2)
    .split('.')
    .map(Number);
  assert.ok(major > needMajor || (major === needMajor && minor >= needMinor));
});

lint('the last stage runs as a user that is not root, set after everything that needs root', () => {
  const names = last.instructions.map(({ name }) => name);
  assert.match(argumentsOf(last, 'USER').at(-1) as string, /^(?!root$|0$)\w+$/);
  assert.ok(names.lastIndexOf('USER') > names.lastIndexOf('RUN'));
});

lint('health is checked by node on /healthz, in exec form', () => {
  const [check] = argumentsOf(last, 'HEALTHCHECK');
  const command = JSON.parse(check.slice(check.indexOf('CMD ') + 4)) as string[];
  assert.is(command[0], 'node');
  assert.match(command.at(-1) as string, '/healthz');
});

lint('the health check succeeds only on an answer that is ok', () => {
  const [check] = argumentsOf(last, 'HEALTHCHECK');
  const [, flag, code] = JSON.parse(check.slice(check.indexOf('CMD ') + 4)) as string[];
  const exitOf = (fetch: string) => spawnSync(process.execPath, [flag, `globalThis.fetch = async () => ${fetch}; ${code}`]).status;
  assert.is(exitOf('({ ok: true })'), 0);
  assert.is(exitOf('({ ok: false })'), 1);
  assert.is(exitOf('{ throw new Error() }'), 1);
});

lint('ENTRYPOINT and CMD are in exec form, so that signals reach the gateway', () => {
  for (const name of ['ENTRYPOINT', 'CMD']) {
    const [text] = argumentsOf(last, name);
    assert.ok(Array.isArray(JSON.parse(text)), name);
  }
});

lint('packages come from the lock file and none of development reaches the last stage', () => {
  const runs = argumentsOf(build, 'RUN').join(' && ');
  assert.match(runs, /\bnpm ci\b/);
  assert.not.match(runs, /\bnpm (install|i)\b/);
  assert.match(runs, /npm prune --omit=dev/);
  assert.not.match(argumentsOf(last, 'RUN').join(' '), /\bnpm\b/);
  const copied = argumentsOf(build, 'COPY').flatMap((text) => copyOf(text).sources);
  assert.ok(copied.includes('package-lock.json'));
});

lint('no stage leaves a package cache behind, adds from the network or holds a secret', () => {
  for (const stage of stages) {
    assert.is(argumentsOf(stage, 'ADD').length, 0);
    for (const run of argumentsOf(stage, 'RUN')) {
      if (/apt-get install/.test(run)) assert.match(run, /rm -rf \/var\/lib\/apt\/lists/);
      assert.not.match(run, /curl|wget|sudo/);
    }
    for (const text of [...argumentsOf(stage, 'ENV'), ...argumentsOf(stage, 'ARG')]) assert.not.match(text, /token|secret|password/i);
  }
});

lint('every COPY has its source in the repository or an earlier stage, and .dockerignore lets it through', () => {
  const allowed = readFileSync(join(root, '.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1));
  for (const stage of stages) {
    for (const { from, sources } of argumentsOf(stage, 'COPY').map(copyOf)) {
      if (from !== '')
        assert.ok(
          stages.some(({ alias }) => alias === from),
          `no stage ${from}`,
        );
      else
        for (const source of sources) {
          assert.ok(existsSync(join(root, source)), `${source} is not in the repository`);
          assert.ok(allowed.includes(source.split('/')[0]), `${source} is kept out by .dockerignore`);
        }
    }
  }
});

lint('the ports and the volume that the shipped configuration uses are declared', () => {
  const shipped = readFileSync(join(root, 'config/container.yaml'), 'utf8');
  for (const port of argumentsOf(last, 'EXPOSE').flatMap((text) => text.split(' '))) assert.match(shipped, `port: ${port}`);
  for (const path of JSON.parse(argumentsOf(last, 'VOLUME')[0]) as string[]) assert.match(shipped, `data: ${path}/`);
});

lint.run();

const steps = suite('Dockerfile, its steps done here');

/** A node_modules that holds the packages of production alone. */
function linkProduction(destination: string): void {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, { dev?: boolean }> };
  for (const [path, { dev }] of Object.entries(packages)) {
    const name = path.slice('node_modules/'.length);
    if (path === '' || dev === true || name.includes('node_modules/') || !existsSync(join(root, path))) continue;
    mkdirSync(dirname(join(destination, name)), { recursive: true });
    symlinkSync(join(root, path), join(destination, name));
  }
}

function copyInto(directory: string, { sources, destination }: { sources: string[]; destination: string }): void {
  for (const source of sources) {
    const into = destination.endsWith('/') ? join(directory, destination, basename(source)) : join(directory, destination);
    cpSync(join(root, source), into, { recursive: true });
  }
}

steps('the build stage makes the entry point, and the last stage starts it without packages of development', () => {
  const directory = mkdtempSync(join(tmpdir(), 'forestall-image-'));
  try {
    for (const copy of argumentsOf(build, 'COPY').map(copyOf)) copyInto(directory, copy);
    symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
    const commands = argumentsOf(build, 'RUN').flatMap((run) => run.split('&&').map((command) => command.trim()));
    // The other commands are npm's own on node_modules, which is not ours to change here.
    const ours = commands.filter((command) => !/^npm (ci|prune)\b/.test(command));
    assert.equal(ours, ['npm run build']);
    for (const command of ours) {
      const result = spawnSync('sh', ['-c', command], { cwd: directory, encoding: 'utf8' });
      assert.is(result.status, 0, result.stdout + result.stderr);
    }
    rmSync(join(directory, 'node_modules'));
    linkProduction(join(directory, 'node_modules'));
    const [program, entry] = JSON.parse(argumentsOf(last, 'ENTRYPOINT')[0]) as string[];
    assert.is(program, 'node');
    assert.ok((statSync(join(directory, entry)).mode & 0o111) !== 0, 'the entry point can be run as a command');
    const result = spawnSync(process.execPath, [entry, '--help'], { cwd: directory, encoding: 'utf8' });
    assert.is(result.status, 0, result.stderr);
    assert.match(result.stdout, 'serve');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

steps.run();
