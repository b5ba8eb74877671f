// Which volumes may copy now, and which will not be gone in time. Volumes leave by priority; among equals those that can
// still make it come before those that cannot, the sooner their node is expected to fail and the shorter their copy the
// earlier: on one node that saves the most. Pure; a cap on copies keeps a wave of alarms from flooding the nodes.
import assert from 'node:assert/strict';

export interface EvacuationLimits {
  /** Copies at once that read from one node, and in all. */
  perNode: number;
  inAll: number;
}

export const EVACUATION_LIMITS: EvacuationLimits = { perNode: 2, inAll: 4 };

export interface Leaving {
  volume: string;
  /** The node it is copied from. */
  node: string;
  purpose: 'prediction' | 'standing';
  /** Larger is more important. */
  priority: number;
  remainingBytes: number;
  /** What the copy is expected to reach; above 0. */
  bytesPerSecond: number;
  /** When the node is expected to fail; null: nobody knows. */
  failsAtMs: number | null;
}

export interface Late {
  volume: string;
  node: string;
  /** When its copy would be complete, and when the node is expected to fail. */
  completeAtMs: number;
  failsAtMs: number;
  remainingBytes: number;
  bytesPerSecond: number;
}

export interface Plan {
  /** Volumes whose turn it is, in order. */
  start: string[];
  /** All that wait, in the order they will be taken. */
  order: string[];
  late: Late[];
}

export function copyMs({ remainingBytes, bytesPerSecond }: Leaving): number {
  return (remainingBytes / bytesPerSecond) * 1000;
}

function inTime(leaving: Leaving, nowMs: number): boolean {
  return leaving.failsAtMs === null || nowMs + copyMs(leaving) <= leaving.failsAtMs;
}

/** The order in which waiting volumes are taken. */
export function byUrgency(nowMs: number): (a: Leaving, b: Leaving) => number {
  return (a, b) =>
    Number(a.purpose === 'standing') - Number(b.purpose === 'standing') ||
    b.priority - a.priority ||
    Number(inTime(b, nowMs)) - Number(inTime(a, nowMs)) ||
    (a.failsAtMs ?? Number.MAX_VALUE) - (b.failsAtMs ?? Number.MAX_VALUE) ||
    copyMs(a) - copyMs(b) ||
    (a.volume < b.volume ? -1 : 1);
}

export function plan(waiting: Leaving[], running: Leaving[], nowMs: number, limits: EvacuationLimits = EVACUATION_LIMITS): Plan {
  const ordered = [...waiting].sort(byUrgency(nowMs));
  const started = [...running];
  const start: string[] = [];
  for (const leaving of ordered) {
    if (!hasRoom(leaving, started, limits)) continue;
    started.push(leaving);
    start.push(leaving.volume);
  }
  return { start, order: ordered.map(({ volume }) => volume), late: forecast(ordered, running, nowMs, limits) };
}

/** Copies that only restore a standing mirror never keep a volume from leaving; the other way round they wait. */
function hasRoom({ purpose, node }: Leaving, started: Leaving[], limits: EvacuationLimits): boolean {
  const rivals = started.filter((other) => purpose === 'standing' || other.purpose === 'prediction');
  return rivals.length < limits.inAll && rivals.filter((other) => other.node === node).length < limits.perNode;
}

/** Plays the copies through under the same limits and names those that end after their node is expected to. */
function forecast(ordered: Leaving[], running: Leaving[], nowMs: number, limits: EvacuationLimits): Late[] {
  const late: Late[] = [];
  const active: (Leaving & { completeAtMs: number })[] = [];
  const begin = (leaving: Leaving, atMs: number): void => {
    const completeAtMs = atMs + copyMs(leaving);
    active.push({ ...leaving, completeAtMs });
    const { volume, node, failsAtMs, remainingBytes, bytesPerSecond } = leaving;
    if (failsAtMs !== null && completeAtMs > failsAtMs)
      late.push({ volume, node, completeAtMs, failsAtMs, remainingBytes, bytesPerSecond });
  };
  for (const leaving of running) begin(leaving, nowMs);
  const left = [...ordered];
  let atMs = nowMs;
  while (left.length > 0) {
    const next = left.findIndex((leaving) => hasRoom(leaving, active, limits));
    if (next >= 0) {
      begin(left.splice(next, 1)[0], atMs);
      continue;
    }
    active.sort((a, b) => a.completeAtMs - b.completeAtMs);
    const [first] = active.splice(0, 1);
    assert(first, 'limits let at least one copy run');
    atMs = Math.max(atMs, first.completeAtMs);
  }
  return late;
}
