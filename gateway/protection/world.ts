// What protection needs of the rest of the gateway: its volumes, the nodes, the predictor's ear, and the world. The
// composition root fills these in; the tests fill in their own.
import type { Clock, Log, Records } from '../../replication/world.js';
import type { EventSink, Outcome, TargetRef, VolumeControl } from '../control.js';
import type { IoProfile, LatencyFacts, NodeFacts } from '../placement/node-facts.js';
import type { ProtectionPolicy } from './situation.js';

/** A policy of the configuration, as far as protection reads it. */
export interface WardPolicy extends ProtectionPolicy {
  /** Under this name verdicts say what the policy makes of a node. */
  name: string;
  copy: { bytesPerSecond: number };
}

/** A volume under protection. The functions are asked anew each time: the configuration may be reloaded. */
export interface ProtectedVolume {
  readonly control: VolumeControl;
  policy(): WardPolicy;
  /** The higher leaves first. */
  priority(): number;
  labels(): Record<string, string>;
  clients(): string[];
  profile(): IoProfile;
  /** What its hosts see now; null: nothing was measured. */
  latency(): LatencyFacts | null;
}

/** Making and freeing targets: gateway/placement's NodeControl. */
export interface Targets {
  make(node: string, spare: string | null, wish: { volume: string; epoch: number; sizeBytes: number }): Promise<Outcome<TargetRef>>;
  keep(target: TargetRef): Promise<void>;
  condemn(target: TargetRef, owner: { volume: string; epoch: number }): Promise<Outcome<TargetRef>>;
  free(target: TargetRef, volume: string): void;
}

/** The predictor learns from what became of its verdicts: gateway/health's Judge. */
export interface Lessons {
  /** The node did fail. */
  failed(node: string): void;
  /** It was watched for its time and did not; an outside verdict over it is withdrawn. */
  falseAlarm(node: string, reason: string): void;
}

export interface ProtectionWorld {
  clock: Clock;
  log: Log;
  records: Records;
  events: EventSink;
  targets: Targets;
  lessons: Lessons;
  /** Every node of the configuration, as it is now. */
  candidates(): NodeFacts[];
}
