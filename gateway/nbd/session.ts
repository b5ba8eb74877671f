// One host's connection after the handshake: reads requests out of chunks, has them validated, submits them to the
// export's device and writes the replies, in whatever order they complete, once per turn of the event loop. Bounded both
// ways: while too much is in flight or the host does not take its replies, no more is read. Allocates nothing per request
// beyond its payload. Never decides whether a request is allowed (request-rules.ts does).
import assert from 'node:assert/strict';
import type { Wire } from '../wire.js';
import { allocationRuns, BLOCK_STATUS_BYTES_MAX, encodeBlockStatus } from './block-status.js';
import { decodeExtendedRequest, decodeRequest, RequestHeader } from './codec.js';
import { COMMAND, COMMAND_FLAG, SIZE } from './constants.js';
import { CONTEXT_SELECTION_BYTES_MAX, parseContextSelection } from './context-selection.js';
import type { ServerCounters } from './counters.js';
import type { SelectedContext } from './meta-context.js';
import { LARGE_READ_BYTES, MemoryShare, type SessionMemory } from './memory-share.js';
import { Outbox } from './outbox.js';
import { PayloadSlab, SLAB_PAYLOAD_BYTES_MAX } from './payload-slab.js';
import { REFUSAL, type Refusal, refusalOfDevice } from './refusal.js';
import { Replies } from './replies.js';
import { RequestRules, validateRequest } from './request-rules.js';
import type { Agreement } from './server-handshake.js';
import { type RequestOwner, SessionRequest } from './session-request.js';

/** Replies the wire may hold before no more requests are read, where the session's share of the memory is no less. */
const WIRE_QUEUE_BYTES_MAX = 4 * 1024 * 1024;

/** Requests answered without the device before others have their turn: a flood of them costs nothing but time. */
const UNAIDED_MAX = 64;

/** What the next bytes are: a header, a header that waits for room, a WRITE's payload, a BLOCK_STATUS's, a payload nobody wants. */
const STAGE = { HEADER: 0, ADMISSION: 1, PAYLOAD: 2, SELECTION: 3, DRAIN: 4 } as const;
/** open: requests are read. closing: what is in flight is answered, then the wire is ended. ended: it was. gone: it is closed. */
const PHASE = { OPEN: 0, CLOSING: 1, ENDED: 2, GONE: 3 } as const;

/** What sessions of a server share. */
export interface SessionWorld {
  counters: ServerCounters;
  memory: SessionMemory;
  /** Requests of one session that are not answered yet; more are not read. */
  inFlightMax: number;
  /** Runs it when others had their turn. */
  later(run: () => void): void;
}

export interface SessionHooks {
  /** The wire is about to be ended, for this reason; it should close soon. */
  ended(reason: string): void;
  /** The wire is gone and every request is answered: nothing follows. */
  over(): void;
}

export class Session implements RequestOwner {
  #wire: Wire;
  #device: Agreement['export']['device'];
  #rules: RequestRules;
  /** What BLOCK_STATUS tells; and what the one in `#header` asks for. */
  #contexts: readonly SelectedContext[];
  #asked: readonly SelectedContext[];
  #extended: boolean;
  #requestBytes: number;
  #lane: number;
  #counters: ServerCounters;
  #memory: MemoryShare;
  #inFlightMax: number;
  #hooks: SessionHooks;
  #outbox = new Outbox();
  #replies: Replies;
  #slab = new PayloadSlab();
  #slots: SessionRequest[] = [];
  #inFlight = 0;
  #inFlightBytes = 0;
  #phase: number = PHASE.OPEN;
  #closingReason = '';
  #shuttingDown = false;

  #stage: number = STAGE.HEADER;
  #header = new RequestHeader();
  /** A header that came in pieces, and how much of it is here. */
  #headerBytes = Buffer.alloc(SIZE.EXTENDED_REQUEST);
  #headerFilled = 0;
  /** PAYLOAD: the request it belongs to, and how much of its data is here. */
  #writing: SessionRequest | null = null;
  #payloadFilled = 0;
  /** Bytes of payloads that came, and of replies that were given to the wire. */
  #payloadBytes = 0;
  #writtenBytes = 0;
  /** SELECTION: what of it is here. */
  #selection = Buffer.alloc(0);
  #selectionFilled = 0;
  /** DRAIN: what is still to be skipped, and how the request is answered then. */
  #drainBytes = 0;
  #drainRefusal: Refusal | null = null;

