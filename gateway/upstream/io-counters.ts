// What an upstream measures on every request, in plain numbers: read by the metrics at a scrape and by the predictor
// every few seconds. Counting must cost nothing that shows on the I/O path.
import { ERRNO, OP } from '../../replication/device.js';
import { LatencyHistogram } from '../metrics/histogram.js';
import type { Job } from './job.js';
import { VIOLATION_KINDS, type ViolationKind } from './violation.js';

export function noViolations(): Record<ViolationKind, number> {
  return Object.fromEntries(VIOLATION_KINDS.map((kind) => [kind, 0])) as Record<ViolationKind, number>;
}

export class IoCounters {
  reads = 0;
  writes = 0;
  flushes = 0;
  readBytes = 0;
  writtenBytes = 0;
  /** Answers with an error of the node; ENOTSUP of a fast zero is none. */
  errors = 0;
  /** Connections lost after they stood. */
  disconnects = 0;
  /** How often the node broke the protocol. */
  readonly violations = noViolations();
  /** From sending to the answer, reads and writes together. */
  readonly latency = new LatencyHistogram();
  /** The same since the predictor last looked, which resets it. */
  readonly recent = new LatencyHistogram();

  answered(job: Job, errno: number, nowMs: number): void {
    if (errno !== ERRNO.OK && errno !== ERRNO.ENOTSUP) this.errors += 1;
    switch (job.op) {
      case OP.READ:
        this.reads += 1;
        this.readBytes += job.length;
        break;
      case OP.FLUSH:
        this.flushes += 1;
        return;
      case OP.STATUS:
        return;
      default:
        this.writes += 1;
        this.writtenBytes += job.length;
    }
    const us = (nowMs - job.sentMs) * 1000;
    this.latency.record(us);
    this.recent.record(us);
  }
}
