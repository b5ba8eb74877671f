// What no copy can give, in memory only.
import type { LostData } from '../../replication/lost-data.js';

export class TestLost implements LostData {
  readonly ranges: { offset: number; end: number }[] = [];
  /** May anything be declared lost? */
  writable = true;
  /** Awaited before a range that was written counts as there. */
  filling: Promise<boolean> = Promise.resolve(true);

  overlaps(offset: number, length: number): boolean {
    return this.ranges.some((range) => range.offset < offset + length && range.end > offset);
  }

  async declare(ranges: readonly { offset: number; end: number }[]): Promise<boolean> {
    if (this.writable) this.ranges.push(...ranges);
    return this.writable;
  }

  /** Only whole ranges. */
  async filled(offset: number, length: number): Promise<boolean> {
    if (!(await this.filling)) return false;
    const left = this.ranges.filter((range) => range.offset < offset || range.end > offset + length);
    this.ranges.splice(0, this.ranges.length, ...left);
    return true;
  }
}
