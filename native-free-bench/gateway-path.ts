// The path through Forestall: the command line's `serve` with a configuration of one plain node and one volume, as a user
// would write it. Ready when its API says that the volumes are served.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Outcome } from '../gateway/control.js';
import type { Endpoint } from './load-connection.js';
import { modulePath } from './module-path.js';
import type { Part, Parts } from './part.js';
import { freePort, isOk } from './probe.js';

const VOLUME = 'bench';

export interface GatewaySetup {
  node: Endpoint;
  sizeBytes: number;
  /** An existing directory for its configuration and data; removed by the caller. */
  directory: string;
}

export async function openGateway(parts: Parts, setup: GatewaySetup): Promise<Outcome<{ part: Part; endpoint: Endpoint }>> {
  const nbdPort = await freePort();
  const apiPort = await freePort();
  const directory = join(setup.directory, `gateway-${nbdPort}`);
  mkdirSync(directory);
  const file = join(directory, 'gateway.yaml');
  writeFileSync(file, configuration(setup, nbdPort, apiPort, join(directory, 'data')));
  const started = await parts.start({
    name: 'gateway',
    run: { program: process.execPath },
    args: [...process.execArgv, modulePath('../gateway/main'), 'serve', '--config', file],
    isReady: () => isOk(`http://127.0.0.1:${apiPort}/readyz`),
  });
  if (!started.ok) return started;
  return { ok: true, value: { part: started.value.part, endpoint: { host: '127.0.0.1', port: nbdPort, exportName: VOLUME } } };
}

/** JSON is YAML too. */
function configuration({ node, sizeBytes }: GatewaySetup, nbdPort: number, apiPort: number, data: string): string {
  const sizeMiB = `${sizeBytes / 1024 ** 2}MiB`;
  const config = {
    server: { nbd: { host: '127.0.0.1', port: nbdPort }, api: { host: '127.0.0.1', port: apiPort }, data },
    nodes: [{ id: 'node', nbd: `nbd://${node.host}:${node.port}/${node.exportName}`, zone: 'bench', site: 'bench', capacity: sizeMiB }],
    volumes: [{ name: VOLUME, size: sizeMiB, node: 'node', export: node.exportName, policy: 'default' }],
    policies: { default: { mirror: { standing: 0, onPrediction: 0 } } },
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
