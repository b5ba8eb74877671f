// A storage node that is nbdkit: killed without a warning, started again on the same port. What must be there after that is in
// a file: the memory plugin is blank when it is started again, and nbdkit may die without being asked to (see `start`).
import { blankImage } from './blank-image.js';
import { untilListening } from './listening.js';
import { freePort } from './peers.js';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

/** For `onFile`: what was not flushed is in memory alone; killed, the node is one that lost its power. */
export const VOLATILE_CACHE = { filters: ['--filter=cache'], parameters: ['cache=writeback'] };

export class NbdkitNode {
  readonly port: number;
  readonly #site: Site;
  readonly #args: string[];
  #program: StartedProgram | null = null;

  private constructor(site: Site, port: number, args: string[]) {
    this.#site = site;
    this.port = port;
    this.#args = args;
  }

  /** `args`: filters, the plugin and its parameters. */
  static async start(site: Site, args: string[]): Promise<NbdkitNode> {
    const node = new NbdkitNode(site, await freePort(), args);
    await node.start();
    return node;
  }

  /** One that keeps what it was given, in `<name>.img` of the site; blank at first. */
  static async onFile(
    site: Site,
    name: string,
    sizeBytes: number,
    { filters = [], parameters = [] }: { filters?: string[]; parameters?: string[] } = {},
  ): Promise<NbdkitNode> {
    const image = site.path(`${name}.img`);
    await blankImage(image, sizeBytes);
    return NbdkitNode.start(site, [...filters, 'file', image, ...parameters]);
  }

  /** Its address, as `nodes[].nbd` of the configuration names it, and as clients attach its default export. */
  get uri(): string {
    return `nbd://127.0.0.1:${this.port}`;
  }

  get program(): StartedProgram {
    if (this.#program === null) throw new Error('the node is not running');
    return this.#program;
  }

  async start(): Promise<void> {
    const args = ['-f', '--exit-with-parent', '-i', '127.0.0.1', '-p', String(this.port), ...this.#args];
    const program = StartedProgram.start(this.#site, 'nbdkit', args);
    this.#program = program;
    // nbdkit 1.32 may die of an assertion of its own when connections break while it answers: what started it starts it again.
    void program.ended.then(({ signal }) => {
      if (signal === 'SIGABRT' && this.#program === program) void this.start();
    });
    await untilListening(program, this.port);
  }

  async kill(): Promise<void> {
    await this.program.kill();
  }
}
