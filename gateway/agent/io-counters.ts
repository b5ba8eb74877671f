// What an agent's devices did, counted in typed arrays so that counting costs nothing on the I/O path.
// Read only when metrics are scraped.
import { OP, type Op } from '../../replication/device.js';

const OPERATIONS = Object.keys(OP).length;

export interface OperationCount {
  operation: string;
  completed: number;
  errors: number;
  bytes: number;
}

export class IoCounters {
  #completed = new Float64Array(OPERATIONS);
  #errors = new Float64Array(OPERATIONS);
  #bytes = new Float64Array(OPERATIONS);
  /** Requests submitted and not yet answered. */
  inFlight = 0;

  /** One request was answered: `bytes` is its length, counted only when `errno` is 0, and not of a question about extents. */
  count(op: Op, bytes: number, errno: number): void {
    this.#completed[op] += 1;
    if (errno !== 0) this.#errors[op] += 1;
    else if (op !== OP.STATUS) this.#bytes[op] += bytes;
  }

  list(): OperationCount[] {
    return Object.entries(OP).map(([name, op]) => ({
      operation: name.toLowerCase(),
      completed: this.#completed[op],
      errors: this.#errors[op],
      bytes: this.#bytes[op],
    }));
  }
}
