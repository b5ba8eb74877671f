// Makes docs/conformance.md's scorecards and docs/conformance/*.json: starts each NBD server that this machine has, runs the suite
// against it, and writes what came into the document, each part between its two markers. A server that is not installed keeps the part it has.
// `npm run scorecards [-- NAME ...]`. Everything it starts it ends; servers that die under a rule are started again.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const forestall = join(root, 'dist', 'gateway', 'main.js');
const document = join(root, 'docs', 'conformance.md');
const results = join(root, 'docs', 'conformance');
const directory = mkdtempSync(join(tmpdir(), 'forestall-scorecards-'));
const path = [process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter);
const env = { ...process.env, PATH: path };
const packageVersion = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version;
const size = 128 * 1024 * 1024;
const startsWithinMs = 60_000;

const running = new Set();
let ending = false;

function say(text) {
  process.stderr.write(`scorecards: ${text}\n`);
}

function installed(program) {
  return program === 'node' || path.split(delimiter).some((each) => existsSync(join(each, program)));
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function image(name) {
  const file = join(directory, `${name}.img`);
  writeFileSync(file, '');
  spawnSync('truncate', ['-s', String(size), file]);
  return file;
}

/** Starts it again whenever it dies. */
function keepRunning(program, args) {
  const child = spawn(program, args, { cwd: directory, env, stdio: ['ignore', 'ignore', 'pipe'] });
  let words = '';
  child.stderr.on('data', (chunk) => {
    words = `${words}${chunk}`.slice(-2000);
  });
  running.add(child);
  child.on('exit', (code) => {
    running.delete(child);
    if (ending) return;
    if (code !== null && code > 0) say(`${program} ended with ${code}: ${words}`);
    setTimeout(() => ending || keepRunning(program, args), 100);
  });
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const answer = (yes) => () => {
      socket.destroy();
      resolve(yes);
    };
    socket.on('connect', answer(true)).on('error', answer(false));
  });
}

