// An NBD server in memory that follows the protocol to the letter but for what it is told to get wrong: one switch (`Bend`) a
// deviation. Written from the protocol document alone, for the conformance suite to find what is bent; shares no code with the gateway.
import { createServer, type Server, type Socket } from 'node:net';
import { ByteStream } from './byte-stream.js';
import { uint16, uint32, uint64 } from './nbd-bytes.js';

const IHAVEOPT = 0x49484156454f5054n;
const [EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY, LIST_META, SET_META, EXTENDED_HEADERS] = [
  1, 2, 3, 5, 6, 7, 8, 9, 10, 11,
];
const [ACK, SERVER, INFO_REPLY, META_CONTEXT] = [1, 2, 3, 4];
const [UNSUP, INVALID, TLS_REQD, UNKNOWN, BLOCK_SIZE_REQD, TOO_BIG, EXT_HEADER_REQD] = [1, 3, 5, 6, 8, 9, 10].map((n) => 0x80000000 + n);
const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32];
const [EPERM, ENOMEM, EINVAL, ENOSPC, ENOTSUP] = [1, 12, 22, 28, 95];
const TAKEN: Readonly<Record<number, number>> = {
  [READ]: FUA | DF,
  [WRITE]: FUA,
  [FLUSH]: FUA,
  [TRIM]: FUA,
  [CACHE]: FUA,
  [ZEROES]: FUA | NO_HOLE | FAST_ZERO,
  [STATUS]: FUA | REQ_ONE,
};
/** HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO; DF is added where replies are chunks. */
const FLAGS = 0x0001 | 0x0004 | 0x0008 | 0x0020 | 0x0040 | 0x0100 | 0x0400 | 0x0800;
const SIZE = 2 * 1024 * 1024;
const CONTEXTS = ['base:allocation', 'x-bent:second'];
const OPTION_BYTES_MAX = 64 * 1024;
const PAYLOAD_BYTES_MAX = 1024 * 1024;

/** Names of deviations; which rule finds each is in the test. */
export type Bend = string;

interface Request {
  flags: number;
  command: number;
  cookie: bigint;
  offset: bigint;
  length: number;
  payload: Buffer;
}

export class BentServer {
  readonly memory = Buffer.alloc(SIZE);
  readonly readOnly: boolean;
  #bends: ReadonlySet<Bend>;
  #server: Server;
  #sockets = new Set<Socket>();

