// Who may do what with a volume: each kind of rule, several at once, and addresses in every dress.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccessRule } from '../../config/config.js';
import { contains, parseNetwork } from '../../config/network.js';
import type { Client } from '../../gateway/nbd/export.js';
import { accessOf } from '../../gateway/service/access.js';
import type { TlsPeer } from '../../gateway/wire.js';

const access = suite('access to volumes');

const anybody: AccessRule = { certificate: null, psk: null, address: null, unix: false, readOnly: false };

function rules(...given: Partial<AccessRule>[]): { readOnly: boolean; access: AccessRule[] } {
  return { readOnly: false, access: given.map((rule) => ({ ...anybody, ...rule })) };
}

function client(peer: string, tls: Partial<TlsPeer> | null = null): Client {
  return { peer, tls: tls === null ? null : { protocol: 'TLSv1.3', cipher: '', identity: null, names: null, flaw: null, ...tls } };
}

const plain = client('10.0.0.7:1234');

access('without rules everyone may all, or read where the volume is read-only', () => {
  assert.is(accessOf({ readOnly: false, access: null }, plain), 'read-write');
  assert.is(accessOf({ readOnly: true, access: null }, plain), 'read-only');
});

access('a rule names a client by each of its keys', () => {
  const named = client('10.0.0.7:1', { names: ['host-1', 'host-1.example'] });
  const keyed = client('10.0.0.7:1', { identity: 'backup' });
  assert.is(accessOf(rules({ certificate: 'host-1.example' }), named), 'read-write');
  assert.is(accessOf(rules({ psk: 'backup' }), keyed), 'read-write');
  assert.is(accessOf(rules({ address: '10.0.0.0/24' }), plain), 'read-write');
  assert.is(accessOf(rules({ unix: true }), client('unix')), 'read-write');
  for (const rule of [{ certificate: 'host-1' }, { psk: 'backup' }, { address: '10.0.1.0/24' }, { unix: true }])
    assert.is(accessOf(rules(rule), plain), 'none', JSON.stringify(rule));
  assert.is(accessOf(rules({ address: '0.0.0.0/0' }, { address: '::/0' }), client('unix')), 'none');
});

access('names and identities are compared whole, and as they are written', () => {
  for (const names of [['HOST-1'], ['host-1.'], ['host-11'], ['*'], [''], ['host-1\0'], [' host-1']])
    assert.is(accessOf(rules({ certificate: 'host-1' }), client('unix', { names })), 'none', JSON.stringify(names));
  for (const identity of ['Backup', 'backup ', 'backup\0', ''])
    assert.is(accessOf(rules({ psk: 'backup' }), client('unix', { identity })), 'none', JSON.stringify(identity));
  // A certificate's name is no key's identity, and the other way round.
  assert.is(accessOf(rules({ psk: 'me' }), client('unix', { names: ['me'] })), 'none');
  assert.is(accessOf(rules({ certificate: 'me' }), client('unix', { identity: 'me' })), 'none');
});

access('all that one rule says must hold', () => {
  const both = rules({ certificate: 'host-1', address: '10.0.0.0/8' });
  assert.is(accessOf(both, client('10.1.2.3:1', { names: ['host-1'] })), 'read-write');
  assert.is(accessOf(both, client('11.1.2.3:1', { names: ['host-1'] })), 'none');
  assert.is(accessOf(both, client('10.1.2.3:1')), 'none');
});

access('of several rules that hold the one that allows most counts, and never more than the volume', () => {
  const several = rules({ address: '10.0.0.0/8', readOnly: true }, { address: '10.0.0.7' }, { address: '10.0.0.0/24', readOnly: true });
  assert.is(accessOf(several, plain), 'read-write');
  assert.is(accessOf(several, client('10.0.0.8:1')), 'read-only');
  assert.is(accessOf({ ...several, readOnly: true }, plain), 'read-only');
  assert.is(accessOf(several, client('192.168.0.1:1')), 'none');
});

access('addresses are the same in every dress, and families are not mixed', () => {
  const inside: [string, string][] = [
    ['10.0.0.0/8', '10.255.255.255:1'],
    ['10.0.0.0/8', '[::ffff:10.0.0.1]:1'],
    ['10.0.0.0/8', '[::ffff:a00:1]:1'],
    ['::ffff:10.0.0.0/104', '10.0.0.1:1'],
    ['10.0.0.7', '10.0.0.7:65535'],
    ['0.0.0.0/0', '1.2.3.4:1'],
    ['fd00::/8', '[fdff::1]:1'],
    ['::1', '[0:0:0:0:0:0:0:1]:1'],
    ['fe80::/10', '[fe80::1%eth0]:1'],
    ['::/0', '[fe80::1]:1'],
    ['10.0.0.6/31', '10.0.0.7:1'],
  ];
  for (const [address, peer] of inside) assert.is(accessOf(rules({ address }), client(peer)), 'read-write', `${address} ${peer}`);
  const outside: [string, string][] = [
    ['10.0.0.0/8', '11.0.0.1:1'],
    ['10.0.0.0/8', '[::a00:1]:1'],
    ['::/0', '10.0.0.1:1'],
    ['::/0', '[::ffff:10.0.0.1]:1'],
    ['0.0.0.0/0', '[::1]:1'],
    ['10.0.0.6/31', '10.0.0.8:1'],
    ['fd00::/8', '[fe00::1]:1'],
    ['10.0.0.0/8', '10.0.0.1'],
    ['10.0.0.0/8', 'unix'],
    ['10.0.0.0/8', ''],
  ];
  for (const [address, peer] of outside) assert.is(accessOf(rules({ address }), client(peer)), 'none', `${address} ${peer}`);
});

access('what is no network is said', () => {
  for (const text of [
    '',
    'host',
    '10.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.1/8',
    '10.0.0.0/8/8',
    '::/129',
    'fe80::1%eth0',
    '::1/64',
    '10.0.0.0/-1',
    '10.0.0.0/0x8',
  ])
    assert.type(parseNetwork(text), 'string', text);
  const all = parseNetwork('0.0.0.0/0');
  assert.ok(typeof all !== 'string' && !contains(all, 'host') && contains(all, '255.255.255.255'));
});

access.run();
