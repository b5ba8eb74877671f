// The shapes the control side speaks in: what a volume, a node and an event look like to the protection machine,
// the API, the metrics and the command line. Types only; the JSON of the public API is these types as they stand.
// Names end in their unit where the API contract does not fix them; times in the API are ISO 8601 or milliseconds.

/** A copy's place: one export on one node. */
export interface TargetRef {
  node: string;
  export: string;
}

/** A wish that may be refused: with a code for programs and a sentence that says what is wrong and what would be right. */
export type Outcome<T> = { ok: true; value: T } | { ok: false; code: string; message: string; details?: Record<string, unknown> };

export function refuse(code: string, message: string, details?: Record<string, unknown>): Outcome<never> {
  return { ok: false, code, message, details };
}

export const PROTECTION_STATES = ['healthy', 'suspect', 'mirroring', 'synced', 'flipping', 'flipped', 'verified', 'rolling-back'] as const;
export type ProtectionState = (typeof PROTECTION_STATES)[number];

/**
 * copying: the first copy is under way. catching-up: it fell back to its bitmap and copies what it lacks.
 * synced: everything is copied or in the replication queue. lost: its node does not answer. failed: latched until resynced.
 */
export const MIRROR_STATES = ['copying', 'catching-up', 'synced', 'lost', 'failed'] as const;
export type MirrorState = (typeof MIRROR_STATES)[number];

export interface MirrorView {
  node: string;
  export: string;
  state: MirrorState;
  /** True for the old target that is kept in sync after a flip. */
  reverse: boolean;
  copiedBytes: number;
  dirtyBytes: number;
  lagBytes: number;
  lagSeconds: number;
  copyBytesPerSecond: number;
  etaSeconds: number | null;
  reason: string | null;
}

export interface FlipCertificate {
  volume: string;
  epoch: number;
  from: TargetRef;
  to: TargetRef;
  /** flip: both sides answered. failover: the old target was dead or hung. rollback: back to where it came from. */
  kind: 'flip' | 'failover' | 'rollback';
  at: string;
  /** From the first held request's gate closing to its opening. */
  pauseMs: number;
  /** Requests that were held meanwhile. */
  held: number;
  drained: { inFlight: number; queueBytes: number };
  dirtyRegions: number;
  /** xxh64 over the region checksums of each copy, hex; null when none is known. Regions read back by a scrub or copy, and the rest. */
  roots: { from: string | null; to: string | null; verifiedRegions: number; unverifiedRegions: number; oldestVerification: string | null };
  cause: string;
  verdict: string | null;
}

export interface ScrubReport {
  volume: string;
  startedAt: string;
  finishedAt: string | null;
  state: 'running' | 'done' | 'stopped';
  comparedBytes: number;
  totalBytes: number;
  /** Regions that differed (seen twice under the lock), how they were repaired, and those nobody could decide. */
  mismatches: { offset: number; lengthBytes: number; wrong: string; repaired: boolean; reason: string }[];
  bytesPerSecond: number;
}

export const JOURNAL_STATES = ['opening', 'ready', 'failed'] as const;

/** The journal of a volume whose policy says `durability: journal`. */
export interface JournalView {
  /** opening: it is being made. failed: its disk refuses; flushes wait for the mirrors in step instead. */
  state: (typeof JOURNAL_STATES)[number];
  reason: string | null;
  /** Bytes that some mirror does not have on stable storage yet, and how many there may be. */
  usedBytes: number;
  sizeBytes: number;
  /** Nodes whose mirrors it can make complete. */
  covers: string[];
}

export interface VolumeView {
  name: string;
  size: number;
  epoch: number;
  /** Protection's state of this volume. */
  state: ProtectionState;
  /** served: hosts get answers. waiting: its target is being reconnected. blocked: an operator is needed; `reason` says why. */
  service: 'served' | 'waiting' | 'blocked';
  reason: string | null;
  priority: number;
  policy: string;
  labels: Record<string, string>;
  active: TargetRef;
  mirrors: MirrorView[];
  /** Null unless the policy wants one. */
  journal: JournalView | null;
  clients: string[];
  /** Bytes that no copy can give: hosts cannot read them before they write them, at the latest after the next flip. */
  lostBytes: number;
  scrub: ScrubReport | null;
  lastFlip: FlipCertificate | null;
}

