// What a read is held against before a host gets it (rule 16): every region that it covers whole and whose checksum is known.
// Says only that bytes and checksum differ; that counts when it is seen again with the range locked, because a write may have
// come between the reading and the looking.
import type { RegionSums } from '../../replication/region-sums.js';
import { type Clock, sleep } from '../../replication/world.js';
import type { VolumeOp } from './volume-op.js';

/** Looked at in one go, some 150 us of work; what is larger is looked at piece by piece, others in between. */
const AT_ONCE_BYTES = 1024 * 1024;

export interface ReadCheckOptions {
  sums: RegionSums;
  sum(bytes: Uint8Array): bigint;
  clock: Clock;
  right(op: VolumeOp): void;
  /** The region at this offset is not what its checksum says. */
  wrong(op: VolumeOp, offset: number): void;
}

export class ReadCheck {
  readonly #options: ReadCheckOptions;

  constructor(options: ReadCheckOptions) {
    this.#options = options;
  }

  /** Tells `right` or `wrong`, at once unless it is large. */
  check(op: VolumeOp): void {
    if (op.length > AT_ONCE_BYTES) void this.#checkLarge(op);
    else this.#tell(op, this.wrongAt(op.offset, op.data!));
  }

  /** Offset of the first region that these bytes of the volume have wrong; -1: none that is known. */
  wrongAt(offset: number, data: Buffer): number {
    const { sums, sum } = this.#options;
    const { regionBytes } = sums;
    const end = offset + data.length;
    for (let region = Math.ceil(offset / regionBytes); (region + 1) * regionBytes <= end; region += 1) {
      const known = sums.get(region);
      const at = region * regionBytes - offset;
      if (known !== null && sum(data.subarray(at, at + regionBytes)) !== known) return region * regionBytes;
    }
    return -1;
  }

  async #checkLarge(op: VolumeOp): Promise<void> {
    const { clock, sums } = this.#options;
    const data = op.data!;
    // Pieces begin where regions do, so that none is cut.
    let from = 0;
    while (from < op.length) {
      const last = Math.floor((op.offset + from + AT_ONCE_BYTES) / sums.regionBytes) * sums.regionBytes - op.offset;
      const to = Math.min(op.length, last);
      const wrong = this.wrongAt(op.offset + from, data.subarray(from, to));
      if (wrong >= 0) {
        this.#tell(op, wrong);
        return;
      }
      from = to;
      if (from < op.length) await sleep(clock, 0);
    }
    this.#tell(op, -1);
  }

  #tell(op: VolumeOp, wrong: number): void {
    if (wrong < 0) this.#options.right(op);
    else this.#options.wrong(op, wrong);
  }
}