  /** Nothing is read: there is no room, or the host does not take its replies (`#wireFull`). What came anyway is kept. */
  #stalled = false;
  #wireFull = false;
  /** It did enough for now (`#unaided`), and is stalled until others had their turn. */
  #resting = false;
  #unaided = 0;
  #later: SessionWorld['later'];
  #backlog: Buffer[] = [];
  /** The host sends no more: close once the backlog is done. */
  #peerEnded = false;
  #turnQueued = false;
  #turn = (): void => this.#takeTurn();

  constructor(wire: Wire, agreement: Agreement, lane: number, world: SessionWorld, hooks: SessionHooks) {
    this.#wire = wire;
    this.#device = agreement.export.device;
    this.#rules = new RequestRules(agreement.export, agreement.headers, agreement.contexts.length > 0);
    this.#contexts = this.#asked = agreement.contexts;
    this.#extended = agreement.headers === 'extended';
    this.#requestBytes = this.#extended ? SIZE.EXTENDED_REQUEST : SIZE.REQUEST;
    this.#replies = new Replies(this.#outbox, agreement.headers);
    this.#lane = lane;
    this.#counters = world.counters;
    this.#memory = new MemoryShare(world.memory, () => this.#queueTurn());
    this.#inFlightMax = world.inFlightMax;
    this.#later = world.later;
    this.#hooks = hooks;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** What is held until the host takes its replies, and sends the rest of the payload it began. */
  get awaitedBytes(): number {
    return this.#wire.queuedBytes + (this.#writing?.cost ?? 0);
  }

  /** What the host sent of payloads and took of replies since the start. */
  get movedBytes(): number {
    return this.#payloadBytes + this.#writtenBytes - this.#wire.queuedBytes;
  }

  /** Payloads of requests in flight, and replies that have not left. */
  get #heldBytes(): number {
    return this.#inFlightBytes + this.#outbox.bytes + this.#wire.queuedBytes;
  }

  receive(chunk: Buffer): void {
    if (this.#phase !== PHASE.OPEN) return;
    if (this.#stalled) {
      this.#backlog.push(chunk);
      return;
    }
    this.#unaided = 0;
    this.#consume(chunk);
    this.#queueTurn();
  }

  /** The wire has sent what it held. */
  drained(): void {
    this.#wireFull = false;
    this.#queueTurn();
  }

  /** The host sends no more but may still read: it gets its answers, as after DISC. */
  peerEnded(): void {
    this.#peerEnded = true;
    this.#queueTurn();
  }

  /** The wire is closed. */
  closed(): void {
    this.#phase = PHASE.GONE;
    this.#outbox.clear();
    this.#backlog.length = 0;
    this.#memory.leave();
    this.#dropPartialWrite();
    this.#checkOver();
  }

  /** New requests get ESHUTDOWN, those in flight are answered, then the wire is ended. */
  shutDown(): void {
    this.#shuttingDown = true;
    this.#queueTurn();
  }

  /** Called by a request when the device completed it. */
  finish(request: SessionRequest, errno: number): void {
    if (errno === 0 && this.#phase < PHASE.ENDED && request.advance()) {
      queueMicrotask(() => this.#goOn(request));
      return;
    }
    if (this.#phase < PHASE.ENDED) {
      this.#answer(request, errno);
      this.#queueTurn();
    }
    this.#release(request);
    this.#checkOver();
  }

  /** Submits the next part of a long request, once the device is done with the one before. */
  #goOn(request: SessionRequest): void {
    if (this.#phase < PHASE.ENDED) {
      this.#device.submit(request);
    } else {
      this.#release(request);
      this.#checkOver();
    }
  }

  #answer(request: SessionRequest, errno: number): void {
    if (errno !== 0) {
      this.#counters.errors[request.command] += 1;
      this.#replies.refuse(request, refusalOfDevice(errno, request.fast));
    } else if (request.command === COMMAND.READ) {
      assert(request.data?.length === request.length, 'a device gives as many bytes as were asked for');
      this.#replies.data(request, request.offset, request.data);
    } else if (request.command === COMMAND.BLOCK_STATUS) {
      this.#replies.blockStatus(
        request,
        request.contexts.map((context) => this.#statusOf(request, context)),
      );
    } else {
      this.#replies.done(request, false);
    }
  }

