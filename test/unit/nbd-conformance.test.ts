// The conformance suite is right about servers that are wrong: a server that follows the protocol to the letter passes every rule,
// and each deviation, one at a time, makes exactly the rules fail that speak of it.
// deadline: 600s
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { suite } from 'uvu';
import { runProgram } from '../../gateway/cli/program.js';
import { matching, RULES } from '../../gateway/conformance/rules.js';
import { asJson, asMarkdown, asText, count } from '../../gateway/conformance/scorecard.js';
import { combined, type SuiteOptions } from '../../gateway/conformance/suite.js';
import { CannotTest } from '../../gateway/conformance/survey.js';
import { BentServer } from '../support/bent-server.js';
import { conformance, failures, idsOf } from '../support/conformance-run.js';

const test = suite('nbd conformance');

/** So long a hang is waited for. */
const TIMEOUT_MS = 5_000;
const AT_ONCE = 8;

interface Deviation {
  bends: string[];
  red: string[];
  readOnly?: boolean;
}

/** What servers do wrong, and which rules say so. A deviation that breaks several sentences of the protocol has several. */
const DEVIATIONS: Deviation[] = [
  d('no fixed newstyle', 'handshake.fixed-newstyle'),
  d('another handshake flag', 'handshake.no-other-flags'),
  d('takes unknown client flags', 'handshake.unknown-client-flag'),
  d('replies name another option', 'option.reply-format'),
  d('takes any option magic', 'handshake.wrong-option-magic'),
  d('abort without ack', 'abort.ack', 'abort.with-data'),
  d('abort with data is invalid', 'abort.with-data'),
  d('waits for 4 GiB of option', 'option.claimed-4gib'),
  d('closes after ten options', 'option.keeps-answering'),
  d('unknown options are invalid', 'option.unknown'),
  d('error text is no string', 'option.error-text'),
  d('structured with data', 'structured.with-data'),
  d('structured after extended', 'extended.then-structured'),
  d('acknowledges and stays simple', 'structured.repeated', 'structured.with-export-name', 'chunk.read', 'chunk.errors-preferred'),
  d('extended needs structured', 'extended.alone', 'extended.then-structured', 'extended.repeated', 'extended.export-name'),
  d('TLS_REQD without TLS', 'tls.none-refuses'),
  d('no has-flags', 'flags.has-flags'),
  d('DF without structured', 'structured.no-df-without'),
  d('fast zero without zeroes', 'flags.fast-zero-needs-zeroes'),
  d('payload flag without extended', 'flags.status-payload-needs-extended', 'extended.status-payload-flag'),
  d('payload flag for all', 'extended.status-payload-flag'),
  d('export name with extended', 'extended.export-name'),
  d('export name takes any name', 'export-name.unknown', 'export-name.too-long'),
  d(
    'export name has another size',
    'export-name.reply',
    'export-name.no-zeroes',
    'export-name.without-fixed-newstyle',
    'export-name.same-as-go',
  ),
  d('zeroes that are not zero', 'export-name.reply'),
  d('list with data', 'list.with-data'),
  d('lists what it does not have', 'list.names-exist'),
  d('list entry overruns', 'list.entry-lengths'),
  d('list details are no string', 'list.strings'),
  d('reads beyond the data', 'info.no-data'),
  d('waits for the rest of a name', 'info.name-overruns'),
  d('invents requests', 'info.requests-overrun'),
  d('trailing bytes', 'info.trailing-bytes'),
  d('tells of what is not there', 'info.unknown-export-untold'),
  d('unknown export is invalid', 'info.unknown-export'),
  d('unknown requests are invalid', 'info.unknown-request'),
  d('requires block size', 'info.block-size-not-required'),
  d('no export info', 'info.export'),
  d('export info twice', 'info.once-each'),
  d('another canonical name', 'info.name'),
  d('description is no string', 'info.description'),
  d('ack with data', 'info.ack-empty'),
  d('padding after go', 'go.no-padding'),
  d('info has another size', 'go.same-as-info'),
  d('long export info', 'info.export-length'),
  d('preferred under 512', 'info.preferred-block'),
  d('maximum under preferred', 'info.maximum-payload', 'info.maximum-payload-mebibyte'),
  d('maximum under 1 MiB', 'info.maximum-payload-mebibyte'),
  d('long block sizes', 'info.block-size-length'),
  d('failed set keeps contexts', 'context.failed-set-replaces'),
  d('set adds to contexts', 'context.set-replaces', 'context.failed-set-replaces'),
  d('contexts without chunks', 'context.before-structured'),
  d('overrun is unknown', 'context.query-overruns', 'context.queries-overrun', 'context.name-overruns', 'context.trailing-bytes'),
  d('unknown leaf is invalid', 'context.list-unknown', 'context.set-unknown-leaf'),
  d('unknown namespace is invalid', 'context.set-unknown-namespace'),
  d('no wildcard in list', 'context.list-wildcard'),
  d('wildcard in set', 'context.set-wildcard', 'context.set-wildcard-elsewhere'),
  d('set without queries takes all', 'context.set-none', 'context.set-replaces'),
  d('lists less than there is', 'context.list-all'),
  d('ids alike', 'context.set-unique-ids', 'status.several-contexts', 'extended.status-subset'),
  d('ids in a list', 'context.list-ids'),
  d(
    'names without namespace',
    'context.list-all',
    'context.names',
    'context.namespaces',
    'status.several-contexts',
    'extended.status-subset',
  ),
  d('takes fewer queries', 'context.queries-overrun'),
  d('trailing query bytes', 'context.trailing-bytes'),
  d('answers disc', 'disc.closes'),
  d('dies of fast zero', 'zeroes.fast', 'zeroes.fast-refused-harmless'),
  d('takes any request magic', 'request.wrong-magic', 'extended.compact-request'),
  d('writes without flag', 'extended.write-without-flag'),
  d('assumes payloads', 'request.length-no-payload', 'extended.unknown-without-payload'),
  d('no payload with unknown flags', 'write.other-flags'),
  d('waits for 4 GiB', 'write.claimed-4gib', 'extended.claimed-payload'),
  d('leaves refused payloads', 'write.refused-payload-skipped', 'extended.refused-write'),
  d('signed cookies', 'request.cookie-opaque', 'extended.cookie'),
  { ...d('writes read-only', 'read-only.refused', 'read-only.write', 'read-only.trim', 'read-only.zeroes'), readOnly: true },
  { ...d('EINVAL for read-only', 'read-only.write', 'read-only.trim', 'read-only.zeroes'), readOnly: true },
  d(
    'closes on unknown commands',
    'chunk.errors-preferred',
    'request.unknown-command',
    'request.length-no-payload',
    'extended.payload-on-unknown',
    'extended.unknown-without-payload',
  ),
  d('unknown is ENOTSUP', 'request.unknown-command', 'extended.payload-on-unknown'),
  d('no FUA on reads', 'flags.fua-on-reading'),
  d('no FUA on writes', 'write.fua', 'write.before-disc', 'multi-conn.fua'),
  d('closes on status without context', 'status.without-context'),
  d('no flush', 'flags.fua-on-reading', 'flush.succeeds', 'multi-conn.flush'),
  d('any flag on 1', 'write.other-flags'),
  d('any flag on 3', 'flush.other-flags', 'extended.payload-on-flush'),
  d('any flag on 4', 'trim.other-flags'),
  d('any flag on 5', 'cache.unknown-flags'),
  d('any flag on 6', 'zeroes.other-flags'),
  d('any flag on 7', 'status.other-flags'),
  d('closes on zero 0', 'read.zero-length'),
  d('closes on zero 1', 'write.zero-length'),
  d('closes on zero 4', 'trim.zero-length'),
  d('closes on zero 6', 'zeroes.zero-length'),
  d('closes on zero 7', 'status.zero-length'),
  d('wraps at 2^64', 'write.offset-overflow'),
  d('ENOMEM', 'read.over-maximum'),
  d('takes unknown ids', 'extended.status-unknown-id'),
  d('takes ids twice', 'extended.status-duplicate-id'),
  { bends: ['refuses fast zeroes'], red: [] },
  { bends: ['refuses fast zeroes', 'zeroes all the same'], red: ['zeroes.fast-refused-harmless'] },
  d('NO_HOLE is not zeroed', 'zeroes.no-hole'),
  d('trims too much', 'trim.beside'),
  d('cache destroys', 'cache.harmless'),
  d('simple replies to reads', 'structured.repeated', 'structured.with-export-name', 'chunk.read'),
  d('splits DF', 'df.one-chunk', 'df.long'),
  { bends: ['two chunks'], red: [] },
  d('leaves a gap', 'chunk.cover', 'extended.write'),
  d('overlaps', 'chunk.no-overlap'),
  d('outside', 'chunk.inside'),
  d('empty data', 'chunk.content-lengths'),
  d('another chunk type', 'chunk.known-types'),
  d('goes on after done', 'chunk.done-last'),
  d('another chunk flag', 'chunk.known-flags'),
  d('NONE with payload', 'chunk.none'),
  { bends: ['success in chunks'], red: [] },
  d('simple errors', 'chunk.errors-preferred'),
  d('simple errors to reads', 'chunk.read'),
  d('error message overruns', 'chunk.error'),
  d('data behind errors', 'simple.error-without-data'),
  d('compact status', 'extended.status'),
  d('ignores REQ_ONE', 'status.req-one', 'extended.status-req-one', 'extended.status-selected'),
  d(
    'beyond the end',
    'status.inside-export',
    'status.zero-reads-zero',
    'status.req-one',
    'extended.status-req-one',
    'extended.status-selected',
  ),
  d('ignores selections', 'extended.status-subset'),
  d('one context less', 'status.several-contexts'),
  d('another context id', 'status.one-chunk-each', 'status.several-contexts'),
  d('wrong count', 'extended.status-count'),
  d('high status bits', 'extended.status-32-bits'),
  d('bytes behind extents', 'status.format', 'extended.status'),
  d('says zero of all', 'status.written-not-zero'),
  d('reserved status bits', 'status.reserved-bits'),
  d('neighbours alike', 'status.neighbours-differ'),
  d('empty extent', 'status.lengths'),
  d('too many extents', 'status.sum', 'status.inside-export'),
  d('simple replies with extended', 'extended.replies'),
  d('offsets are not echoed', 'extended.offset'),
  d('offsets are signed', 'extended.offset'),
];

