// `forestall node`: a storage-node agent on one directory, until a signal ends it.
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
}

export async function runNode(output: Output, { apiHost, ...options }: NodeOptions): Promise<ExitCode> {
  const api = apiHost ?? options.host;
  const agent = await startAgent({ ...options, apiHost: api, log: createLog(output.stderr), clock: new SystemClock() }).catch((error) => {
    throw new CliError(EXIT.REFUSED, describeError(error));
  });
  const serving = {
    dir: options.dir,
    nbd: { host: options.host, port: agent.nbdPort },
    api: { host: api, port: agent.apiPort },
    incarnation: agent.incarnation,
  };
  // First: whoever reads the answer may send a signal at once.
  const ended = untilSignal({ close: () => agent.close() });
  output.result(
    serving,
    () =>
      `Storage node serves ${options.dir}.\n${list([
        ['NBD', `nbd://${options.host}:${agent.nbdPort}`],
        ['agent', `http://${api}:${agent.apiPort}`],
        ['use it', `- { id: NAME, agent: "http://${api}:${agent.apiPort}" }   # under nodes: of the gateway's configuration`],
      ])}`,
  );
  return await ended;
}
