// One durable bit beside the records (rule 21): while it is set, every extent of a volume counts as marked, so that hosts may go
// on though no mark can be written. It needs no space and no transaction to be set.

export interface Latch {
  /** Was it set when it was opened? Also where nobody can tell. */
  readonly wasSet: boolean;
  /** Resolves when a restart will find it set. Rejects when nobody knows whether it will. */
  set(): Promise<void>;
  /** Resolves when a restart will find it clear. Rejects when nobody knows whether it will. */
  clear(): Promise<void>;
  /** It is not used any more. */
  close(): Promise<void>;
}

/** Where the latches of volumes are. */
export interface Latches {
  /** Null: there is none and none can be made. */
  open(volume: string): Promise<Latch | null>;
}
