// What the metrics are made of: plain numbers as they stand at a scrape. The composition root gathers them; nothing on
// the I/O path knows that they are read. Every number in a field that says "total" only ever grows.
import type { FlipCertificate, NodeView, VolumeView } from '../control.js';
import type { HistogramSnapshot } from './histogram.js';

export interface IoMetrics {
  requests: { read: number; write: number; flush: number };
  bytes: { read: number; write: number };
  errors: number;
  /** Reads and writes together. */
  latency: HistogramSnapshot;
}

export interface VolumeMetrics {
  view: VolumeView;
  /** What hosts asked for and got. */
  host: IoMetrics & { hedgedReads: number };
  /** Extents that the intent log marks, and those that a mirror lacks as far as the store knows. */
  resyncExtents: number;
  flips: Record<FlipCertificate['kind'], number>;
  /** How long hosts were held, of every flip. */
  flipPause: HistogramSnapshot;
  scrub: { finished: number; comparedBytes: number; mismatches: number; repaired: number; lastEndMs: number | null };
}

export interface NodeMetrics {
  view: NodeView;
  /** What we asked of the node, over all its targets. */
  upstream: IoMetrics & { disconnects: number };
}

export interface GatewayMetrics {
  version: string;
  ready: boolean;
  events: { info: number; warning: number; alert: number; unwritten: number };
  nbd: {
    sessions: number;
    accepted: number;
    turnedAway: number;
    handshakesFailed: number;
    secured: number;
    refused: number;
    violations: number;
  };
}

export interface MetricsSource {
  volumes(): VolumeMetrics[];
  nodes(): NodeMetrics[];
  gateway(): GatewayMetrics;
}

/** One scrape: the source asked once, so that all families tell of the same moment. */
export interface Scrape {
  volumes: VolumeMetrics[];
  nodes: NodeMetrics[];
  gateway: GatewayMetrics;
}