async function untilListening(port) {
  for (const end = Date.now() + startsWithinMs; !(await connects(port)); ) {
    if (Date.now() > end) throw new Error(`nothing listens on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Two of the same, the second one read-only. */
async function twice(program, argsOf) {
  const ports = [await freePort(), await freePort()];
  for (const [i, port] of ports.entries()) keepRunning(program, argsOf(port, i === 1));
  for (const port of ports) await untilListening(port);
  return ports;
}

function nbdkit(plugin) {
  return async () => {
    const ports = await twice('nbdkit', (port, readOnly) => [
      '-f',
      '-i',
      '127.0.0.1',
      '-p',
      String(port),
      ...(readOnly ? ['-r'] : []),
      ...plugin(),
    ]);
    return ports.map((port) => `nbd://127.0.0.1:${port}/`);
  };
}

const SERVERS = {
  forestall: {
    program: 'node',
    version: () => `Forestall ${packageVersion}`,
    started: 'a gateway with two nodes and one volume of 128 MiB',
    async start() {
      const [nbd, api] = [await freePort(), await freePort()];
      const config = {
        server: { nbd: { host: '127.0.0.1', port: nbd }, api: { host: '127.0.0.1', port: api }, data: join(directory, 'gateway') },
        nodes: ['a', 'b'].map((id) => ({ id, zone: id, embedded: { dir: join(directory, `node-${id}`) } })),
        volumes: [{ name: 'vol0', size: '128MiB', node: 'a' }],
      };
      const file = join(directory, 'gateway.yaml');
      writeFileSync(file, JSON.stringify(config));
      keepRunning(process.execPath, [forestall, 'serve', '--config', file]);
      await untilListening(nbd);
      return [`nbd://127.0.0.1:${nbd}/vol0`];
    },
  },
  'nbdkit-memory': {
    program: 'nbdkit',
    version: () => versionOf('nbdkit'),
    started: '`nbdkit memory 128M`, and with `-r`',
    start: nbdkit(() => ['memory', '128M']),
  },
  'nbdkit-file': {
    program: 'nbdkit',
    version: () => versionOf('nbdkit'),
    started: '`nbdkit file disk.img`, and with `-r`',
    start: nbdkit(() => ['file', image('nbdkit')]),
  },
  'qemu-nbd': {
    program: 'qemu-nbd',
    version: () => versionOf('qemu-nbd'),
    started: '`qemu-nbd --persistent --shared=0 -f raw -x disk disk.img`, and with `-r`',
    async start() {
      const common = ['--persistent', '--shared=0', '-f', 'raw', '-x', 'disk', '-b', '127.0.0.1'];
      const ports = await twice('qemu-nbd', (port, readOnly) => [
        ...common,
        '-p',
        String(port),
        ...(readOnly ? ['-r'] : []),
        image(`qemu-${port}`),
      ]);
      return ports.map((port) => `nbd://127.0.0.1:${port}/disk`);
    },
  },
  'nbd-server': {
    program: 'nbd-server',
    version: () => versionOf('nbd-server'),
    started: 'a section with `flush`, `fua` and `trim`, and one with `readonly`',
    async start() {
      const port = await freePort();
      const [file, pidFile] = [join(directory, 'nbd-server.conf'), join(directory, 'nbd-server.pid')];
      const section = (name, ...lines) => [
        `[${name}]`,
        `exportname = ${image(`nbd-server-${name}`)}`,
        'flush = true',
        'fua = true',
        ...lines,
      ];
      const generic = ['[generic]', 'allowlist = true', 'listenaddr = 127.0.0.1', `port = ${port}`];
      writeFileSync(file, `${[...generic, ...section('disk', 'trim = true'), ...section('read-only', 'readonly = true')].join('\n')}\n`);
      // It serves more than one client only as a daemon.
      spawnSync('nbd-server', ['-C', file, '-p', pidFile], { env });
      await untilListening(port);
      running.add({ kill: () => process.kill(Number(readFileSync(pidFile, 'utf8'))) });
      return [`nbd://127.0.0.1:${port}/disk`, `nbd://127.0.0.1:${port}/read-only`];
    },
  },
};

function versionOf(program) {
  const flag = program === 'nbd-server' ? '-V' : '--version';
  const { stdout, stderr } = spawnSync(program, [flag], { env, encoding: 'utf8' });
  return (stdout || stderr)
    .split('\n')[0]
    .replace(/^This is /, '')
    .replace(/, from .*/, '')
    .trim();
}

/** One run over all of them: the outcomes, as JSON and as Markdown. */
async function check(uris) {
  const module = (name) => import(pathToFileURL(join(root, 'dist', 'gateway', 'conformance', `${name}.js`)).href);
  const [{ RULES }, { combined, runSuite }, { readTarget }, { asJson, asMarkdown }] = await Promise.all(
    ['rules', 'suite', 'target', 'scorecard'].map(module),
  );
  const runs = [];
  for (const uri of uris) {
    const target = await readTarget(uri);
    const options = { write: true, timeoutMs: 10_000, restartCommand: null, restartMs: 10_000 };
    runs.push((await whenServed(() => runSuite(target.value, RULES, options))).outcomes);
  }
  const outcomes = combined(RULES, runs);
  return { json: asJson(outcomes, uris, packageVersion), card: asMarkdown(outcomes) };
}

/** A server that listens may need a moment more until its export can be entered. */
async function whenServed(run) {
  for (const end = Date.now() + startsWithinMs; ; ) {
    try {
      return await run();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** Ports and temporary files differ from run to run: they are left out of what is kept. */
function steady(text, uris) {
  let kept = text;
  for (const [i, uri] of uris.entries()) kept = kept.replaceAll(uri, i === 0 ? 'nbd://server/export' : 'nbd://server/read-only');
  return kept.replaceAll(directory, '');
}

function writePart(name, text) {
  const before = readFileSync(document, 'utf8');
  const [start, end] = [`<!-- scorecard ${name} -->`, `<!-- end of scorecard ${name} -->`];
  if (!before.includes(start) || !before.includes(end)) throw new Error(`docs/conformance.md has no part for ${name}`);
  const after = `${before.slice(0, before.indexOf(start) + start.length)}\n${text}${before.slice(before.indexOf(end))}`;
  writeFileSync(document, after);
}

function endAll() {
  ending = true;
  for (const child of running) {
    try {
      child.kill('SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
  running.clear();
}

process.on('exit', () => {
  endAll();
  rmSync(directory, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

mkdirSync(results, { recursive: true });
const wanted = process.argv.slice(2);
for (const name of wanted) if (!(name in SERVERS)) throw new Error(`there is no server ${name}: ${Object.keys(SERVERS).join(', ')}`);
for (const [name, { program, version, started, start }] of Object.entries(SERVERS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  if (!installed(program)) {
    say(`${name} is not installed: its part stays as it is`);
    continue;
  }
  ending = false;
  const uris = await start();
  const { json, card } = await check(uris);
  for (const rule of json.rules) delete rule.ms;
  writeFileSync(join(results, `${name}.json`), `${steady(JSON.stringify(json, null, 1), uris)}\n`);
  endAll();
  writePart(name, `\n${version()}: ${started}.\n\n${steady(card, uris)}\n`);
  const { passed, failed } = json.counts.all;
  say(`${name}: ${passed} passed, ${failed} failed`);
}
process.exit(0);
