// The exposition parser on texts of real exporters' form, on every kind of damage with its line, and on random bytes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { suite } from 'uvu';
import { parsePrometheusText, PrometheusTextParser } from '../../pfa/prometheus-text.js';

const test = suite('pfa prometheus text');
const golden = (name: string): string => readFileSync(new URL(`../data/pfa/${name}`, import.meta.url), 'utf8');

function families(text: string) {
  const result = parsePrometheusText(text);
  assert.ok(result.ok, result.ok ? '' : `line ${result.line}: ${result.message}`);
  return result.families;
}

test('names, labels, values and timestamps are read as they are written', () => {
  const text = 'http_requests_total{method="post",code="200",} 1027 1395066363000\nup 1\n  spaced { a = "b" , } \t-3.5e-2\n';
  const read = families(text);
  const sample = { name: 'http_requests_total', labels: { method: 'post', code: '200' }, value: 1027, timestampMs: 1395066363000 };
  assert.deepEqual(read.get('http_requests_total')?.samples, [sample]);
  assert.deepEqual(read.get('up')?.samples, [{ name: 'up', labels: {}, value: 1, timestampMs: null }]);
  assert.deepEqual(read.get('spaced')?.samples, [{ name: 'spaced', labels: { a: 'b' }, value: -0.035, timestampMs: null }]);
});

test('escapes in label values and help are undone', () => {
  const read = families('# HELP m a \\\\ b\\nc\n# TYPE m gauge\nm{path="C:\\\\DIR\\\\F.TXT",error="no\\n\\"x\\"",odd="}{,="} 1\n');
  assert.equal(read.get('m')?.help, 'a \\ b\nc');
  assert.deepEqual(read.get('m')?.samples[0].labels, { path: 'C:\\DIR\\F.TXT', error: 'no\n"x"', odd: '}{,=' });
});

test('NaN and infinities are values', () => {
  const samples = families('a NaN\nb +Inf\nc -Inf\nd Inf\ne 1e400\n');
  const values = [...samples.values()].map((family) => family.samples[0].value);
  assert.deepEqual(values, [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    Number.POSITIVE_INFINITY,
  ]);
});

test('the samples of a histogram and a summary belong to their family, those of a counter that only looks alike do not', () => {
  const read = families(
    '# TYPE h histogram\nh_bucket{le="1"} 3\nh_bucket{le="+Inf"} 5\nh_sum 7\nh_count 5\n# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 2\ns_count 2\n' +
      '# TYPE g gauge\ng 1\ng_count 2\n',
  );
  assert.equal(read.get('h')?.samples.length, 4);
  assert.equal(read.get('s')?.samples.length, 3);
  assert.equal(read.get('g_count')?.samples[0].value, 2);
  assert.equal(read.get('g')?.type, 'gauge');
});

test('empty lines, plain comments and carriage returns are allowed', () => {
  assert.equal(families('\n# just a comment\n#HELP no keyword\r\nup 1\r\n\n').get('up')?.samples.length, 1);
});

for (const [what, text, line, message] of [
  ['a body that was cut short', 'a 1\nb 12', 2, /cut short/],
  ['a value that is no number', 'a 1\nb twelve\n', 2, /"twelve" is no number/],
  ['a hexadecimal number', 'a 0x10\n', 1, /no number/],
  ['a missing value', 'a{b="c"}\n', 1, /no value/],
  ['a name that starts with a digit', '9a 1\n', 1, /expected a metric name, found "9"/],
  ['a name with a dash', 'a-b 1\n', 1, /unexpected "-"/],
  ['an open label', 'a{b="c 1\n', 1, /no closing quote/],
  ['a label without quotes', 'a{b=c} 1\n', 1, /expected a quote before the value of label b/],
  ['a label given twice', 'a{b="1",b="2"} 1\n', 1, /label b is given twice/],
  ['labels without a comma', 'a{b="1" c="2"} 1\n', 1, /expected "," or "}"/],
  ['an unknown escape', 'a{b="\\t"} 1\n', 1, /no escape/],
  ['a fraction as timestamp', 'a 1 1.5\n', 1, /no timestamp/],
  ['text after the timestamp', 'a 1 2 3\n', 1, /after the timestamp/],
  ['an unknown type', '# TYPE a counting\n', 1, /no type/],
  ['a second type', '# TYPE a counter\n# TYPE a gauge\n', 2, /second TYPE of a/],
  ['a type after its samples', 'a 1\n# TYPE a gauge\n', 2, /after its samples/],
  ['a second help', '# HELP a b\n# HELP a c\n', 2, /second HELP/],
  ['an HTML page', '<!DOCTYPE html>\n<html></html>\n', 1, /expected a metric name, found "<"/],
] as const) {
  test(`${what} is refused with its line`, () => {
    const result = parsePrometheusText(text);
    assert.ok(!result.ok);
    assert.equal(result.line, line);
    assert.match(result.message, message);
  });
}

