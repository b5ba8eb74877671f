// A TCP relay between gateway and node that the test can cut: the gateway's side is gone at once, while the node goes on with
// what it has received, its connection still open. New connections go through. It can also stall, slow everything down, and change what the
// node says.
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Site } from './site.js';

export class CuttingRelay {
  readonly #server: Server;
  readonly #sides = new Set<{ host: Socket; node: Socket }>();
  #port = 0;
  #stalled = false;
  /** What passes takes this much longer, each way. */
  delayMs = 0;
  /** What becomes of a chunk that the node sent. */
  garble: (chunk: Buffer) => Buffer = (chunk) => chunk;

  private constructor(nodePort: number) {
    this.#server = createServer((host) => {
      const node = connect({ host: '127.0.0.1', port: nodePort });
      const side = { host, node };
      this.#sides.add(side);
      for (const socket of [host, node]) {
        socket.setNoDelay(true);
        socket.on('error', () => {});
      }
      host.on('data', (chunk: Buffer) => this.#pass(chunk, node));
      node.on('data', (chunk: Buffer) => this.#pass(this.garble(chunk), host));
      if (this.#stalled) for (const socket of [host, node]) socket.pause();
      host.on('end', () => node.end());
      node.on('close', () => {
        host.destroy();
        this.#sides.delete(side);
      });
    });
  }

  static async start(site: Site, nodePort: number): Promise<CuttingRelay> {
    const relay = new CuttingRelay(nodePort);
    await new Promise<void>((resolve) => relay.#server.listen(0, '127.0.0.1', resolve));
    const address = relay.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the relay has no port');
    relay.#port = address.port;
    site.onClose(() => relay.#close());
    return relay;
  }

  get uri(): string {
    return `nbd://127.0.0.1:${this.#port}`;
  }

  /** Cuts the connections there are. The node is not told. */
  cut(): void {
    for (const { host } of this.#sides) host.resetAndDestroy();
  }

  /** Nothing passes until `resume`; connections stay as they are. */
  stall(): void {
    this.#stalled = true;
    for (const { host, node } of this.#sides) for (const socket of [host, node]) socket.pause();
  }

  resume(): void {
    this.#stalled = false;
    for (const { host, node } of this.#sides) for (const socket of [host, node]) socket.resume();
  }

  #pass(chunk: Buffer, to: Socket): void {
    const send = (): void => {
      if (to.writable) to.write(chunk);
    };
    if (this.delayMs === 0) send();
    else setTimeout(send, this.delayMs);
  }

  async #close(): Promise<void> {
    for (const { host, node } of this.#sides) {
      host.destroy();
      node.destroy();
    }
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
