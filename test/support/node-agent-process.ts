// A storage node that is `forestall node` in a process of its own: killed without a warning, started again on the same ports.
import { startForestall } from './forestall-program.js';
import { freePort } from './peers.js';
import type { Site } from './site.js';
import type { StartedProgram } from './started-program.js';

export class NodeAgentProcess {
  readonly directory: string;
  readonly port: number;
  readonly apiPort: number;
  readonly #site: Site;
  readonly #options: string[];
  #program: StartedProgram | null = null;

  private constructor(site: Site, name: string, ports: [number, number], options: string[]) {
    this.#site = site;
    this.#options = options;
    this.directory = site.path(name);
    [this.port, this.apiPort] = ports;
  }

  /** `options`: further ones of `forestall node`. */
  static async start(site: Site, name: string, options: string[] = []): Promise<NodeAgentProcess> {
    const agent = new NodeAgentProcess(site, name, [await freePort(), await freePort()], options);
    await agent.start();
    return agent;
  }

  /** Its address, as `nodes[].agent` of the configuration names it. */
  get url(): string {
    return `http://127.0.0.1:${this.apiPort}`;
  }

  /** Where clients attach one of its exports. */
  uri(exportName: string): string {
    return `nbd://127.0.0.1:${this.port}/${encodeURIComponent(exportName)}`;
  }

  get program(): StartedProgram {
    if (this.#program === null) throw new Error('the agent is not running');
    return this.#program;
  }

  async start(): Promise<void> {
    const args = [
      'node',
      '--dir',
      this.directory,
      '--port',
      String(this.port),
      '--api-port',
      String(this.apiPort),
      '--json',
      ...this.#options,
    ];
    this.#program = startForestall(this.#site, args);
    await this.#program.until(({ stdout }) => stdout.trimEnd().endsWith('}'));
  }

  async kill(): Promise<void> {
    await this.program.kill();
  }
}
