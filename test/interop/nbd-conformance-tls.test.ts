// The conformance suite against our server with TLS: offered and required, with certificates and with pre-shared keys, in plaintext
// as far as that goes and through TLS.
// deadline: 400s
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { suite } from 'uvu';
import { type ServerTls, serverTlsOff } from '../../config/tls.js';
import { RULES } from '../../gateway/conformance/rules.js';
import { combined, type Outcome } from '../../gateway/conformance/suite.js';
import { CannotTest } from '../../gateway/conformance/survey.js';
import { loadServerCredentials } from '../../gateway/tls/server-credentials.js';
import { conformance, failures, idsOf } from '../support/conformance-run.js';
import { MemoryDevice } from '../support/memory-device.js';
import { memoryExport } from '../support/memory-exports.js';
import { NbdTestbed } from '../support/nbd-testbed.js';
import { type Site, siteTest } from '../support/site.js';
import { TestAuthority } from '../support/test-authority.js';

const test = suite('nbd conformance over TLS');

/** Of servers that do no TLS at all. */
const WITHOUT_TLS = ['tls.none-refuses', 'tls.none-requires'];

/** Our server with one export, and the queries of URIs for it. */
async function served(site: Site, wishes: Partial<ServerTls>) {
  const authority = new TestAuthority(site.path('ca'));
  const server = authority.issue({ commonName: 'localhost', names: ['DNS:localhost', 'IP:127.0.0.1'] });
  const psk = site.path('keys.psk');
  await writeFile(psk, `alice:${'5a'.repeat(32)}\n`, { mode: 0o600 });
  const files = { certificate: server.certificate, key: server.key, authority: authority.certificate, psk };
  const loaded = await loadServerCredentials({ ...serverTlsOff, ...files, ...wishes }, Date.now());
  assert(loaded.ok, loaded.ok ? '' : loaded.message);
  const device = new MemoryDevice(2 * 1024 * 1024, { completion: 'later' });
  const bed = await NbdTestbed.start([memoryExport('disk', device)], { tls: loaded.value.served });
  site.onClose(() => bed.stop());
  const at = `127.0.0.1:${bed.port}/disk`;
  return {
    plain: `nbd://${at}`,
    certificates: `nbds://${at}?tls-certificates=${authority.directoryFor('client', {})}`,
    key: `nbds://alice@${at}?tls-psk-file=${psk}`,
  };
}

siteTest(test, [], 'our server that offers TLS passes every rule, in plaintext, with certificates and with keys', async (site) => {
  const uris = await served(site, { mode: 'optional' });
  const runs: Outcome[][] = [];
  for (const uri of [uris.plain, uris.certificates, uris.key]) {
    runs.push(await conformance(uri));
    assert.equal(failures(runs.at(-1)!), '', uri);
  }
  const without = idsOf(combined(RULES, runs), 'not-applicable').filter((id) => id.startsWith('tls.'));
  assert.deepEqual(without.sort(), [...WITHOUT_TLS, 'tls.required-others', 'tls.required-abort', 'tls.required-export-name'].sort());
});

siteTest(test, [], 'our server that requires TLS passes every rule', async (site) => {
  const uris = await served(site, { mode: 'required' });
  const outcomes = await conformance(uris.certificates);
  assert.equal(failures(outcomes), '');
  const without = idsOf(outcomes, 'not-applicable').filter((id) => id.startsWith('tls.'));
  assert.deepEqual(without.sort(), [...WITHOUT_TLS, 'tls.forgets-contexts', 'tls.forgets-extended', 'tls.forgets-structured'].sort());
  const plain = conformance(uris.plain);
  await assert.rejects(plain, (error) => error instanceof CannotTest && /it requires TLS: write nbds/.test(error.message));
});

test.run();
