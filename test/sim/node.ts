// A simulated storage node: an NBD server over simulated disks that may be cut off, hang, stop, lose its power and come
// back. Requests whose connection is gone may still land (zombies), on a plain node up to `zombieMs` after the gateway's
// end closed; a fencing node (an agent) lets a newcomer in only after them. Promises what the protocol promises, no more.
import assert from 'node:assert/strict';
import type { WireAddress, WireHandlers } from '../../gateway/wire.js';
import type { SimAgent } from './agent.js';
import { SimDisk, type WriteTicket } from './disk.js';
import { CMD, CMD_FLAG, NBD_ERROR } from './nbd-words.js';
import type { Connection, End, Listening } from './network.js';
import { NodeConnection } from './node-connection.js';
import type { NodeFeatures } from './node-handshake.js';
import type { NodeRequest } from './node-request.js';
import type { Random } from './random.js';
import type { Scheduler, SimEvent } from './scheduler.js';

export interface NodeOptions {
  name: string;
  address: WireAddress;
  features: NodeFeatures;
  /** An agent. */
  fencing: boolean;
  /** A request lands at most this long after the gateway's end of its connection closed. */
  zombieMs: number;
  /** Each request takes up to this long to be executed, and the same again to be answered. */
  serviceMs: number;
  scheduler: Scheduler;
  random: Random;
  /** Told of what happens here, by name, for coverage and for faults that wait for a moment. */
  moment(name: string): void;
  trace(line: () => string): void;
}

interface Newcomer {
  connection: NodeConnection;
  admit: () => void;
}