/** The commands of one volume, as protection and the API give them. Implemented by gateway/volume. */
export interface VolumeControl {
  readonly name: string;
  readonly sizeBytes: number;
  readonly epoch: number;
  readonly active: TargetRef;
  mirrors(): MirrorView[];
  /** Starts a mirror on a target that is connected, checked and proven blank or ours; resolves when copying has begun. */
  addMirror(target: TargetRef, cause: string): Promise<Outcome<MirrorView>>;
  /** Stops and forgets a mirror, durably; its space is freed by the caller afterwards. */
  removeMirror(target: TargetRef, cause: string): Promise<Outcome<TargetRef>>;
  flip(to: TargetRef, cause: { reason: string; verdict: string | null; kind: 'flip' | 'rollback' }): Promise<Outcome<FlipCertificate>>;
  /** One pass over every copy; resolves when it ends. */
  scrub(cause: string): Promise<Outcome<ScrubReport>>;
}

/** What a volume tells: facts, which must be handled. */
export type VolumeFact =
  | { type: 'mirror-state'; target: TargetRef; from: MirrorState | null; to: MirrorState; reason: string | null }
  | { type: 'target-lost'; target: TargetRef; reason: string }
  | { type: 'target-back'; target: TargetRef }
  | { type: 'target-blocked'; target: TargetRef; reason: string }
  | { type: 'flipped'; certificate: FlipCertificate }
  | { type: 'scrub-finished'; report: ScrubReport }
  /** Hosts that attach from now on see `sizeBytes`. */
  | { type: 'grown'; from: number; sizeBytes: number }
  | { type: 'journal-state'; state: JournalView['state']; reason: string | null }
  /** A mirror has by the journal all that hosts flushed, while the active target does not answer since the start. */
  | { type: 'journal-replayed'; target: TargetRef; records: number }
  /** Writes go on without marks, because none can be written (reason), or no more do (null). */
  | { type: 'unmarked'; reason: string | null }
  | { type: 'damage'; offset: number; lengthBytes: number; reason: string }
  /** No copy can give the range. */
  | { type: 'lost'; offset: number; lengthBytes: number; reason: string };

/** What a policy makes of a node: probability that it fails within the policy's horizon, and whether that is enough. */
export interface PolicyVerdict {
  /** 0 to 1, calibrated; null: no signal, which is never "healthy". */
  probability: number | null;
  threshold: number;
  /** The threshold was crossed and hysteresis has not let go. */
  firing: boolean;
  horizonSeconds: number;
}

/**
 * The latest judgement over a node, and why: by the first policy for which it fires (`default` comes first), or else by `default`.
 * So `firing` says whether any volume must leave it.
 */
export interface Verdict extends PolicyVerdict {
  id: string;
  node: string;
  at: string;
  /** What made it, largest contribution first. */
  reasons: { source: string; contribution: number; text: string }[];
  /** model: ours. outside: given by POST /v1/nodes/{id}/verdicts. */
  origin: 'model' | 'outside';
  /** When a trend says the limit is reached, if one does. */
  predictedFailureAt: string | null;
  /** By name: `default` and every policy that a volume has. */
  policies: Record<string, PolicyVerdict>;
}

export interface NodeView {
  id: string;
  kind: 'plain' | 'agent';
  zone: string;
  site: string;
  state: 'up' | 'down' | 'unknown';
  reason: string | null;
  capacityBytes: number | null;
  freeBytes: number | null;
  /** Exports that may take a mirror and do not hold a copy now; an agent makes its own. */
  freeSpares: string[];
  volumes: { name: string; role: 'active' | 'mirror' }[];
  verdict: Verdict | null;
  io: { reads: number; writes: number; errors: number; p50Us: number | null; p99Us: number | null };
}

/** A thing that happened. `id` grows by one; `type` is dotted: volume.flipped, node.verdict, mirror.state, config.reloaded. */
export interface ForestallEvent {
  id: number;
  at: string;
  type: string;
  level: 'info' | 'warning' | 'alert';
  message: string;
  volume: string | null;
  node: string | null;
  labels: Record<string, string>;
  clients: string[];
  details: Record<string, unknown>;
}

export type NewEvent = Pick<ForestallEvent, 'type' | 'level' | 'message'> & Partial<Omit<ForestallEvent, 'id' | 'at'>>;

export interface EventSink {
  publish(event: NewEvent): void;
}
