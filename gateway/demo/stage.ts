// Where a run of the demo takes place: a temporary directory, storage nodes and a gateway, each a process of its own on
// ports that the system chose. Whatever happens, the processes are ended and the directory is removed.
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ApiClient } from '../cli/api-client.js';
import { ChildProgram } from './child-program.js';
import { VOLUME } from './pace.js';
import { HEALTHY, writeSmartFile } from './smart-file.js';

export interface StageNode {
  id: string;
  directory: string;
  nbdPort: number;
  apiPort: number;
  program: ChildProgram;
}

export interface StageGateway {
  api: ApiClient;
  nbd: { host: string; port: number };
  pid: number | undefined;
}

interface NodeAnswer {
  nbd: { port: number };
  api: { port: number };
}

interface GatewayAnswer {
  nbd: { host: string; port: number };
  api: { port: number };
}

export class Stage {
  readonly nodes = new Map<string, StageNode>();
  readonly #directory: string;
  readonly #programs: ChildProgram[] = [];
  readonly #lastResort = () => this.#endNow();
  #gateway: StageGateway | null = null;

  private constructor(directory: string) {
    this.#directory = directory;
    process.on('exit', this.#lastResort);
  }

  static async open(): Promise<Stage> {
    return new Stage(await mkdtemp(join(tmpdir(), 'forestall-demo-')));
  }

  get gateway(): StageGateway {
    if (this.#gateway === null) throw new Error('the gateway was not started');
    return this.#gateway;
  }

  node(id: string): StageNode {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  }

  /** Starts a storage node with one healthy disk, or starts it again where it was. */
  async startNode(id: string): Promise<void> {
    const before = this.nodes.get(id);
    const directory = join(this.#directory, `node-${id}`);
    if (before === undefined) {
      await mkdir(directory);
      await writeSmartFile(directory, HEALTHY);
    }
    const ports = ['--port', String(before?.nbdPort ?? 0), '--api-port', String(before?.apiPort ?? 0)];
    const program = this.#start(`node ${id}`, ['node', '--dir', directory, ...ports]);
    const { nbd, api } = await program.answer<NodeAnswer>();
    this.nodes.set(id, { id, directory, nbdPort: nbd.port, apiPort: api.port, program });
  }

  /** Starts the gateway on the nodes there are, with the volume on node a. `policy` is the default policy. */
  async startGateway(sizeBytes: number, policy: object): Promise<void> {
    const nodes = [...this.nodes.values()].map(({ id, apiPort }) => {
      const agent = `http://127.0.0.1:${apiPort}`;
      const health = [{ type: 'smartctl_exporter', url: `${agent}/metrics`, every: '1s' }];
      return { id, agent, zone: `rack-${id}`, site: 'dc-1', health };
    });
    const config = {
      server: { nbd: { port: 0 }, api: { port: 0 }, data: join(this.#directory, 'gateway') },
      nodes,
      volumes: [{ name: VOLUME, size: sizeBytes, node: 'a', labels: { program: 'demo' } }],
      policies: { default: policy },
    };
    const file = join(this.#directory, 'gateway.yaml');
    await writeFile(file, stringify(config));
    const program = this.#start('the gateway', ['serve', '--config', file]);
    const { nbd, api } = await program.answer<GatewayAnswer>();
    this.#gateway = { api: new ApiClient(`http://127.0.0.1:${api.port}`), nbd, pid: program.pid };
  }

  async close(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()));
    this.#endNow();
    process.off('exit', this.#lastResort);
  }

  #start(name: string, args: string[]): ChildProgram {
    const program = new ChildProgram(name, args);
    this.#programs.push(program);
    return program;
  }

  #endNow(): void {
    for (const program of this.#programs) program.killNow();
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 3 });
  }
}
