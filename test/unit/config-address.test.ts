// NBD URIs and HTTP URLs: each form of the NBD URI specification that we speak, and a reason for each that we do not.
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hostProblem, parseHttpUrl, parseNbdUri } from '../../config/address.js';
import { nearest } from '../../config/spelling.js';

const address = suite('addresses');

address('each form of an NBD URI gives its address and export', () => {
  const expected: [string, object][] = [
    ['nbd://127.0.0.1', { address: { host: '127.0.0.1', port: 10809 }, export: '' }],
    ['nbd://127.0.0.1:10911/', { address: { host: '127.0.0.1', port: 10911 }, export: '' }],
    ['NBD://storage-1.example:1/vol0', { address: { host: 'storage-1.example', port: 1 }, export: 'vol0' }],
    ['nbd://[::1]:10811/a/b', { address: { host: '::1', port: 10811 }, export: 'a/b' }],
    ['nbd://[fe80::1]', { address: { host: 'fe80::1', port: 10809 }, export: '' }],
    ['nbd://h/%C3%A4%20%2F', { address: { host: 'h', port: 10809 }, export: 'ä /' }],
    ['nbd+unix:///?socket=/run/nbd.sock', { address: { path: '/run/nbd.sock' }, export: '' }],
    ['nbd+unix:///disk?socket=./var/a%20b', { address: { path: './var/a b' }, export: 'disk' }],
  ];
  for (const [uri, value] of expected) assert.equal(parseNbdUri(uri), { ok: true, value }, uri);
});

address('an NBD URI with TLS says how, in the words of libnbd', () => {
  const none = {
    directory: null,
    authority: null,
    certificate: null,
    key: null,
    psk: null,
    identity: null,
    serverName: null,
    verifyPeer: true,
  };
  const tcp = { host: 'h', port: 10809 };
  const expected: [string, object][] = [
    ['nbds://h/vol0', { address: tcp, export: 'vol0', tls: none }],
    ['NBDS://h:1/?tls-certificates=/etc/pki', { address: { host: 'h', port: 1 }, export: '', tls: { ...none, directory: '/etc/pki' } }],
    [
      'nbds://a%40b@[::1]/?tls-psk-file=k%20s.psk&tls-verify-peer=false',
      { address: { host: '::1', port: 10809 }, export: '', tls: { ...none, identity: 'a@b', psk: 'k s.psk', verifyPeer: false } },
    ],
    ['nbds://h?tls-hostname=node.example', { address: tcp, export: '', tls: { ...none, serverName: 'node.example' } }],
    ['nbds+unix:///d?socket=/x', { address: { path: '/x' }, export: 'd', tls: none }],
    ['nbds+unix://me@/d?tls-psk-file=p&socket=/x', { address: { path: '/x' }, export: 'd', tls: { ...none, psk: 'p', identity: 'me' } }],
  ];
  for (const [uri, value] of expected) assert.equal(parseNbdUri(uri), { ok: true, value }, uri);
  const wrong: [string, RegExp][] = [
    ['nbds://', /names no host/],
    ['nbds://@h', /is no user/],
    ['nbds://%zz@h', /is no user/],
    ['nbds://h?socket=/x', /"socket" has no meaning/],
    ['nbds://h?tls-certs=/x', /"tls-certs" has no meaning .* tls-certificates/],
    ['nbds://h?tls-certificates=', /names no file/],
    ['nbds://h?tls-psk-file=/x%00', /names no file/],
    ['nbds://h?tls-psk-file=/x&tls-psk-file=/y', /twice/],
    ['nbds://h?tls-psk-file=/x&tls-certificates=/y', /one of them/],
    ['nbds://h?tls-hostname=a%20b', /tls-hostname "a b" is no host/],
    ['nbds://h?tls-verify-peer=maybe', /true or false/],
    ['nbds+unix:///', /names no socket: write nbds\+unix/],
    ['nbds+unix://h/?socket=/x', /"h" names a host/],
    ['nbd://h?tls-certificates=/x', /of TLS: write nbds/],
    ['nbd+unix:///?socket=/x&tls-psk-file=/p', /of TLS: write nbds/],
  ];
  for (const [uri, problem] of wrong) {
    const parsed = parseNbdUri(uri);
    assert.is(parsed.ok, false, uri);
    if (!parsed.ok) assert.match(parsed.problem, problem);
  }
});

address('what is no NBD URI is refused', () => {
  const wrong = ['', 'nbd', 'nbd:', '127.0.0.1:10809', 'nbd://', 'nbd://:10809', 'nbd://h:0', 'nbd://h:65536', 'nbd://h:', 'nbd://h:1x'];
  wrong.push('nbd://::1', 'nbd://a b', 'nbd://user@h', 'nbd://h/?x=1', 'nbd+unix:///x', 'nbd+unix://h/?socket=/x');
  wrong.push(
    `nbd+unix:///?socket=/${'x'.repeat(107)}`,
    'nbd+unix:///?socket=%00',
    'nbd+unix:///?socket=%',
    'nbd+vsock://1',
    'http://h',
    'nbd://h/#a',
  );
  for (const uri of wrong) assert.is(parseNbdUri(uri).ok, false, uri);
});

address('a host and port written as a URI come back', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.domain()),
      fc.integer({ min: 1, max: 65_535 }),
      fc.string({ unit: 'binary' }),
      (host, port, name) => {
        assert.equal(parseNbdUri(`nbd://${host}:${port}/${encodeURIComponent(name)}`), {
          ok: true,
          value: { address: { host, port }, export: name },
        });
      },
    ),
  );
});

address('hosts are names and addresses alone', () => {
  for (const host of ['localhost', 'a', 'a-b.c_d', '0.0.0.0', '::', '::1', 'host.']) assert.is(hostProblem(host), undefined, host);
  for (const host of ['', '1.2.3', '256.1.1.1', 'a b', '-a', 'a:1', '[::1]', 'http://a', 'a..b', 'x'.repeat(254)])
    assert.ok(hostProblem(host), host);
});

address('HTTP URLs come out without their last slash', () => {
  assert.equal(parseHttpUrl('http://h:8091/', 'x'), { ok: true, value: 'http://h:8091' });
  assert.equal(parseHttpUrl('https://h/metrics', 'x'), { ok: true, value: 'https://h/metrics' });
  for (const url of ['', 'h:8091', 'ftp://h', 'http:///x', 'http://h:x', 'http://u@h', 'http://h:0'])
    assert.is(parseHttpUrl(url, 'x').ok, false, url);
});

address('a word near a known one is told, a far one is not', () => {
  const keys = ['host', 'port', 'priority', 'deadline', 'zone'];
  const expected: [string, string | undefined][] = [
    ['hsot', 'host'],
    ['Port', 'port'],
    ['prio', 'priority'],
    ['deadlin', 'deadline'],
    ['color', undefined],
    ['', undefined],
    ['po', undefined],
  ];
  for (const [word, meant] of expected) assert.is(nearest(word, keys), meant, word);
});

address.run();
