// One copy of a volume as the volume holds it: its place, its upstream, and the mirror that keeps it in step unless it is
// the active one. Roles change at a flip; the upstream stays.
import type { DirtyRecord } from '../../replication/dirty-record.js';
import type { Mirror } from '../../replication/mirror.js';
import type { TargetRef } from '../control.js';
import type { Upstream } from '../upstream/upstream.js';
import type { Witnesses } from '../upstream/witnesses.js';

export interface Copy {
  target: TargetRef;
  upstream: Upstream;
  /** What it must still hold when it comes back; outlives its upstreams. */
  witnesses: Witnesses;
  /** Null while this copy is the active one. */
  mirror: Mirror | null;
  /** The mirror's id and its durable dirty set; null for the active copy. */
  id: string | null;
  dirtyRecord: DirtyRecord | null;
  cause: string;
}

export function sameTarget(one: TargetRef, other: TargetRef): boolean {
  return one.node === other.node && one.export === other.export;
}

export function describeTarget(target: TargetRef): string {
  return target.export === '' ? target.node : `${target.node}/${target.export}`;
}
