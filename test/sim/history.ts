// What the hosts saw: every operation with its invocation and its completion, numbered in one order, and the faults that
// matter to what was promised. Only recorded here; judged by the checker. Knows nothing of gateways and nodes.
import assert from 'node:assert/strict';

/** Later than everything: an operation without a completion. */
export const NEVER = Number.POSITIVE_INFINITY;

export type OperationKind = 'read' | 'write' | 'zeroes' | 'flush' | 'status';

/** A class and not a literal: all have one hidden shape, which is what keeps long histories quick. */
export class Operation {
  /** At least 1; what a write puts into its blocks. */
  readonly id: number;
  readonly session: number;
  readonly volume: string;
  readonly kind: OperationKind;
  readonly block: number;
  readonly count: number;
  readonly fua: boolean;
  /** Places in the order of all that happened. */
  readonly invoked: number;
  completed = NEVER;
  readonly invokedMs: number;
  completedMs = NEVER;
  /** Of the answer; 0: success. Null: none came (yet, or ever: its gateway crashed). */
  errno: number | null = null;
  /** A read that succeeded: per block the number of the operation that wrote it, 0 or GARBAGE; block status: 0 or UNSEEN. */
  values: Int32Array | null = null;

  constructor(id: number, intent: Intent, invoked: number, invokedMs: number) {
    this.id = id;
    this.session = intent.session;
    this.volume = intent.volume;
    this.kind = intent.kind;
    this.block = intent.block;
    this.count = intent.count;
    this.fua = intent.fua;
    this.invoked = invoked;
    this.invokedMs = invokedMs;
  }
}

/**
 * gateway-crash: its memory is gone. power-loss: a node's cache is gone. takeover: a mirror has by a journal what was flushed, and no
 * more. failover: a mirror has taken over from a target that does not answer, or refuses. return: the active target answers again.
 */
export type MarkKind = 'gateway-crash' | 'power-loss' | 'takeover' | 'failover' | 'return';

export interface Mark {
  readonly kind: MarkKind;
  readonly at: number;
  readonly atMs: number;
  /** power-loss: the node. */
  readonly node: string;
  /** power-loss: volumes for which the node was, or may just have become or ceased to be, the active target. */
  readonly activeFor: readonly string[];
}

export interface Intent {
  session: number;
  volume: string;
  kind: OperationKind;
  block: number;
  count: number;
  fua: boolean;
}

export class History {
  readonly operations: Operation[] = [];
  readonly marks: Mark[] = [];
  #order = 0;

  invoke(intent: Intent, nowMs: number): Operation {
    const operation = new Operation(this.operations.length + 1, intent, this.#next(), nowMs);
    this.operations.push(operation);
    return operation;
  }

  complete(operation: Operation, errno: number, values: Int32Array | null, nowMs: number): void {
    assert(operation.errno === null, `operation ${operation.id} was answered twice`);
    operation.completed = this.#next();
    operation.completedMs = nowMs;
    operation.errno = errno;
    operation.values = values;
  }

  mark(kind: MarkKind, node: string, activeFor: readonly string[], nowMs: number): void {
    this.marks.push({ kind, at: this.#next(), atMs: nowMs, node, activeFor });
  }

  #next(): number {
    this.#order += 1;
    return this.#order;
  }
}