  #statusOf({ extents, offset, length, one }: SessionRequest, { id, known }: SelectedContext): Buffer {
    assert(known !== null || extents !== null, 'a device gives extents');
    const runs = known === null ? allocationRuns(extents!) : known.runs(offset, length);
    return encodeBlockStatus(runs, { contextId: id, length, blockBytes: this.#rules.blockBytes, one, wide: this.#extended });
  }

  /** Understands as much of `chunk` as there is room for; the rest waits in the backlog. */
  #consume(chunk: Buffer): void {
    let at = 0;
    while (this.#phase === PHASE.OPEN) {
      switch (this.#stage) {
        case STAGE.HEADER:
          if (at === chunk.length) return;
          if (this.#unaided >= UNAIDED_MAX) {
            this.#rest(chunk.subarray(at));
            return;
          }
          at = this.#takeHeader(chunk, at);
          break;
        case STAGE.ADMISSION:
          if (!this.#admit()) {
            this.#stall();
            this.#backlog.unshift(chunk.subarray(at));
            return;
          }
          break;
        case STAGE.PAYLOAD:
          if (at === chunk.length) return;
          at = this.#takePayload(chunk, at);
          break;
        case STAGE.SELECTION:
          if (at === chunk.length) return;
          at = this.#takeSelection(chunk, at);
          break;
        default:
          if (at === chunk.length) return;
          at = this.#drain(chunk, at);
      }
    }
  }

