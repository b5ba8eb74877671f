// `forestall serve`: starts the gateway, says where to attach and where to look, reloads at SIGHUP, ends at SIGTERM.
import { plural } from '../../config/plural.js';
import type { GatewayOptions, RunningGateway } from '../gateway.js';
import { CliError, describeError, EXIT, type ExitCode } from './cli-error.js';
import { untilSignal } from './lifetime.js';
import type { Output } from './output.js';
import { defaultConfigFile } from './package.js';
import { createLog, type ProcessLog } from './process-log.js';
import { list } from './table.js';

/** gateway/gateway.ts's `startGateway`. */
export type StartGateway = (options: GatewayOptions) => Promise<RunningGateway>;

function hostPort({ host, port }: { host: string; port: number }): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

function welcome({ nbd, unix, tls, api, volumes }: RunningGateway['addresses']): string {
  const url = `http://${hostPort(api)}`;
  const scheme = tls === 'required' ? 'nbds' : 'nbd';
  const attach = volumes
    .slice(0, 10)
    .map((name, i) => [i === 0 ? 'attach' : '', `${scheme}://${hostPort(nbd)}/${encodeURIComponent(name)}`] as const);
  const more = volumes.length > 10 ? ([['', `and ${volumes.length - 10} more: forestall volumes`]] as const) : [];
  const socket = unix === null ? [] : ([['socket', `${scheme}+unix:///VOLUME?socket=${unix}`]] as const);
  return `Forestall serves ${plural(volumes.length, 'volume')}.\n${list([
    ...attach,
    ...more,
    ...socket,
    ['look', `npx forestall volumes${url === 'http://127.0.0.1:8080' ? '' : ` --api ${url}`}`],
    ['API', `${url}/openapi.json`],
    ['metrics', `${url}/metrics`],
  ])}`;
}

async function reloadAndTell(gateway: RunningGateway, log: ProcessLog): Promise<void> {
  const outcome = await gateway.reload();
  if (outcome.ok) {
    log.info(
      { changes: outcome.value.changes },
      outcome.value.changes.length === 0 ? 'Configuration read again: nothing changed.' : 'Configuration taken up.',
    );
  } else {
    log.error({ code: outcome.code, details: outcome.details }, outcome.message);
  }
}

export interface ServeOptions {
  config?: string;
  adopt?: boolean;
}

export async function serve(start: StartGateway, output: Output, { config, adopt }: ServeOptions): Promise<ExitCode> {
  const log = createLog(output.stderr);
  let gateway: RunningGateway;
  try {
    gateway = await start({ configFile: config ?? defaultConfigFile(), log, adopt });
  } catch (error) {
    throw new CliError(EXIT.REFUSED, describeError(error));
  }
  // First: whoever reads the welcome may send a signal at once.
  const ended = untilSignal({ close: () => gateway.close(), reload: () => reloadAndTell(gateway, log) });
  output.result(gateway.addresses, () => welcome(gateway.addresses));
  return await ended;
}
