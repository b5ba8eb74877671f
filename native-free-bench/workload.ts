// What is measured: the table of workloads, the same for every path. A workload says what one host would do;
// nothing here knows how it is sent or where to.

export interface Workload {
  /** Stable: the key of result files. */
  id: string;
  title: string;
  kind: 'read' | 'write';
  order: 'random' | 'sequential';
  blockBytes: number;
  connections: number;
  /** Requests in flight on each connection. */
  depth: number;
}

const KiB = 1024;

export const WORKLOADS: readonly Workload[] = [
  {
    id: 'randread-4k-d32',
    title: '4 KiB random read, depth 32',
    kind: 'read',
    order: 'random',
    blockBytes: 4 * KiB,
    connections: 1,
    depth: 32,
  },
  {
    id: 'randwrite-4k-d32',
    title: '4 KiB random write, depth 32',
    kind: 'write',
    order: 'random',
    blockBytes: 4 * KiB,
    connections: 1,
    depth: 32,
  },
  {
    id: 'randread-4k-4x16',
    title: '4 KiB random read, 4 connections x depth 16',
    kind: 'read',
    order: 'random',
    blockBytes: 4 * KiB,
    connections: 4,
    depth: 16,
  },
  {
    id: 'randwrite-4k-4x16',
    title: '4 KiB random write, 4 connections x depth 16',
    kind: 'write',
    order: 'random',
    blockBytes: 4 * KiB,
    connections: 4,
    depth: 16,
  },
  {
    id: 'randread-4k-d1',
    title: '4 KiB random read, depth 1',
    kind: 'read',
    order: 'random',
    blockBytes: 4 * KiB,
    connections: 1,
    depth: 1,
  },
  {
    id: 'randwrite-4k-d1',
    title: '4 KiB random write, depth 1',
    kind: 'write',
    order: 'random',
    blockBytes: 4 * KiB,
    connections: 1,
    depth: 1,
  },
  {
    id: 'seqread-256k-d8',
    title: '256 KiB sequential read, depth 8',
    kind: 'read',
    order: 'sequential',
    blockBytes: 256 * KiB,
    connections: 1,
    depth: 8,
  },
  {
    id: 'seqwrite-256k-d8',
    title: '256 KiB sequential write, depth 8',
    kind: 'write',
    order: 'sequential',
    blockBytes: 256 * KiB,
    connections: 1,
    depth: 8,
  },
];

/** Before the first measurement: every block gets known contents, so that reads move real data and can be checked. */
export const PREPARE: Workload = {
  id: 'prepare',
  title: 'fill the node',
  kind: 'write',
  order: 'sequential',
  blockBytes: 256 * KiB,
  connections: 1,
  depth: 8,
};

/** After the last one: every block must hold what was last written to it, through whichever path. */
export const CHECK: Workload = {
  id: 'check',
  title: 'read the node back',
  kind: 'read',
  order: 'sequential',
  blockBytes: 256 * KiB,
  connections: 1,
  depth: 8,
};
