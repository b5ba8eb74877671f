// Builds dist/ from the TypeScript sources: compiles (incrementally), copies what is read at run time and is not code,
// removes what no longer has a source, and makes the command executable. With --if-needed it does nothing, quietly,
// when dist/ was built from exactly these sources. It must write nothing outside dist/.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const stamp = join(dist, '.built');
const program = join(dist, 'gateway', 'main.js');
const areas = ['config', 'replication', 'pfa', 'gateway', 'native-free-bench'];
const assetEndings = ['.json', '.yaml', '.html', '.css', '.svg', '.proto'];
const inputs = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.mjs'];

/** Files below `directory`, as paths relative to `base`, sorted. */
function filesBelow(base, directory) {
  if (!existsSync(join(base, directory))) return [];
  return readdirSync(join(base, directory), { withFileTypes: true })
    .flatMap((entry) => {
      const path = `${directory}/${entry.name}`;
      return entry.isDirectory() ? filesBelow(base, path) : [path];
    })
    .sort();
}

const sources = areas.flatMap((area) => filesBelow(root, area));
const assets = sources.filter((path) => assetEndings.some((ending) => path.endsWith(ending)));

/** Changes when any source is added, removed or touched, in whichever direction its time moved. */
function fingerprint() {
  const hash = createHash('sha256').update(process.versions.node);
  for (const path of [...inputs, ...sources]) {
    const { size, mtimeMs } = statSync(join(root, path));
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

function builtFrom() {
  return existsSync(stamp) && existsSync(program) ? readFileSync(stamp, 'utf8') : '';
}

function compile() {
  // Without its output the compiler's notes on what it wrote are wrong.
  if (!existsSync(program)) rmSync(join(dist, '.tsbuildinfo'), { force: true });
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  if (!existsSync(tsc)) {
    process.stderr.write('forestall: the compiler is not installed: run npm ci first (npm start and npm test do it themselves)\n');
    process.exit(1);
  }
  const result = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function copyAssets() {
  for (const path of assets) {
    mkdirSync(dirname(join(dist, path)), { recursive: true });
    copyFileSync(join(root, path), join(dist, path));
  }
}

function removeLeftovers() {
  const expected = new Set(assets);
  for (const path of sources) {
    if (!path.endsWith('.ts')) continue;
    const stem = path.slice(0, -'.ts'.length);
    expected.add(`${stem}.js`).add(`${stem}.js.map`);
  }
  for (const area of areas) {
    for (const path of filesBelow(dist, area)) if (!expected.has(path)) rmSync(join(dist, path));
  }
}

const wanted = fingerprint();
if (!process.argv.includes('--if-needed') || builtFrom() !== wanted) {
  process.stderr.write('forestall: building dist/\n');
  rmSync(stamp, { force: true });
  compile();
  copyAssets();
  removeLeftovers();
  if (existsSync(program)) chmodSync(program, 0o755);
  writeFileSync(stamp, wanted);
}
