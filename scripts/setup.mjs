// Runs before start, test, demo and bench: installs from the lock file and builds, each only when that is needed.
// Needs nothing but Node and npm, says one line for each thing it does and nothing when there is nothing to do.
// Two of them at once in one checkout wait for each other. It must never change a tracked file.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const lock = join(root, '.tmp', 'setup.lock');
const lockWaitMs = 10 * 60 * 1000;

function say(text) {
  process.stderr.write(`forestall: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function checkNode() {
  const wanted = readJson(join(root, 'package.json')).engines.node;
  const [needMajor, needMinor] = wanted.replace(/^>=/, '').split('.').map(Number);
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < needMajor || (major === needMajor && minor < needMinor)) {
    fail(
      `Node ${process.versions.node} is too old: Forestall needs Node ${wanted}. Install a newer one (https://nodejs.org) and run this again.`,
    );
  }
}

/** Why `npm ci` has to run, or null. npm writes its own record of an install last of all, so a broken-off install has none. */
function installReason() {
  const record = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return 'node_modules is missing or incomplete';
  const have = readJson(record).packages;
  for (const [path, wanted] of Object.entries(readJson(join(root, 'package-lock.json')).packages)) {
    if (path === '') continue;
    const found = have[path];
    if (found === undefined ? !wanted.optional : found.version !== wanted.version) return 'node_modules is older than package-lock.json';
  }
  return null;
}

function install(reason) {
  say(`${reason}: running npm ci (takes about half a minute)`);
  const ci = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const self = process.env.npm_execpath;
  const [program, args] = self?.endsWith('npm-cli.js') ? [process.execPath, [self, ...ci]] : ['npm', ci];
  const result = spawnSync(program, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (result.error !== undefined) fail(`cannot run npm: ${result.error.message}. npm comes with Node; is it on the PATH?`);
  if (result.status === 0) return;
  process.stderr.write(result.stdout + result.stderr);
  fail(
    `npm ci ${result.signal === null ? `failed with exit code ${result.status}` : `was ended by ${result.signal}`}; its output is above. ` +
      'It needs to reach the npm registry (check network and proxy) and a package-lock.json that matches package.json.',
  );
}

function runBuild() {
  const result = spawnSync(process.execPath, [join(root, 'scripts', 'build.mjs'), '--if-needed'], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (result.status !== 0) fail('the build failed; the errors are above.');
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Who holds the lock: its process, 0 when nobody does any more. */
function lockHolder() {
  try {
    const pid = Number(readFileSync(lock, 'utf8'));
    // Between creating and writing it the file is empty for a moment: only an old empty file is a leftover.
    if (pid === 0) return Date.now() - statSync(lock).mtimeMs < 5000 ? -1 : 0;
    return isAlive(pid) ? pid : 0;
  } catch {
    return 0;
  }
}

function takeLock() {
  mkdirSync(dirname(lock), { recursive: true });
  const deadline = Date.now() + lockWaitMs;
  for (let told = false; ; ) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = lockHolder();
    if (holder === 0) {
      rmSync(lock, { force: true });
      continue;
    }
    if (Date.now() > deadline) fail(`another set-up (process ${holder}) has not ended in ten minutes; end it, or remove ${lock}.`);
    if (!told) say(`another set-up is running here (process ${holder}); waiting for it`);
    told = true;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
  process.on('exit', () => rmSync(lock, { force: true }));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));
}

checkNode();
takeLock();
const reason = installReason();
if (reason !== null) install(reason);
runBuild();
