// What of a volume no copy can give, as whoever copies and compares must know it.
export interface LostData {
  /** Is some of the range lost? Nothing is known of such bytes: copies may differ there. */
  overlaps(offset: number, length: number): boolean;
  /**
   * The source cannot read these ranges (bytes, `end` exclusive), and no other copy has them. Under their lock. True: that is durable, and
   * a copy may have anything there. False: it is not; nothing has changed.
   */
  declare(ranges: readonly { offset: number; end: number }[], reason: string): Promise<boolean>;
}
