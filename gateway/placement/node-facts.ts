// What placement knows of a volume that needs a target and of the nodes that may take one. Values only: the shell fills
// them in from the configuration, the agents, what the upstreams measure and the latest verdicts.

export interface IoProfile {
  /** Share of reads among reads and writes, 0 to 1. */
  readShare: number;
  iops: number;
  bytesPerSecond: number;
  /** Mean request, bytes. */
  blockBytes: number;
}

export interface VolumeNeeds {
  name: string;
  sizeBytes: number;
  /** The node that serves it. */
  active: string;
  /** Nodes that hold another copy of it, or are being given one. */
  copies: string[];
  profile: IoProfile;
  /** What its hosts see now; null: nothing was measured. */
  latency: LatencyFacts | null;
}

export interface LatencyFacts {
  p50Us: number;
  p99Us: number;
}

export interface NodeFacts {
  id: string;
  zone: string;
  site: string;
  kind: 'plain' | 'agent';
  /** down: it does not answer. unknown: nobody asked it yet. */
  state: 'up' | 'down' | 'unknown';
  reason: string | null;
  /** The latest judgement; probability null: no signal. */
  verdict: { probability: number | null; firing: boolean } | null;
  /** Of an agent. */
  capacityBytes: number | null;
  freeBytes: number | null;
  /** Of a plain node: exports that may take a mirror and hold no copy. `sizeBytes` null: not known before it is connected. */
  spares: { export: string; sizeBytes: number | null }[];
  latency: LatencyFacts | null;
  /** What it serves now, all volumes together. */
  load: { iops: number; bytesPerSecond: number };
  /** Share of its time it is busy, 0 to 1; null: not known. */
  utilisation: number | null;
  /** Copies it holds of any volume. */
  copies: number;
}

export interface PlacementPolicy {
  /** Share of an agent's capacity that stays free. */
  reserveShare: number;
}

export const PLACEMENT_POLICY: PlacementPolicy = { reserveShare: 0.05 };
