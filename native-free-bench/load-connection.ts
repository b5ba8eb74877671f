// One TCP connection of the load generator: attaches an export, then runs a pipeline over it. Bytes are read into
// one buffer that is used again and again, so that the generator costs as little as it can.
// It never throws for what a server does: a connection ends with `null` or with the reason.
import { connect, type Socket } from 'node:net';
import { encodeRequest } from '../gateway/nbd/codec.js';
import { COMMAND, SIZE } from '../gateway/nbd/constants.js';
import { Attach } from './attach.js';
import type { Meter } from './meter.js';
import { Pipeline, type PipelineJob } from './pipeline.js';

const READ_BUFFER_BYTES = 256 * 1024;

export interface Endpoint {
  host: string;
  port: number;
  exportName: string;
}

/** Microseconds of a clock that only moves forward. */
export function nowUs(): number {
  return performance.now() * 1000;
}

export class LoadConnection {
  /** Resolves with the export's size, or null when the connection failed before. */
  readonly attached: Promise<number | null>;
  /** Resolves when the socket is gone: with null when everything was answered, else with what went wrong. */
  readonly closed: Promise<string | null>;
  readonly #socket: Socket;
  readonly #attach: Attach;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  #pipeline: Pipeline | null = null;
  #meter: Meter | null = null;
  #finished = false;
  #flaw: string | null = null;
  #onAttached: (sizeBytes: number | null) => void = () => {};

  constructor(endpoint: Endpoint) {
    this.#attach = new Attach(endpoint.exportName);
    this.#socket = connect({
      host: endpoint.host,
      port: endpoint.port,
      noDelay: true,
      onread: {
        buffer: this.#buffer,
        callback: (length: number) => {
          this.#receive(length);
          return true;
        },
      },
    });
    this.attached = new Promise((resolve) => {
      this.#onAttached = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#socket.on('error', (error) => {
        this.#flaw ??= error.message;
      });
      this.#socket.on('close', () => {
        this.#onAttached(null);
        resolve(this.#flaw ?? (this.#finished ? null : 'the server closed the connection'));
      });
    });
  }

  /** Requests that are not answered. */
  get outstanding(): number {
    return this.#pipeline?.outstanding ?? 0;
  }

  /** Starts the load; it ends by itself, and with it the connection, when the job is done and all is answered. */
  run(job: PipelineJob): void {
    this.#meter = job.meter;
    this.#pipeline = new Pipeline(job, (bytes, done) => this.#socket.write(bytes, done));
    this.#pipeline.issue(nowUs());
  }

  /** Gives up at once. */
  destroy(reason: string): void {
    this.#flaw ??= reason;
    this.#socket.destroy();
  }

  #receive(length: number): void {
    if (this.#finished || this.#flaw !== null) return;
    const pipeline = this.#pipeline;
    if (pipeline === null) {
      this.#receiveHandshake(Buffer.from(this.#buffer.subarray(0, length)));
      return;
    }
    const arrivedUs = nowUs();
    const flaw = pipeline.receive(this.#buffer, length, arrivedUs);
    if (flaw !== null) this.destroy(flaw);
    else if (this.#meter!.isOpen(arrivedUs)) pipeline.issue(nowUs());
    if (flaw === null && pipeline.outstanding === 0) this.#finish();
  }

  #receiveHandshake(bytes: Buffer): void {
    const { send, sizeBytes, flaw } = this.#attach.receive(bytes);
    if (flaw !== null) this.destroy(flaw);
    if (send !== null) this.#socket.write(send);
    if (sizeBytes !== null) this.#onAttached(sizeBytes);
  }

  #finish(): void {
    this.#finished = true;
    const disconnect = Buffer.alloc(SIZE.REQUEST);
    encodeRequest(disconnect, 0, 0, COMMAND.DISC, 0, 0, 0, 0);
    this.#socket.end(disconnect, () => this.#socket.destroy());
  }
}