test('bytes, line length, samples and labels are bounded', () => {
  const long = parsePrometheusText(`a ${'1'.repeat(100)}\n`, { lineBytesMax: 50 });
  assert.ok(!long.ok && /longer than 50/.test(long.message));
  const big = parsePrometheusText('a 1\n'.repeat(100), { bytesMax: 100 });
  assert.ok(!big.ok && /longer than 100/.test(big.message));
  const many = parsePrometheusText('a 1\n'.repeat(4), { samplesMax: 3 });
  assert.ok(!many.ok && many.line === 4 && /more than 3 samples/.test(many.message));
  const labels = parsePrometheusText('a{b="1",c="2"} 1\n', { labelsMax: 1 });
  assert.ok(!labels.ok && /more than 1 labels/.test(labels.message));
  const endless = new PrometheusTextParser({ lineBytesMax: 1000 });
  let pushes = 0;
  while (endless.push('x'.repeat(100))) assert.ok(++pushes <= 11, 'a line without an end must be given up');
});

test('families that are not wanted are checked but not kept', () => {
  const result = parsePrometheusText('a 1\nb 2\n', { wanted: (name) => name === 'b' });
  assert.ok(result.ok);
  assert.deepEqual([...result.families.keys()], ['b']);
  assert.ok(!parsePrometheusText('a one\nb 2\n', { wanted: (name) => name === 'b' }).ok);
});

test('a text cut anywhere into two chunks gives the same', () => {
  const text = golden('smartctl-exporter.prom')
    .slice(0, 3000)
    .replace(/[^\n]*$/, '');
  const whole = families(text);
  for (let at = 0; at <= text.length; at += 7) {
    const parser = new PrometheusTextParser();
    parser.push(text.slice(0, at));
    parser.push(text.slice(at));
    assert.deepEqual(parser.end(), { ok: true, families: whole });
  }
});

test('whole exporter pages are read', () => {
  assert.equal(families(golden('smartctl-exporter.prom')).get('smartctl_device')?.samples.length, 3);
  const node = families(golden('node-exporter.prom'));
  assert.equal(node.get('node_hwmon_temp_celsius')?.type, 'gauge');
  assert.equal(node.get('node_netstat_Tcp_OutSegs')?.samples[0].value, 91234567);
});

test('random text never throws, and what is written is read back', () => {
  const soup = fc.string({ unit: fc.constantFrom(...'abc_:019{}="\\,. #\n\t\r+-eENaInfTYPEHL'), maxLength: 200 });
  fc.assert(
    fc.property(soup, (text) => typeof parsePrometheusText(text).ok === 'boolean'),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (text) => typeof parsePrometheusText(text).ok === 'boolean'));
  const labels = fc.dictionary(fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,8}$/), fc.string({ unit: 'grapheme', maxLength: 20 }), {
    maxKeys: 5,
  });
  fc.assert(
    fc.property(labels, fc.double({ noNaN: true, noDefaultInfinity: true }), (given, value) => {
      const escaped = Object.entries(given).map(
        ([key, text]) => `${key}="${text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"')}"`,
      );
      const read = families(`m{${escaped.join(',')}} ${value}\n`).get('m')?.samples[0];
      assert.deepEqual(Object.entries(read?.labels ?? {}).sort(), Object.entries(given).sort());
      assert.equal(read?.value, value + 0, 'minus zero is written as 0');
    }),
  );
});

test.run();
