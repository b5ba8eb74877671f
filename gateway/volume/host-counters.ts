// What hosts asked a volume for and how long it took, counted in plain numbers: read at a scrape, and by the latency guard.
import { ERRNO, OP } from '../../replication/device.js';
import { LatencyHistogram } from '../metrics/histogram.js';
import type { VolumeOp } from './volume-op.js';

export class HostCounters {
  reads = 0;
  writes = 0;
  flushes = 0;
  readBytes = 0;
  writtenBytes = 0;
  errors = 0;
  /** Reads that a mirror answered before the active target did. */
  hedgedReads = 0;
  readonly latency = new LatencyHistogram();
  /** The same, taken and reset by the latency guard. */
  readonly recent = new LatencyHistogram();

  answered(op: VolumeOp, errno: number, nowMs: number): void {
    if (errno !== 0 && errno !== ERRNO.ENOTSUP) this.errors += 1;
    if (op.op === OP.READ) {
      this.reads += 1;
      this.readBytes += op.length;
    } else if (op.op === OP.FLUSH) this.flushes += 1;
    else if (op.writes) {
      this.writes += 1;
      this.writtenBytes += op.length;
    }
    const us = (nowMs - op.startedMs) * 1000;
    this.latency.record(us);
    this.recent.record(us);
  }
}