  /** `chunk` is for later. */
  #rest(chunk: Buffer): void {
    this.#resting = true;
    this.#stall();
    this.#backlog.unshift(chunk);
    this.#later(() => {
      this.#resting = false;
      this.#unaided = 0;
      this.#queueTurn();
    });
  }

  #takeHeader(chunk: Buffer, at: number): number {
    let from = chunk;
    let start = at;
    const size = this.#requestBytes;
    if (this.#headerFilled > 0 || chunk.length - at < size) {
      const taken = Math.min(size - this.#headerFilled, chunk.length - at);
      chunk.copy(this.#headerBytes, this.#headerFilled, at, at + taken);
      this.#headerFilled += taken;
      if (this.#headerFilled < size) return at + taken;
      this.#headerFilled = 0;
      from = this.#headerBytes;
      start = 0;
      at += taken;
    } else {
      at += size;
    }
    const decode = this.#extended ? decodeExtendedRequest : decodeRequest;
    if (decode(from, start, this.#header)) this.#stage = STAGE.ADMISSION;
    else this.#violation(`wrong magic ${from.toString('hex', start, start + 4)} where a request should be`);
    return at;
  }

  /** Decides over the request in `#header`. False: it is a good one, but there is no room for it yet. */
  #admit(): boolean {
    const header = this.#header;
    if (header.command === COMMAND.DISC) {
      this.#counters.requests[COMMAND.DISC] += 1;
      this.#close('the host disconnected');
      return true;
    }
    if (this.#beginSelection()) return true;
    const refusal = this.#shuttingDown ? REFUSAL.shuttingDown : validateRequest(header, this.#rules);
    const nothingToDo = header.command === COMMAND.CACHE || (header.length === 0 && header.command !== COMMAND.FLUSH);
    if (refusal !== null || nothingToDo) {
      this.#answerWithoutDevice(refusal);
      return true;
    }
    const cost = costOf(header, this.#asked.length);
    if (this.#inFlight >= this.#inFlightMax || !this.#memory.admits(this.#heldBytes, cost, isLargeRead(header.command, cost))) return false;
    this.#count(header.command, header.length);
    const request = this.#slots.pop() ?? new SessionRequest(this, this.#lane);
    request.begin(header, cost);
    this.#inFlight += 1;
    this.#inFlightBytes += cost;
    if (header.command === COMMAND.WRITE) {
      this.#writing = request;
      this.#payloadFilled = 0;
      this.#stage = STAGE.PAYLOAD;
    } else {
      this.#stage = STAGE.HEADER;
      this.#begin(request);
    }
    return true;
  }

  #begin(request: SessionRequest): void {
    if (request.command === COMMAND.BLOCK_STATUS) {
      request.contexts = this.#asked;
      this.#asked = this.#contexts;
      if (request.contexts.every(({ known }) => known !== null)) {
        this.#unaided += 1;
        request.complete(0);
        return;
      }
    }
    this.#device.submit(request);
  }

  /** A request that is refused (with its payload, if it has one) or that needs nothing done. */
  #answerWithoutDevice(refusal: Refusal | null): void {
    const header = this.#header;
    this.#unaided += 1;
    this.#stage = STAGE.HEADER;
    this.#asked = this.#contexts;
    const flagged = this.#extended && (header.flags & COMMAND_FLAG.PAYLOAD_LEN) !== 0;
    const hasPayload = header.command === COMMAND.WRITE || flagged;
    if (!hasPayload || header.length === 0) {
      this.#answerHeader(refusal);
    } else if (this.#extended && !flagged) {
      // By its flags it has no payload, by its command it must have one: taking either for granted would take data for requests or requests for data.
      this.#violation('a WRITE without the flag PAYLOAD_LEN, with extended headers');
    } else if (header.length <= 2 * this.#rules.payloadBytesMax) {
      this.#drainBytes = header.length;
      this.#drainRefusal = refusal;
      this.#stage = STAGE.DRAIN;
    } else {
      this.#violation(`a payload of ${header.length} bytes`);
    }
  }

  #answerHeader(refusal: Refusal | null): void {
    const header = this.#header;
    this.#count(header.command, 0);
    if (refusal === null) this.#replies.done(header, header.command === COMMAND.READ || header.command === COMMAND.BLOCK_STATUS);
    else {
      if (header.command < this.#counters.errors.length) this.#counters.errors[header.command] += 1;
      this.#replies.refuse(header, refusal);
    }
  }

  #takePayload(chunk: Buffer, at: number): number {
    const request = this.#writing!;
    const wanted = request.length - this.#payloadFilled;
    const taken = Math.min(wanted, chunk.length - at);
    if (taken === request.length && taken > SLAB_PAYLOAD_BYTES_MAX) {
      request.data = chunk.subarray(at, at + taken);
    } else {
      request.data ??= this.#slab.take(request.length);
      chunk.copy(request.data, this.#payloadFilled, at, at + taken);
    }
    this.#payloadFilled += taken;
    this.#payloadBytes += taken;
    if (taken === wanted) {
      this.#stage = STAGE.HEADER;
      this.#writing = null;
      this.#device.submit(request);
    }
    return at + taken;
  }

  /** A BLOCK_STATUS that names its contexts: its real length is in the payload. */
  #beginSelection(): boolean {
    const header = this.#header;
    const selects = this.#extended && header.command === COMMAND.BLOCK_STATUS && (header.flags & COMMAND_FLAG.PAYLOAD_LEN) !== 0;
    if (!selects || this.#rules.missing[COMMAND.BLOCK_STATUS] !== null) return false;
    if (header.length === 0 || header.length > CONTEXT_SELECTION_BYTES_MAX) {
      this.#answerWithoutDevice(REFUSAL.badSelection);
    } else {
      this.#selection = Buffer.alloc(header.length);
      this.#selectionFilled = 0;
      this.#stage = STAGE.SELECTION;
    }
    return true;
  }

  #takeSelection(chunk: Buffer, at: number): number {
    const taken = Math.min(this.#selection.length - this.#selectionFilled, chunk.length - at);
    chunk.copy(this.#selection, this.#selectionFilled, at, at + taken);
    this.#selectionFilled += taken;
    if (this.#selectionFilled < this.#selection.length) return at + taken;
    const selection = parseContextSelection(this.#selection, this.#contexts);
    const header = this.#header;
    if (selection === null) {
      this.#stage = STAGE.HEADER;
      this.#answerHeader(REFUSAL.badSelection);
    } else {
      header.length = selection.length;
      this.#asked = selection.contexts;
      header.flags &= ~COMMAND_FLAG.PAYLOAD_LEN;
      this.#stage = STAGE.ADMISSION;
    }
    return at + taken;
  }

  #drain(chunk: Buffer, at: number): number {
    const drained = Math.min(this.#drainBytes, chunk.length - at);
    this.#drainBytes -= drained;
    if (this.#drainBytes === 0) {
      this.#stage = STAGE.HEADER;
      this.#answerHeader(this.#drainRefusal);
    }
    return at + drained;
  }

  #count(command: number, bytes: number): void {
    if (command >= this.#counters.requests.length) {
      this.#counters.unknownCommands += 1;
      return;
    }
    this.#counters.requests[command] += 1;
    this.#counters.bytes[command] += bytes;
  }

  #release(request: SessionRequest): void {
    this.#inFlight -= 1;
    this.#inFlightBytes -= request.cost;
    if (isLargeRead(request.command, request.cost)) this.#memory.read(request.cost);
    request.release();
    this.#slots.push(request);
  }

  #queueTurn(): void {
    if (this.#turnQueued || this.#phase >= PHASE.ENDED) return;
    this.#turnQueued = true;
    queueMicrotask(this.#turn);
  }

  /** The end of a turn: sends what was gathered, reads on if there is room again, closes if all is done. */
  #takeTurn(): void {
    this.#turnQueued = false;
    if (this.#phase >= PHASE.ENDED) return;
    if (this.#outbox.bytes > 0) this.#flush();
    if (this.#stalled && !this.#wireFull && !this.#resting) this.#readOn();
    if (this.#phase === PHASE.OPEN) {
      if (this.#peerEnded && this.#backlog.length === 0) this.#close('the host closed its side');
      else if (this.#shuttingDown && this.#inFlight === 0) this.#close('the server is shutting down');
    }
    if (this.#phase === PHASE.CLOSING && this.#inFlight === 0 && this.#outbox.bytes === 0) this.#end();
    this.#memory.tell(this.#heldBytes);
  }

  #flush(): void {
    this.#writtenBytes += this.#outbox.bytes;
    if (this.#outbox.flush(this.#wire) || this.#wire.queuedBytes <= Math.min(WIRE_QUEUE_BYTES_MAX, this.#memory.bytes)) return;
    this.#wireFull = true;
    this.#stall();
  }

  #stall(): void {
    if (this.#stalled || this.#phase !== PHASE.OPEN) return;
    this.#stalled = true;
    this.#wire.pause();
  }

  #readOn(): void {
    this.#stalled = false;
    while (!this.#stalled && this.#phase === PHASE.OPEN && this.#backlog.length > 0) this.#consume(this.#backlog.shift()!);
    if (!this.#stalled) this.#wire.resume();
    if (this.#outbox.bytes > 0) this.#queueTurn();
  }

  /** Reads no more requests. What still arrives is dropped, so that the host's closing is noticed. */
  #close(reason: string): void {
    this.#phase = PHASE.CLOSING;
    this.#closingReason = reason;
    this.#backlog.length = 0;
    this.#memory.leave();
    this.#dropPartialWrite();
    if (this.#stalled) this.#wire.resume();
    this.#stalled = false;
    this.#queueTurn();
  }

  #end(): void {
    this.#phase = PHASE.ENDED;
    this.#hooks.ended(this.#closingReason);
    this.#wire.end();
  }

  #violation(what: string): void {
    this.#counters.violations += 1;
    this.#phase = PHASE.ENDED;
    this.#memory.leave();
    this.#dropPartialWrite();
    this.#hooks.ended(`the host broke the protocol: ${what}`);
    this.#wire.destroy();
  }

  #dropPartialWrite(): void {
    if (this.#writing === null) return;
    this.#release(this.#writing);
    this.#writing = null;
  }

  #checkOver(): void {
    if (this.#phase !== PHASE.GONE) return;
    this.#memory.tell(this.#inFlightBytes);
    if (this.#inFlight === 0) this.#hooks.over();
  }
}

function isLargeRead(command: number, cost: number): boolean {
  return cost > LARGE_READ_BYTES && command === COMMAND.READ;
}

/** What a request holds in memory until it is answered: its data, or the largest status reply in so many contexts. */
function costOf(header: RequestHeader, contexts: number): number {
  if (header.command === COMMAND.READ || header.command === COMMAND.WRITE) return header.length;
  return header.command === COMMAND.BLOCK_STATUS ? contexts * BLOCK_STATUS_BYTES_MAX : 0;
}