  private constructor(bends: ReadonlySet<Bend>, readOnly: boolean) {
    this.#bends = bends;
    this.readOnly = readOnly;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
      const connection = new BentConnection(this, new ByteStream(socket));
      connection.serve().then(
        () => socket.end(),
        () => socket.destroy(),
      );
    });
  }

  static async start(bends: Iterable<Bend> = [], options: { readOnly?: boolean } = {}): Promise<BentServer> {
    const server = new BentServer(new Set(bends), options.readOnly ?? false);
    await server.listen(0);
    return server;
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  bent(bend: Bend): boolean {
    return this.#bends.has(bend);
  }

  /** As if the process had died; comes back on the same port after `backMs`, or never. */
  die(backMs: number | null): void {
    const { port } = this;
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    if (backMs !== null) setTimeout(() => void this.listen(port), backMs);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}

class BentConnection {
  readonly #server: BentServer;
  readonly #stream: ByteStream;
  #style: 'simple' | 'structured' | 'extended' = 'simple';
  #noZeroes = false;
  #contexts: string[] = [];
  #contextsOf = '';
  #options = 0;

  constructor(server: BentServer, stream: ByteStream) {
    this.#server = server;
    this.#stream = stream;
  }

  #is(bend: Bend): boolean {
    return this.#server.bent(bend);
  }

  #send(...parts: Buffer[]): void {
    this.#stream.write(Buffer.concat(parts));
  }

  async serve(): Promise<void> {
    const offered = this.#is('no fixed newstyle') ? 2 : this.#is('another handshake flag') ? 7 : 3;
    this.#send(Buffer.from('NBDMAGIC'), Buffer.from(this.#is('wrong greeting') ? 'IHAVEOPS' : 'IHAVEOPT'), uint16(offered));
    const flags = (await this.#stream.read(4)).readUInt32BE(0);
    if ((flags & ~3) !== 0 && !this.#is('takes unknown client flags')) return;
    this.#noZeroes = (flags & 2) !== 0;
    while (await this.#option());
  }

  #reply(option: number, type: number, data: Buffer = Buffer.alloc(0)): true {
    const said = this.#is('replies name another option') && option === LIST ? INFO : option;
    this.#send(uint64(0x3e889045565a9n), uint32(said), uint32(type), uint32(data.length), data);
    return true;
  }

  /** False: the connection is over. */
  async #option(): Promise<boolean> {
    const header = await this.#stream.read(16);
    const option = header.readUInt32BE(8);
    const length = header.readUInt32BE(12);
    if (header.readBigUInt64BE(0) !== IHAVEOPT && !this.#is('takes any option magic')) return false;
    if (option === ABORT) {
      if (this.#is('abort without ack')) return false;
      if (this.#is('abort with data is invalid') && length > 0) return this.#reply(ABORT, INVALID);
      this.#reply(ABORT, ACK);
      return false;
    }
    if (length > OPTION_BYTES_MAX && !this.#is('waits for 4 GiB of option')) {
      if (option !== EXPORT_NAME) this.#reply(option, TOO_BIG);
      return false;
    }
    if (this.#is('closes after ten options') && ++this.#options > 10) return false;
    const data = await this.#stream.read(length);
    switch (option) {
      case EXPORT_NAME:
        return this.#onExportName(data.toString());
      case LIST:
        return this.#onList(data);
      case INFO:
      case GO:
        return this.#onInfo(option, data);
      case STRUCTURED_REPLY:
        if (length > 0 && !this.#is('structured with data')) return this.#reply(option, INVALID);
        if (this.#style === 'extended') {
          if (!this.#is('structured after extended')) return this.#reply(option, EXT_HEADER_REQD);
          return this.#reply(option, ACK);
        }
        if (!this.#is('acknowledges and stays simple')) this.#style = 'structured';
        return this.#reply(option, ACK);
      case EXTENDED_HEADERS:
        if (length > 0) return this.#reply(option, INVALID);
        if (this.#is('extended needs structured') && this.#style === 'simple') return this.#reply(option, INVALID);
        this.#style = 'extended';
        return this.#reply(option, ACK);
      case LIST_META:
      case SET_META:
        return this.#onContexts(option, data);
      case STARTTLS:
        return this.#reply(option, this.#is('TLS_REQD without TLS') ? TLS_REQD : length > 0 ? INVALID : UNSUP);
      default:
        if (this.#is('unknown options are invalid')) return this.#reply(option, INVALID);
        return this.#reply(option, UNSUP, this.#is('error text is no string') ? Buffer.from([0xff, 0x00]) : Buffer.from('not here'));
    }
  }

  #flags(selected: boolean): number {
    let flags = this.#is('no has-flags') ? FLAGS & ~1 : FLAGS;
    if (this.#server.readOnly) flags = (flags & ~(0x20 | 0x40 | 0x800)) | 2;
    if (this.#style !== 'simple' || this.#is('DF without structured')) flags |= 0x80;
    if (this.#is('fast zero without zeroes')) flags &= ~0x40;
    if (this.#is('payload flag without extended') || (this.#style === 'extended' && (selected || this.#is('payload flag for all'))))
      flags |= 0x1000;
    return flags;
  }

  async #onExportName(name: string): Promise<boolean> {
    if (this.#style === 'extended' && !this.#is('export name with extended')) return false;
    if ((name !== 'disk' || name.length > 4096) && !this.#is('export name takes any name')) return false;
    const zeroes = this.#noZeroes ? 0 : 124;
    const size = this.#is('export name has another size') ? SIZE - 512 : SIZE;
    this.#send(uint64(BigInt(size)), uint16(this.#flags(false)), Buffer.alloc(zeroes, this.#is('zeroes that are not zero') ? 1 : 0));
    await this.#transmit(name);
    return false;
  }

  #onList(data: Buffer): boolean {
    if (data.length > 0 && !this.#is('list with data')) return this.#reply(LIST, INVALID);
    const name = Buffer.from(this.#is('lists what it does not have') ? 'other' : 'disk');
    const length = this.#is('list entry overruns') ? name.length + 1 : name.length;
    const rest = this.#is('list details are no string') ? Buffer.from([0xc0]) : Buffer.alloc(0);
    this.#reply(LIST, SERVER, Buffer.concat([uint32(length), name, rest]));
    return this.#reply(LIST, ACK);
  }

  async #onInfo(option: number, data: Buffer): Promise<boolean> {
    if (this.#is('reads beyond the data') && data.length < 6) await this.#stream.read(6);
    if (data.length < 6) return this.#reply(option, INVALID);
    const length = data.readUInt32BE(0);
    if (length > data.length - 6) {
      if (this.#is('waits for the rest of a name')) await this.#stream.read(length);
      return this.#reply(option, INVALID);
    }
    const name = data.toString('utf8', 4, 4 + length);
    const count = data.readUInt16BE(4 + length);
    const rest = data.length - 6 - length;
    if (rest < 2 * count && !this.#is('invents requests')) return this.#reply(option, INVALID);
    if (rest > 2 * count && !this.#is('trailing bytes')) return this.#reply(option, INVALID);
    if (length > 4096) return this.#reply(option, TOO_BIG);
    if (name !== 'disk') {
      if (this.#is('tells of what is not there')) this.#exportInfo(option);
      return this.#reply(option, this.#is('unknown export is invalid') ? INVALID : UNKNOWN);
    }
    const asked = new Set<number>();
    for (let at = 6 + length; at + 2 <= data.length; at += 2) asked.add(data.readUInt16BE(at));
    if (this.#is('unknown requests are invalid') && [...asked].some((request) => request > 3)) return this.#reply(option, INVALID);
    if (this.#is('requires block size') && !asked.has(3)) return this.#reply(option, BLOCK_SIZE_REQD);
    if (!(this.#is('no export info') && !asked.has(3))) this.#exportInfo(option);
    if (this.#is('export info twice')) this.#exportInfo(option);
    if (asked.has(1))
      this.#reply(option, INFO_REPLY, Buffer.concat([uint16(1), Buffer.from(this.#is('another canonical name') ? 'other' : 'disk')]));
    if (asked.has(2))
      this.#reply(option, INFO_REPLY, Buffer.concat([uint16(2), Buffer.from(this.#is('description is no string') ? [0x80] : 'bent')]));
    if (asked.has(3)) this.#blockSizes(option);
    this.#reply(option, ACK, this.#is('ack with data') && option === INFO ? Buffer.from('ok') : Buffer.alloc(0));
    if (option === INFO) return true;
    if (this.#is('padding after go') && !this.#noZeroes) this.#send(Buffer.alloc(124));
    await this.#transmit(name);
    return false;
  }

  #exportInfo(option: number): void {
    const size = this.#is('info has another size') && option === INFO ? 0n : BigInt(SIZE);
    const data = Buffer.concat([uint16(0), uint64(size), uint16(this.#flags(this.#contexts.length > 0))]);
    this.#reply(option, INFO_REPLY, this.#is('long export info') ? Buffer.concat([data, Buffer.alloc(2)]) : data);
  }

  #blockSizes(option: number): void {
    const minimum = this.#is('minimum is no power of two') ? 3 : 1;
    const preferred = this.#is('preferred under 512') ? 256 : 4096;
    const maximum = this.#is('maximum under preferred') ? 2048 : this.#is('maximum under 1 MiB') ? 512 * 1024 : PAYLOAD_BYTES_MAX;
    const data = Buffer.concat([uint16(3), uint32(minimum), uint32(preferred), uint32(maximum)]);
    this.#reply(option, INFO_REPLY, this.#is('long block sizes') ? Buffer.concat([data, uint16(0)]) : data);
  }

  #onContexts(option: number, data: Buffer): boolean {
    const setting = option === SET_META;
    if (setting && !this.#is('failed set keeps contexts') && !this.#is('set adds to contexts')) this.#contexts = [];
    if (this.#style === 'simple' && !(setting && this.#is('contexts without chunks'))) return this.#reply(option, INVALID);
    const parsed = this.#parseQueries(data);
    if (parsed === null) return this.#reply(option, this.#is('overrun is unknown') ? UNKNOWN : INVALID);
    if (setting && !this.#is('set adds to contexts')) this.#contexts = [];
    if (parsed.name !== 'disk') return this.#reply(option, UNKNOWN);
    const { queries } = parsed;
    if (this.#is('unknown leaf is invalid') && queries.includes('base:no-such-leaf')) return this.#reply(option, INVALID);
    if (this.#is('unknown namespace is invalid') && setting && queries.some((query) => query.startsWith('x-forestall')))
      return this.#reply(option, INVALID);
    for (const [i, name] of CONTEXTS.entries()) {
      const space = name.slice(0, name.indexOf(':') + 1);
      const wild = queries.includes(space) && !(this.#is('no wildcard in list') && !setting);
      const takesWild = !setting || this.#is('wildcard in set');
      const all = queries.length === 0 && (!setting || this.#is('set without queries takes all'));
      if (!queries.includes(name) && !(wild && takesWild) && !all) continue;
      if (this.#is('lists less than there is') && all) continue;
      const id = setting ? (this.#is('ids alike') ? 7 : 7 + i) : this.#is('ids in a list') ? 7 : 0;
      const said = this.#is('names without namespace') && all ? name.replace(':', '') : name;
      this.#reply(option, META_CONTEXT, Buffer.concat([uint32(id), Buffer.from(said)]));
      if (setting) this.#contexts.push(name);
    }
    if (setting) this.#contextsOf = parsed.name;
    return this.#reply(option, ACK);
  }

  /** Null: the data does not add up. */
  #parseQueries(data: Buffer): { name: string; queries: string[] } | null {
    if (data.length < 8) return null;
    const length = data.readUInt32BE(0);
    if (length > data.length - 8) return null;
    const name = data.toString('utf8', 4, 4 + length);
    let at = 8 + length;
    const queries: string[] = [];
    for (let count = data.readUInt32BE(4 + length); count > 0; count--) {
      if (at + 4 > data.length) return this.#is('takes fewer queries') ? { name, queries } : null;
      const bytes = data.readUInt32BE(at);
      if (bytes > data.length - at - 4) return null;
      queries.push(data.toString('utf8', at + 4, at + 4 + bytes));
      at += 4 + bytes;
    }
    return at === data.length || this.#is('trailing query bytes') ? { name, queries } : null;
  }

  async #transmit(name: string): Promise<void> {
    if (this.#contextsOf !== name) this.#contexts = [];
    for (;;) {
      const request = await this.#request();
      if (request === null) return;
      if (request.command === DISC) {
        if (this.#is('answers disc')) this.#done(request);
        return;
      }
      if (this.#is('dies of fast zero') && request.command === ZEROES && (request.flags & FAST_ZERO) !== 0) return this.#server.die(50);
      const errno = this.#validate(request);
      if (errno < 0) return;
      if (errno > 0) this.#fail(request, errno);
      else this.#carryOut(request);
    }
  }

  async #request(): Promise<Request | null> {
    const extended = this.#style === 'extended';
    const header = await this.#stream.read(extended ? 32 : 28);
    if (header.readUInt32BE(0) !== (extended ? 0x21e41c71 : 0x25609513) && !this.#is('takes any request magic')) return null;
    const [flags, command] = [header.readUInt16BE(4), header.readUInt16BE(6)];
    const length = extended ? Number(header.readBigUInt64BE(24)) : header.readUInt32BE(24);
    const flagged = extended && (flags & PAYLOAD_LEN) !== 0;
    if (extended && command === WRITE && !flagged && !this.#is('writes without flag')) return null;
    const assumed = this.#is('assumes payloads') && command === 9;
    const hasPayload =
      (command === WRITE || flagged || assumed) && !(this.#is('no payload with unknown flags') && command === WRITE && flags > PAYLOAD_LEN);
    if (hasPayload && length > 2 * PAYLOAD_BYTES_MAX && !this.#is('waits for 4 GiB')) return null;
    const skipped = this.#is('leaves refused payloads') && command === WRITE && header.readBigUInt64BE(16) >= BigInt(SIZE);
    const payload = hasPayload && !skipped ? await this.#stream.read(length) : Buffer.alloc(0);
    const cookie = this.#is('signed cookies') ? header.readBigUInt64BE(8) & 0x7fffffffffffffffn : header.readBigUInt64BE(8);
    return { flags, command, cookie, offset: header.readBigUInt64BE(16), length, payload };
  }

  /** 0: right. -1: the connection ends. */
  #validate({ command, flags, offset, length, payload }: Request): number {
    const changes = command === WRITE || command === TRIM || command === ZEROES;
    if (changes && this.#server.readOnly) return this.#is('writes read-only') ? 0 : this.#is('EINVAL for read-only') ? EINVAL : EPERM;
    if (!(command in TAKEN)) return this.#is('closes on unknown commands') ? -1 : this.#is('unknown is ENOTSUP') ? ENOTSUP : EINVAL;
    const chunks = this.#style !== 'simple';
    let taken = TAKEN[command] & (chunks ? 0xffff : ~DF);
    if (this.#style === 'extended' && (command === WRITE || (command === STATUS && this.#contexts.length > 0))) taken |= PAYLOAD_LEN;
    if (this.#is('no FUA on reads') && command === READ) taken &= ~FUA;
    if (this.#is('no FUA on writes') && command === WRITE) taken &= ~FUA;
    if ((flags & ~taken) !== 0 && !this.#is(`any flag on ${command}`)) return EINVAL;
    if (command === STATUS && (this.#contexts.length === 0 || !chunks)) return this.#is('closes on status without context') ? -1 : EINVAL;
    if (command === FLUSH) return this.#is('no flush') ? EINVAL : 0;
    if (command === STATUS && (flags & PAYLOAD_LEN) !== 0) return this.#validSelection(payload) ? 0 : EINVAL;
    if (length === 0) return this.#is(`closes on zero ${command}`) ? -1 : 0;
    if (this.#is('wraps at 2^64') && (offset >= 2n ** 63n || offset + BigInt(length) > 2n ** 64n)) return command === WRITE ? 0 : EINVAL;
    if (offset + BigInt(length) > BigInt(SIZE)) {
      if (this.#is('past the end is EIO')) return 5;
      return command === WRITE || command === ZEROES ? ENOSPC : EINVAL;
    }
    if ((command === READ || command === WRITE) && length > PAYLOAD_BYTES_MAX) return this.#is('ENOMEM') ? ENOMEM : EINVAL;
    return 0;
  }

  #validSelection(payload: Buffer): boolean {
    if (payload.length < 8 || payload.length % 4 !== 0) return false;
    const ids = this.#selectedIds(payload);
    const known = ids.every((id) => id >= 7 && id < 7 + this.#contexts.length) || this.#is('takes unknown ids');
    return known && (new Set(ids).size === ids.length || this.#is('takes ids twice'));
  }

  #selectedIds(payload: Buffer): number[] {
    return Array.from({ length: (payload.length - 8) / 4 }, (_, i) => payload.readUInt32BE(8 + 4 * i));
  }

  #carryOut(request: Request): void {
    const { command, flags, length, payload } = request;
    const { memory } = this.#server;
    const at = Number(request.offset % 2n ** 64n) % SIZE;
    switch (command) {
      case READ:
        this.#readReply(request, memory.subarray(at, at + length));
        return;
      case WRITE:
        if (!this.#is('loses writes')) payload.copy(memory, this.#is('wraps at 2^64') && request.offset >= 2n ** 63n ? 0 : at);
        this.#done(request);
        return;
      case ZEROES:
        if (this.#is('refuses fast zeroes') && (flags & FAST_ZERO) !== 0) {
          if (this.#is('zeroes all the same')) memory.fill(0, at, at + length);
          this.#fail(request, ENOTSUP);
          return;
        }
        if (this.#is('slow zeroes are ENOTSUP') && (flags & FAST_ZERO) === 0) {
          this.#fail(request, ENOTSUP);
          return;
        }
        if (this.#is('NO_HOLE is not zeroed') && (flags & NO_HOLE) !== 0) {
          this.#done(request);
          return;
        }
        memory.fill(0, at, at + length + (this.#is('zeroes too much') && length > 4000 ? 1 : 0));
        this.#done(request);
        return;
      case TRIM:
        memory.fill(0, at - (this.#is('trims too much') && at > 0 ? 1 : 0), at + length);
        this.#done(request);
        return;
      case STATUS:
        this.#statusReply(request);
        return;
      default:
        if (command === CACHE && this.#is('cache destroys')) memory.fill(1, at, at + length);
        this.#done(request);
        return;
    }
  }

  #readReply(request: Request, data: Buffer): void {
    const { offset, length, flags } = request;
    if (this.#style === 'simple' || (this.#style === 'structured' && this.#is('simple replies to reads'))) {
      this.#simple(request, 0);
      this.#send(data);
      return;
    }
    const half = Math.floor(length / 2);
    const whole = (flags & DF) !== 0 || length < 1024;
    if (length === 0) {
      this.#chunk(request, 0, 1, this.#is('NONE with payload') ? Buffer.alloc(4) : Buffer.alloc(0));
      return;
    }
    if (this.#is('splits DF') ? length >= 1024 : !whole && this.#is('two chunks')) {
      this.#chunk(request, 1, 0, uint64(offset + BigInt(half)), data.subarray(half));
      this.#chunk(request, 1, 1, uint64(offset), data.subarray(0, half));
      return;
    }
    const large = offset === 512n && length === 8192;
    const small = offset === 512n && length === 4096;
    if (this.#is('leaves a gap') && large) {
      this.#chunk(request, 1, 1, uint64(offset), data.subarray(0, half));
      return;
    }
    if (this.#is('overlaps') && large) this.#chunk(request, 1, 0, uint64(offset), data.subarray(0, half));
    if (this.#is('outside') && large) this.#chunk(request, 1, 0, uint64(offset + BigInt(length)), Buffer.alloc(16));
    if (this.#is('empty data') && small) this.#chunk(request, 1, 0, uint64(offset));
    if (this.#is('another chunk type') && small) this.#chunk(request, 9, 0, Buffer.alloc(4));
    const more = this.#is('goes on after done') && length === 32_768;
    this.#chunk(request, 1, this.#is('another chunk flag') ? 3 : 1, uint64(offset), data);
    if (more) this.#chunk(request, 0, 1, Buffer.alloc(0));
  }

  #statusReply(request: Request): void {
    const { offset, flags, payload } = request;
    const wide = this.#style === 'extended' && !this.#is('compact status');
    const selecting = (flags & PAYLOAD_LEN) !== 0;
    let length = selecting ? payload.readBigUInt64BE(0) : BigInt(request.length);
    if (this.#is('ignores REQ_ONE') && (flags & REQ_ONE) !== 0) length *= 2n;
    if (length === 0n || length > BigInt(SIZE) - offset) length = BigInt(SIZE) - offset;
    if (this.#is('beyond the end')) length += 512n;
    const ids = selecting && !this.#is('ignores selections') ? this.#selectedIds(payload) : this.#contexts.map((_, i) => 7 + i);
    const extents = this.#extents(offset, length);
    for (const [i, id] of ids.entries()) {
      if (this.#is('one context less') && i > 0) break;
      const last = i === ids.length - 1 || this.#is('one context less');
      const list = (flags & REQ_ONE) !== 0 ? extents.slice(0, 1) : extents;
      const count = this.#is('wrong count') ? list.length + 1 : list.length;
      const head = wide ? [uint32(id), uint32(count)] : [uint32(this.#is('another context id') ? id + 40 : id)];
      const body = list.map(([bytes, status]) => {
        const high = this.#is('high status bits') ? 1n << 40n : 0n;
        return wide
          ? Buffer.concat([uint64(bytes), uint64(BigInt(status) | high)])
          : Buffer.concat([uint32(Number(bytes)), uint32(status)]);
      });
      const rest = this.#is('bytes behind extents') ? [uint16(0)] : [];
      this.#chunk(request, wide ? 6 : 5, last ? 1 : 0, ...head, ...body, ...rest);
    }
  }

  /** Zeroes at the end as such, everything else as data. */
  #extents(offset: bigint, length: bigint): [bytes: bigint, status: number][] {
    if (this.#is('says zero of all')) return [[length, 2]];
    if (this.#is('reserved status bits')) return [[length, 4]];
    if (this.#is('neighbours alike') && length > 1024n) {
      return [
        [512n, 0],
        [length - 512n, 0],
      ];
    }
    if (this.#is('empty extent')) {
      return [
        [0n, 1],
        [length, 0],
      ];
    }
    if (this.#is('too many extents') && length > 1024n) {
      return [
        [length, 0],
        [512n, 1],
      ];
    }
    const zeroFrom = BigInt(SIZE) - 4096n;
    const empty = this.#server.memory.subarray(Number(zeroFrom)).every((byte) => byte === 0);
    if (!empty || offset + length <= zeroFrom || offset >= zeroFrom) return [[length, 0]];
    return [
      [zeroFrom - offset, 0],
      [length - (zeroFrom - offset), 3],
    ];
  }

  #done(request: Request): void {
    if (this.#style === 'simple' || (this.#style === 'structured' && !this.#is('success in chunks'))) {
      this.#simple(request, 0);
      return;
    }
    if (this.#style === 'extended' && this.#is('simple replies with extended')) {
      this.#simple(request, 0);
      return;
    }
    this.#chunk(request, 0, 1, this.#is('NONE with payload') ? Buffer.alloc(4) : Buffer.alloc(0));
  }

  #fail(request: Request, errno: number): void {
    const said = this.#is('error numbers of its own') ? errno + 1000 : errno;
    if (this.#style === 'simple') {
      this.#simple(request, said);
      if (this.#is('data behind errors') && request.command === READ && request.flags === 0) this.#send(Buffer.alloc(request.length));
      return;
    }
    const unstructured = this.#is('simple errors') && request.command !== READ && this.#style === 'structured';
    if (unstructured || (this.#is('simple errors to reads') && this.#style === 'structured' && request.command === READ)) {
      this.#simple(request, said);
      return;
    }
    const text = Buffer.from('no');
    const length = this.#is('error message overruns') ? 100 : text.length;
    this.#chunk(request, 0x8001, 1, uint32(said), uint16(length), text);
  }

  #simple({ cookie }: Request, errno: number): void {
    this.#send(
      uint32(this.#is('chunks unasked') ? 0x668e33ef : 0x67446698),
      uint32(this.#is('chunks unasked') ? 0x10000 : errno),
      uint64(cookie),
    );
    if (this.#is('chunks unasked')) this.#send(uint32(0));
  }

  #chunk({ cookie, offset }: Request, type: number, flags: number, ...payload: Buffer[]): void {
    const body = Buffer.concat(payload);
    if (this.#style !== 'extended') {
      this.#send(uint32(0x668e33ef), uint16(flags), uint16(type), uint64(cookie), uint32(body.length), body);
      return;
    }
    const said = this.#is('offsets are not echoed') ? 0n : this.#is('offsets are signed') ? offset & 0x7fffffffffffffffn : offset;
    this.#send(uint32(0x6e8a278c), uint16(flags), uint16(type), uint64(cookie), uint64(said), uint64(BigInt(body.length)), body);
  }
}
