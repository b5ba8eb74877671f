// Clients that mean harm, one kind a function: each does on its connection what would make a careless server hold memory, work
// or descriptors for it. One that is cut off comes back. They hold next to nothing themselves, so that a thousand fit into a process.
import { connect, type Socket } from 'node:net';
import { encodeRequest, writeUint32 } from '../gateway/nbd/codec.js';
import { COMMAND, HANDSHAKE_FLAG, OPTION, OPTION_MAGIC, SIZE } from '../gateway/nbd/constants.js';
import { Attach } from './attach.js';
import type { Endpoint } from './load-connection.js';

const MiB = 1024 * 1024;
const PAYLOAD_BYTES = 32 * MiB;
const PIECE = Buffer.alloc(64 * 1024, 0x5a);
const COME_BACK_MS = 200;
const DRIP_MS = 1000;
const STORM_MS = 50;
/** Addresses of this machine that they come from, so that no bound on one client keeps them out. */
const ADDRESSES = 8;

type Deed = (socket: Socket, exportName: string) => void;

/** In the handshake. */
const silent: Deed = () => {};

const halfOption: Deed = (socket) => {
  socket.write(Buffer.concat([clientFlags(), option(OPTION.GO, 16_000), PIECE.subarray(0, 8000)]));
};

const optionFlood: Deed = (socket) => {
  const flood = Buffer.concat(Array.from({ length: 255 }, () => option(OPTION.LIST, 0)));
  socket.write(Buffer.concat([clientFlags(), flood]));
  socket.pause();
};

const storm: Deed = (socket) => {
  const timer = setTimeout(() => socket.destroy(), STORM_MS);
  socket.once('close', () => clearTimeout(timer));
};

/** In the transmission. */
const halfPayload: Deed = (socket, exportName) =>
  attached(socket, exportName, () => {
    socket.write(request(COMMAND.WRITE, PAYLOAD_BYTES));
    let left = PAYLOAD_BYTES - MiB;
    const pour = (): void => {
      while (left > 0 && !socket.destroyed) {
        const bytes = Math.min(left, PIECE.length);
        left -= bytes;
        if (!socket.write(PIECE.subarray(0, bytes))) return;
      }
    };
    socket.on('drain', pour);
    pour();
  });

const drip: Deed = (socket, exportName) =>
  attached(socket, exportName, () => {
    socket.write(request(COMMAND.WRITE, PAYLOAD_BYTES));
    const timer = setInterval(() => socket.write(PIECE.subarray(0, 1)), DRIP_MS);
    socket.once('close', () => clearInterval(timer));
  });

const deafReader: Deed = (socket, exportName) =>
  attached(socket, exportName, () => {
    socket.pause();
    socket.write(Buffer.concat(Array.from({ length: 64 }, () => request(COMMAND.READ, PAYLOAD_BYTES))));
  });

const deafFlood: Deed = (socket, exportName) =>
  attached(socket, exportName, () => {
    socket.pause();
    const flood = Buffer.concat(Array.from({ length: 1000 }, () => request(99, 0)));
    const pour = (): void => {
      while (!socket.destroyed && socket.write(flood));
    };
    socket.on('drain', pour);
    pour();
  });

export const KINDS = { silent, halfOption, optionFlood, storm, halfPayload, drip, deafReader, deafFlood } as const;
export type Kind = keyof typeof KINDS;

export interface HostileCounts {
  connected: number;
  cutOff: number;
}

/** Sends `count` of them, of each of `kinds` as many, until `stop`. */
export class HostileCrowd {
  readonly counts: HostileCounts = { connected: 0, cutOff: 0 };
  readonly #endpoint: Endpoint;
  readonly #sockets = new Set<Socket>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #stopped = false;

  constructor(endpoint: Endpoint, count: number, kinds: readonly Kind[]) {
    this.#endpoint = endpoint;
    for (let index = 0; index < count; index++) this.#later(index, () => this.#send(index, KINDS[kinds[index % kinds.length]]));
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const socket of this.#sockets) socket.destroy();
  }

  #later(delayMs: number, deed: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      deed();
    }, delayMs);
    this.#timers.add(timer);
  }

  #send(index: number, deed: Deed): void {
    const { host, port, exportName } = this.#endpoint;
    const from = host === '127.0.0.1' ? { localAddress: `127.0.1.${1 + (index % ADDRESSES)}` } : {};
    const socket = connect({ host, port, ...from });
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('connect', () => {
      this.counts.connected += 1;
      deed(socket, exportName);
    });
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.counts.cutOff += 1;
      if (!this.#stopped) this.#later(COME_BACK_MS, () => this.#send(index, deed));
    });
    if (deed !== deafReader && deed !== deafFlood && deed !== optionFlood) socket.resume();
  }
}

function attached(socket: Socket, exportName: string, then: () => void): void {
  const attach = new Attach(exportName);
  const hear = (bytes: Buffer): void => {
    const { send, sizeBytes, flaw } = attach.receive(bytes);
    if (send !== null) socket.write(send);
    if (flaw !== null) socket.destroy();
    if (sizeBytes === null) return;
    socket.off('data', hear);
    then();
  };
  socket.on('data', hear);
}

function clientFlags(): Buffer {
  const bytes = Buffer.alloc(SIZE.CLIENT_FLAGS);
  writeUint32(bytes, 0, HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES);
  return bytes;
}

function option(number: number, length: number): Buffer {
  const header = Buffer.alloc(SIZE.OPTION_HEADER);
  writeUint32(header, 0, OPTION_MAGIC.HIGH);
  writeUint32(header, 4, OPTION_MAGIC.LOW);
  writeUint32(header, 8, number);
  writeUint32(header, 12, length);
  return header;
}

function request(command: number, length: number): Buffer {
  const header = Buffer.alloc(SIZE.REQUEST);
  encodeRequest(header, 0, 0, command, 0, 1, 0, length);
  return header;
}