function d(bend: string, ...red: string[]): Deviation {
  return { bends: [bend], red };
}

async function run({ bends, readOnly }: Partial<Deviation>, options: Partial<SuiteOptions> = {}) {
  const server = await BentServer.start(bends, { readOnly });
  try {
    return await conformance(`nbd://127.0.0.1:${server.port}/disk`, { timeoutMs: TIMEOUT_MS, ...options });
  } finally {
    await server.stop();
  }
}

test('a server that follows the protocol passes every rule', async () => {
  for (const readOnly of [false, true]) {
    const outcomes = await run({ readOnly });
    assert.equal(failures(outcomes), '');
    assert.equal(outcomes.length, RULES.length);
  }
});

test('each deviation makes exactly the rules fail that speak of it', async () => {
  const wrong: string[] = [];
  const waiting = [...DEVIATIONS];
  const worker = async (): Promise<void> => {
    for (let deviation = waiting.shift(); deviation !== undefined; deviation = waiting.shift()) {
      const outcomes = await run(deviation);
      const failed = idsOf(outcomes, 'failed').sort();
      const wanted = [...deviation.red].sort();
      if (failed.join() !== wanted.join()) {
        wrong.push(`${deviation.bends.join(' and ')}: wanted ${wanted.join(', ') || 'nothing'}; failed:\n${failures(outcomes)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  assert.equal(wrong.join('\n'), '');
});

test('a server that dies under a rule fails it, in words; it is waited for, and later rules run', async () => {
  const outcomes = await run({ bends: ['dies of fast zero'] });
  const killed = outcomes.find(({ rule }) => rule.id === 'zeroes.fast')!;
  assert.match(killed.reason ?? '', /^expected WRITE_ZEROES to be answered; .* then the server was gone: nobody answers at nbd:\/\/127/);
  assert.deepEqual(idsOf(outcomes, 'not-run'), []);
});

test('a server that does not come back leaves the rules after that not run', async () => {
  const server = await BentServer.start(['dies of fast zero']);
  const rules = RULES.filter(({ id }) => id.startsWith('zeroes.'));
  const die = server.die.bind(server);
  server.die = () => die(null);
  const outcomes = await conformance(`nbd://127.0.0.1:${server.port}/disk`, { restartMs: 100 }, rules);
  await server.stop();
  assert.deepEqual(idsOf(outcomes, 'failed'), ['zeroes.fast']);
  const after = outcomes.slice(outcomes.findIndex(({ rule }) => rule.id === 'zeroes.fast') + 1);
  assert(
    after.length > 0 && after.every(({ status, reason }) => status === 'not-run' && reason === 'the server is gone since zeroes.fast'),
  );
});

test('where nothing can be checked the reason is said', async () => {
  const cannot = (uri: string, why: RegExp) =>
    assert.rejects(conformance(uri, { timeoutMs: TIMEOUT_MS }), (error) => error instanceof CannotTest && why.test(error.message));
  const server = await BentServer.start();
  await cannot(`nbd://127.0.0.1:${server.port}/other`, /its export cannot be entered: .*ERR_UNKNOWN/);
  const { port } = server;
  await server.stop();
  await cannot(`nbd://127.0.0.1:${port}/disk`, /cannot be tested: .*ECONNREFUSED/);
});

test('ids of rules are unique and well-formed; each says a sentence', () => {
  assert.equal(new Set(RULES.map(({ id }) => id)).size, RULES.length);
  assert(RULES.length >= 200);
  for (const { id, says, section } of RULES) {
    assert.match(id, /^[a-z-]+\.[a-z0-9.-]+$/);
    assert.match(says, /^[A-Z].*\.$/, id);
    assert.notEqual(section, '');
  }
  for (const { red } of DEVIATIONS)
    for (const id of red)
      assert(
        RULES.some((rule) => rule.id === id),
        id,
      );
});

test('rules are chosen by a part of their id, or by a pattern', () => {
  const chosen = (pattern: string) => RULES.filter(matching(pattern)).map(({ id }) => id);
  assert.deepEqual(chosen('abort.'), ['abort.ack', 'abort.with-data', 'abort.not-waiting']);
  assert.deepEqual(chosen('disc*'), ['disc.closes', 'disc.outstanding', 'disc.dropped']);
  assert.deepEqual(chosen('*.4gib'), ['read.4gib']);
});

test('of several exports a rule counts where it failed, else where it passed; every form of the scorecard has the same counts', async () => {
  const uri = 'nbd://x';
  const [first, second] = RULES;
  const as = (rule: typeof first, status: 'passed' | 'failed' | 'not-applicable', reason: string | null = null) => {
    return { rule, status, reason, bytes: status === 'failed' ? '00ff' : null, ms: 1, uri };
  };
  const outcomes = combined(
    [first, second],
    [
      [as(first, 'passed'), as(second, 'not-applicable', 'x')],
      [as(first, 'failed', 'expected | this; \u001b[2Jthat'), as(second, 'passed')],
    ],
  );
  assert.deepEqual(count(outcomes), { passed: 1, failed: 1, notApplicable: 0, notRun: 0 });
  assert.match(
    asText(outcomes, false),
    /FAILED handshake\.greeting \(must\)\n.*\n {4}expected \| this; {2}\[2Jthat\n {4}last bytes: 00ff\n/,
  );
  assert.match(asText(outcomes, false), /1 passed, 1 failed \(1 must, 0 should\), 0 not applicable, 0 not run\n$/);
  assert.match(asMarkdown(outcomes), /\| \*\*all\*\* \| 1 \| 1 \| 0 \| 0 \|\n/);
  assert.match(asMarkdown(outcomes), /\| `handshake\.greeting` \| must \| expected \\\| this;/);
  const json = asJson(outcomes, [uri], '1.0.0');
  assert.deepEqual([json.schema, json.counts.must.failed, json.rules[0].status, json.rules[1].reason], [1, 1, 'failed', null]);
});

class Collected extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('utf8');
    done();
  }
}

async function command(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [stdout, stderr] = [new Collected(), new Collected()];
  const startGateway = () => Promise.reject(new Error('not in this test'));
  const code = await runProgram(['nbd-conformance', ...args], { stdout, stderr, env: {}, startGateway });
  return { code, out: stdout.text, err: stderr.text };
}

test('the command says by its exit code whether all passed, some failed, or nothing could be checked', async () => {
  const server = await BentServer.start(['abort without ack']);
  const uri = `nbd://127.0.0.1:${server.port}/disk`;
  try {
    const good = await command('--only', 'list.*', uri);
    assert.deepEqual([good.code, good.out.split('\n').at(-2)], [0, '6 passed, 0 failed, 0 not applicable, 0 not run']);
    assert.match(good.err, /^Only rules that change nothing are checked on nbd:/);
    const bad = await command('--only', 'abort.*', '--json', '--write', uri, uri);
    assert.equal(bad.code, 1);
    assert.deepEqual(JSON.parse(bad.out).counts.all, { passed: 1, failed: 2, notApplicable: 0, notRun: 0 });
    assert.equal((await command('--only', 'abort.*', '--markdown', uri)).out.match(/^\| `abort/gm)?.length, 2);
  } finally {
    await server.stop();
  }
  const gone = await command('--timeout', '2', uri);
  assert.equal(gone.code, 2);
  assert.match(gone.err, /cannot be tested: .*ECONNREFUSED/);
  assert.deepEqual([(await command('ftp://x')).code, (await command()).code, (await command('--only', 'nothing', uri)).code], [2, 2, 2]);
});

test('the rules are listed without a server', async () => {
  const { code, out } = await command('--list');
  assert.equal(code, 0);
  assert.match(out, /^ {2}abort\.ack \(must; Option types\)\n {4}ABORT is answered with ACK\.$/m);
  assert.equal(JSON.parse((await command('--list', '--json')).out).rules.length, RULES.length);
});

test.run();