export class SimNode implements Listening {
  readonly name: string;
  readonly address: WireAddress;
  readonly features: NodeFeatures;
  readonly disks = new Map<string, SimDisk>();
  readonly random: Random;
  /** Requests take so many times longer. */
  slowness = 1;
  /** Its disks refused something at some time: it can spare nobody an error. */
  refused = false;
  /** The other side of its program: what it does for placement. */
  agent: SimAgent | null = null;
  /** Answers to come that are given twice, the second time later. */
  stutters = 0;
  readonly #options: NodeOptions;
  readonly #scheduler: Scheduler;
  readonly #connections = new Set<NodeConnection>();
  /** In the node and not answered; those of gone connections too. */
  readonly #requests = new Map<NodeRequest, { connection: NodeConnection; event: SimEvent | null }>();
  #newcomers: Newcomer[] = [];
  #count = 0;
  #up = true;
  #hung = false;
  #leaving = false;
  #traps = 0;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#scheduler = options.scheduler;
    this.random = options.random;
    this.name = options.name;
    this.address = options.address;
    this.features = options.features;
  }

  /** It is an agent. */
  get fencing(): boolean {
    return this.#options.fencing;
  }

  get up(): boolean {
    return this.#up;
  }

  get hung(): boolean {
    return this.#hung;
  }

  /** Requests of connections that the gateway, or one before it, has given up are still to land. */
  get hasOldRequests(): boolean {
    for (const waiting of this.#requests.values()) if (waiting.connection.line.gatewayClosedMs !== null) return true;
    return false;
  }

  /** Connections to an export, or that ask for it. */
  clientsOf(exportName: string): string[] {
    return [...this.#connections].filter((each) => !each.gone && each.exportName === exportName).map(({ id }) => `connection ${id}`);
  }

  addExport(name: string, sizeBytes: number): SimDisk {
    const disk = new SimDisk(sizeBytes, this.random.fork(name));
    this.disks.set(name, disk);
    return disk;
  }

  // What faults do.

  /** The next `writes` writes to arrive are executed much later than others. */
  trapWrites(writes: number): void {
    this.#traps = writes;
  }

  /** The program stops and does not end: connects succeed, nothing is answered. */
  hang(): void {
    if (!this.#up || this.#hung) return;
    this.#hung = true;
    for (const connection of this.#connections) connection.pause();
    for (const waiting of this.#requests.values()) waiting.event?.cancel();
  }

  resume(): void {
    if (!this.#hung) return;
    this.#hung = false;
    this.agent?.resume();
    for (const connection of this.#connections) connection.resume();
    for (const request of this.#requests.keys()) this.#scheduleStep(request);
    this.#letIn();
  }

  /** Answers ESHUTDOWN to what comes from now on, and ends when everything is answered. */
  leave(): void {
    if (!this.#up || this.#hung) return;
    this.#leaving = true;
    this.#leaveIfDone();
  }

  /** The program ends at once; with `power` the disk's cache is lost too. Gives how many blocks went back. */
  kill(power: boolean): number {
    if (this.#up) {
      for (const request of this.#requests.keys()) {
        if (request.writes && this.random.chance(0.3) && !this.#isTooOld(request)) request.step(this.random, this.#mustCover(request));
      }
      this.#stop();
    }
    let lost = 0;
    if (power) for (const disk of this.disks.values()) lost += disk.losePower();
    return lost;
  }

  /** It runs again; one that was still leaving ends first. */
  start(): void {
    if (this.#up && this.#leaving) this.#stop();
    this.#up = true;
    this.#leaving = false;
  }

  /** Disks that were exchanged are the right ones again; a node that runs restarts for that. */
  putDisksBack(): void {
    const exchanged = [...this.disks.values()].filter(({ putBack }) => putBack !== null);
    if (exchanged.length === 0) return;
    const ran = this.#up;
    this.kill(false);
    for (const { putBack } of exchanged) putBack!();
    if (ran) this.start();
  }

  // What connections ask.

  accept(end: End, line: Connection): WireHandlers | null {
    if (!this.#up || this.#leaving) return null;
    const connection = new NodeConnection(this, end, line);
    this.#connections.add(connection);
    if (this.#hung) connection.pause();
    return connection;
  }

  /** Numbers what happens here, in order. */
  count(): number {
    this.#count += 1;
    return this.#count;
  }

  admit(connection: NodeConnection, admit: () => void): void {
    this.#newcomers.push({ connection, admit });
    this.#letIn();
  }

  take(request: NodeRequest, connection: NodeConnection): void {
    this.#requests.set(request, { connection, event: null });
    this.#tell(request, 'takes');
    if (this.#leaving) request.errno = NBD_ERROR.SHUTDOWN;
    else if (request.writes && this.#traps > 0) {
      this.#traps -= 1;
      request.trapped = true;
      this.#options.moment('write-trapped');
    }
    this.#scheduleStep(request);
  }

  connectionClosed(connection: NodeConnection): void {
    this.#connections.delete(connection);
    for (const [request, waiting] of this.#requests) {
      if (waiting.connection !== connection) continue;
      request.ticket.connection = null;
      if (!request.writes || this.random.chance(0.3)) {
        waiting.event?.cancel();
        request.abandon(this.count());
        this.#requests.delete(request);
      } else if (!this.#hung && !request.trapped && this.random.chance(0.5)) {
        waiting.event?.cancel();
        request.trapped = true;
        this.#scheduleStep(request);
      }
    }
    this.#forgetFlushScope(connection.id);
    this.#letIn();
    this.#leaveIfDone();
  }

  #stop(): void {
    this.#up = false;
    this.#hung = false;
    this.agent?.stop();
    for (const [request, waiting] of this.#requests) {
      waiting.event?.cancel();
      request.abandon(this.count());
    }
    this.#requests.clear();
    this.#newcomers = [];
    for (const connection of this.#connections) {
      connection.line.cut();
      connection.abandon();
      this.#forgetFlushScope(connection.id);
    }
    this.#connections.clear();
  }

  /** After a connection is gone, any flush covers what it wrote, answered or not: all connections share one file. */
  #forgetFlushScope(connection: number): void {
    for (const disk of this.disks.values()) disk.disown(connection);
  }

  #leaveIfDone(): void {
    if (this.#up && this.#leaving && this.#requests.size === 0) this.#stop();
  }

  #scheduleStep(request: NodeRequest): void {
    const waiting = this.#requests.get(request)!;
    waiting.event = this.#scheduler.after(this.#delayFor(request), () => this.#step(request));
  }

  #delayFor(request: NodeRequest): number {
    const { random } = this;
    if (!request.trapped) return random.range(0, this.#options.serviceMs) * this.slowness;
    return random.range(this.#options.serviceMs, this.#options.zombieMs * random.range(0.05, 1));
  }

  #step(request: NodeRequest): void {
    const { connection } = this.#requests.get(request)!;
    if (this.#isTooOld(request)) {
      this.#tell(request, 'drops');
      this.#ended(request);
      connection.drop();
      return;
    }
    if (connection.line.gatewayClosedMs !== null && request.writes && !request.executed) this.#options.moment('zombie-landed');
    request.trapped = false;
    if (!request.executed && !this.#carryOut(request)) {
      this.#scheduleStep(request);
      return;
    }
    request.executed = true;
    const waiting = this.#requests.get(request)!;
    waiting.event = this.#scheduler.after(this.random.range(0, this.#options.serviceMs) * this.slowness, () => {
      request.ticket.answeredAt = this.count();
      this.#ended(request);
      connection.answer(request);
      if (this.stutters === 0) return;
      this.stutters -= 1;
      this.#scheduler.after(this.random.range(0, 5), () => connection.repeat(request));
    });
  }

  /** Its connection was closed so long ago that it does not land any more. */
  #isTooOld(request: NodeRequest): boolean {
    const closedMs = this.#requests.get(request)!.connection.line.gatewayClosedMs;
    return closedMs !== null && this.#scheduler.nowMs > closedMs + this.#options.zombieMs;
  }

  /** False: there is more of it to do, later. */
  #carryOut(request: NodeRequest): boolean {
    if (request.errno !== 0 || this.#refuses(request)) return true;
    if (request.command === CMD.FLUSH) this.#options.moment('flush-executed');
    const over = request.step(this.random, this.#mustCover(request));
    this.#tell(request, over ? 'does' : 'does part of');
    return over;
  }

  #tell(request: NodeRequest, what: string): void {
    this.#options.trace(() => {
      const { connection, block, count, errno, flags } = request;
      const name = Object.keys(CMD).find((each) => CMD[each as keyof typeof CMD] === request.command);
      const fua = (flags & CMD_FLAG.FUA) !== 0 ? ' FUA' : '';
      const writer = request.data === null ? '' : ` of write #${request.data.readUInt32LE(0)}`;
      const state = `${request.trapped ? ' (held up)' : ''}${errno === 0 ? '' : ` error ${errno}`}`;
      return `${this.name}/${connection} ${what} ${name} ${block}+${count}${fua}${writer}${state}`;
    });
  }

  /** A fast zero that would be slow. */
  #refuses(request: NodeRequest): boolean {
    if ((request.flags & CMD_FLAG.FAST_ZERO) === 0 || request.refusalDrawn) return false;
    // Drawn once, before anything is done: a refusal leaves the range as it was.
    request.refusalDrawn = true;
    if (this.random.chance(0.5)) return false;
    request.errno = NBD_ERROR.NOTSUP;
    return true;
  }

  #mustCover(flush: NodeRequest): (ticket: WriteTicket) => boolean {
    // A connection whose client is gone may linger, for what it still has to do: it shares its file with the others like one that has ended.
    const left = new Set([...this.#connections].filter(({ line }) => line.gatewayClosedMs !== null).map(({ id }) => id));
    return ({ answeredAt, connection }) =>
      answeredAt < flush.arrivedAt &&
      (this.features.multiConn || connection === null || connection === flush.ticket.connection || left.has(connection));
  }

  #ended(request: NodeRequest): void {
    assert(this.#requests.delete(request));
    this.#letIn();
    this.#leaveIfDone();
  }

  /** Newcomers of a fencing node wait while requests of connections that the gateway has given up are still here. */
  #letIn(): void {
    if (this.#hung || this.#newcomers.length === 0) return;
    if (this.#options.fencing && this.#hasZombies()) return;
    const newcomers = this.#newcomers;
    this.#newcomers = [];
    for (const { connection, admit } of newcomers) if (!connection.gone) admit();
  }

  #hasZombies(): boolean {
    for (const connection of this.#connections) if (connection.line.gatewayClosedMs !== null) return true;
    return this.hasOldRequests;
  }
}
