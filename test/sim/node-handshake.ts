// A simulated node's side of the NBD handshake: fixed newstyle, with or without GO, structured replies and
// base:allocation, as the node's features say. Its own decoding of the protocol, simple and strict: what no sane client
// sends is an exception, which ends the simulation.
import assert from 'node:assert/strict';
import { FLAG, MAGIC, META_ID, OPT, REP } from './nbd-words.js';

export interface NodeFeatures {
  go: boolean;
  structured: boolean;
  status: boolean;
  fua: boolean;
  zeroes: boolean;
  fastZero: boolean;
  trim: boolean;
  multiConn: boolean;
  blockMinimum: number;
  maximumPayload: number;
}

export interface Settled {
  exportName: string;
  structured: boolean;
  status: boolean;
}

export interface HandshakeHost {
  readonly features: NodeFeatures;
  /** Bytes of the export; null: not known here. */
  sizeOf(exportName: string): number | null;
  send(bytes: Buffer): void;
  close(): void;
  /** The client asks for the export; `admit` is called, perhaps later, when it may have it. */
  admit(exportName: string, admit: () => void): void;
  /** Transmission begins. */
  settled(settled: Settled): void;
}

export class NodeHandshake {
  readonly #host: HandshakeHost;
  #bytes = Buffer.alloc(0);
  #greeted = false;
  #noZeroes = false;
  #structured = false;
  #status = false;
  #waiting = false;

  constructor(host: HandshakeHost) {
    this.#host = host;
    const hello = Buffer.alloc(18);
    hello.writeBigUInt64BE(MAGIC.HELLO, 0);
    hello.writeBigUInt64BE(MAGIC.OPTION, 8);
    hello.writeUInt16BE(3, 16);
    host.send(hello);
  }

  /** Takes bytes until the transmission begins; the client sends none beyond that before it was told. */
  receive(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    if (!this.#greeted) {
      if (this.#bytes.length < 4) return;
      const flags = this.#bytes.readUInt32BE(0);
      assert((flags & 1) === 1 && flags <= 3, `client flags ${flags}`);
      this.#noZeroes = (flags & 2) !== 0;
      this.#greeted = true;
      this.#bytes = this.#bytes.subarray(4);
    }
    while (this.#bytes.length >= 16) {
      assert(!this.#waiting, 'the client sent an option before the last was answered');
      assert.equal(this.#bytes.readBigUInt64BE(0), MAGIC.OPTION);
      const option = this.#bytes.readUInt32BE(8);
      const length = this.#bytes.readUInt32BE(12);
      if (this.#bytes.length < 16 + length) return;
      const data = this.#bytes.subarray(16, 16 + length);
      this.#bytes = this.#bytes.subarray(16 + length);
      this.#option(option, data);
    }
  }

  #option(option: number, data: Buffer): void {
    const { features } = this.#host;
    if (option === OPT.STRUCTURED && features.structured) {
      this.#structured = true;
      this.#reply(option, REP.ACK);
    } else if (option === OPT.SET_META && features.status && this.#structured) this.#setMeta(option, data);
    else if (option === OPT.GO && features.go) this.#go(option, data);
    else if (option === OPT.EXPORT_NAME) this.#exportName(data.toString());
    else if (option === OPT.ABORT) {
      this.#reply(option, REP.ACK);
      this.#host.close();
    } else this.#reply(option, REP.UNSUP);
  }

  #setMeta(option: number, data: Buffer): void {
    const nameBytes = data.readUInt32BE(0);
    assert.equal(data.readUInt32BE(4 + nameBytes), 1, 'one query');
    const queryBytes = data.readUInt32BE(8 + nameBytes);
    const query = data.toString('utf8', 12 + nameBytes, 12 + nameBytes + queryBytes);
    if (query === 'base:allocation') {
      this.#status = true;
      const context = Buffer.alloc(4 + query.length);
      context.writeUInt32BE(META_ID, 0);
      context.write(query, 4);
      this.#reply(option, REP.META, context);
    }
    this.#reply(option, REP.ACK);
  }

  #go(option: number, data: Buffer): void {
    const nameBytes = data.readUInt32BE(0);
    const name = data.toString('utf8', 4, 4 + nameBytes);
    const sizeBytes = this.#host.sizeOf(name);
    if (sizeBytes === null) {
      this.#reply(option, REP.UNKNOWN, Buffer.from('no such export'));
      return;
    }
    this.#admitted(name, () => {
      const info = Buffer.alloc(12);
      info.writeUInt16BE(0, 0);
      info.writeBigUInt64BE(BigInt(sizeBytes), 2);
      info.writeUInt16BE(this.#flags(), 10);
      this.#reply(option, REP.INFO, info);
      const block = Buffer.alloc(14);
      block.writeUInt16BE(3, 0);
      block.writeUInt32BE(this.#host.features.blockMinimum, 2);
      block.writeUInt32BE(4096, 6);
      block.writeUInt32BE(this.#host.features.maximumPayload, 10);
      this.#reply(option, REP.INFO, block);
      this.#reply(option, REP.ACK);
      this.#settle(name);
    });
  }

  #exportName(name: string): void {
    const sizeBytes = this.#host.sizeOf(name);
    if (sizeBytes === null) {
      this.#host.close();
      return;
    }
    this.#admitted(name, () => {
      const reply = Buffer.alloc(this.#noZeroes ? 10 : 134);
      reply.writeBigUInt64BE(BigInt(sizeBytes), 0);
      reply.writeUInt16BE(this.#flags(), 8);
      this.#host.send(reply);
      this.#settle(name);
    });
  }

  #admitted(name: string, then: () => void): void {
    this.#waiting = true;
    this.#host.admit(name, then);
  }

  #settle(exportName: string): void {
    assert.equal(this.#bytes.length, 0, 'the client sent bytes before the transmission began');
    this.#host.settled({ exportName, structured: this.#structured, status: this.#status });
  }

  #flags(): number {
    const { features } = this.#host;
    let flags = FLAG.HAS | FLAG.FLUSH;
    if (features.fua) flags |= FLAG.FUA;
    if (features.trim) flags |= FLAG.TRIM;
    if (features.zeroes) flags |= FLAG.ZEROES;
    if (features.fastZero) flags |= FLAG.FAST;
    if (features.multiConn) flags |= FLAG.MULTI;
    if (this.#structured) flags |= FLAG.DF;
    return flags;
  }

  #reply(option: number, type: number, data = Buffer.alloc(0)): void {
    const reply = Buffer.alloc(20 + data.length);
    reply.writeBigUInt64BE(MAGIC.OPTION_REPLY, 0);
    reply.writeUInt32BE(option, 8);
    reply.writeUInt32BE(type, 12);
    reply.writeUInt32BE(data.length, 16);
    data.copy(reply, 20);
    this.#host.send(reply);
  }
}
