// `forestall node`: a storage-node agent on one directory, until a signal ends it; with TLS, SIGHUP has it read certificates
// and keys again.
import { type ServerTls, serverTlsOff } from '../../config/tls.js';
import { startAgent } from '../agent/agent.js';
import { SystemClock } from '../clock.js';
import { CliError, describeError, EXIT, type ExitCode } from './cli-error.js';
import { untilSignal } from './lifetime.js';
import type { Output } from './output.js';
import { createLog } from './process-log.js';
import { list } from './table.js';

export interface NodeOptions {
  dir: string;
  host: string;
  port: number;
  apiHost?: string;
  apiPort: number;
  tlsCertificate?: string;
  tlsKey?: string;
  tlsClientAuthority?: string;
  tlsPsk?: string;
}

export async function runNode(output: Output, { apiHost, ...options }: NodeOptions): Promise<ExitCode> {
  const api = apiHost ?? options.host;
  const { dir, host, port, apiPort } = options;
  const tls = tlsOf(options);
  const log = createLog(output.stderr);
  const agent = await startAgent({ dir, host, port, apiHost: api, apiPort, log, clock: new SystemClock(), tls }).catch((error) => {
    throw new CliError(EXIT.REFUSED, describeError(error));
  });
  const serving = {
    dir: options.dir,
    nbd: { host: options.host, port: agent.nbdPort },
    api: { host: api, port: agent.apiPort },
    incarnation: agent.incarnation,
  };
  const reload = async (): Promise<void> => {
    const reloaded = await agent.reloadTls();
    if (reloaded.ok) log.info({}, 'certificates and keys were read again');
    else log.error({ reason: reloaded.message }, 'certificates and keys stay as they were');
  };
  // First: whoever reads the answer may send a signal at once.
  const ended = untilSignal({ close: () => agent.close(), reload: tls.mode === 'off' ? undefined : reload });
  output.result(
    serving,
    () =>
      `Storage node serves ${options.dir}.\n${list([
        ['NBD', `${tls.mode === 'off' ? 'nbd' : 'nbds'}://${options.host}:${agent.nbdPort}`],
        ['agent', `http://${api}:${agent.apiPort}`],
        [
          'use it',
          `- { id: NAME, agent: "http://${api}:${agent.apiPort}"${tls.mode === 'off' ? '' : ', tls: { ... }'} }   # under nodes: of the gateway's configuration`,
        ],
      ])}`,
  );
  return await ended;
}

/** Any of the options makes TLS required: what is not meant to be seen is not served in plain besides. */
function tlsOf({ tlsCertificate, tlsKey, tlsClientAuthority, tlsPsk }: NodeOptions): ServerTls {
  const [certificate = null, key = null, authority = null, psk = null] = [tlsCertificate, tlsKey, tlsClientAuthority, tlsPsk];
  if ((certificate === null) !== (key === null))
    throw new CliError(EXIT.USAGE, '--tls-certificate and --tls-key belong together: give both or none');
  if (authority !== null && certificate === null)
    throw new CliError(EXIT.USAGE, '--tls-client-authority needs --tls-certificate and --tls-key');
  if (certificate === null && psk === null) return serverTlsOff;
  return {
    ...serverTlsOff,
    mode: 'required',
    certificate,
    key,
    authority,
    clientCertificates: authority === null ? 'none' : 'required',
    psk,
  };
}
