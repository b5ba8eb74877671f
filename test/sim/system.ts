// What the simulator tests, as it sees it: something that, given a world, serves volumes and takes an operator's wishes.
// One implementation wires the real gateway, another is a small reference with bugs that can be switched on.
import type { FlipCertificate, Outcome, TargetRef } from '../../gateway/control.js';
import type { ProtectionView } from '../../gateway/protection/view.js';
import type { JournalFiles } from '../../gateway/volume/journaling.js';
import type { VolumeSettings } from '../../gateway/volume/volume-settings.js';
import type { Dialer, WireAddress } from '../../gateway/wire.js';
import type { Device } from '../../replication/device.js';
import type { Latches } from '../../replication/latch.js';
import type { Clock, Log, Records } from '../../replication/world.js';
import type { SimAgent } from './agent.js';
import type { AlarmPlan } from './alarm-plan.js';
import type { Signs } from './signs.js';

/** A storage node as the system's configuration names it. Without protection each has an export for each volume, of the volume's name. */
export interface NodePlace {
  name: string;
  address: WireAddress;
  /** An agent: it fences old requests itself. */
  fencing: boolean;
  /** A request of a lost connection may land so much later; for a plain node. */
  zombieMs: number;
}

export interface VolumePlan {
  name: string;
  sizeBytes: number;
  /** Its first placement. */
  node: string;
}

/** What can be changed of volumes while they are served. */
export type Policy = Pick<VolumeSettings, 'durability' | 'whenFull'>;

/** All that one incarnation of the system has of the world; falls silent when it crashes. */
export interface Surroundings {
  clock: Clock;
  dialer: Dialer;
  records: Records;
  journals: JournalFiles;
  latches: Latches;
  durability: VolumeSettings['durability'];
  whenFull: VolumeSettings['whenFull'];
  log: Log;
  nodes: readonly NodePlace[];
  volumes: readonly VolumePlan[];
  /** A request that waited so long for its target may be answered with an error. */
  giveUpAfterMs: number;
  hedgeAfterMs: VolumeSettings['hedgeAfterMs'];
  /** Counts a thing that happened, for coverage. */
  count(what: string): void;
  /** A mirror takes over (`takeover`: with what was flushed, and perhaps no more), or the active target answers again. */
  answers(how: 'failover' | 'takeover' | 'return', volume: string, node: string): void;
  /** Makes an agent's export at least this large; of a plain node's it knows nothing. */
  enlarge(target: TargetRef, sizeBytes: number): Promise<Outcome<unknown>>;
  /** Null: nothing predicts, and mirrors and flips come from operators alone. */
  alarms: AlarmSurroundings | null;
}

/** What protection has of the world besides. */
export interface AlarmSurroundings {
  plan: AlarmPlan;
  signs: Signs;
  agent(node: string): NodeAgent;
  /** A plain node's export is about to be zeroed, or was. */
  trims(target: TargetRef): void;
  /** Protection begins a copy while others are under way. */
  begins(copy: CopyUnderWay, running: readonly CopyUnderWay[]): void;
}

/** A first copy of a volume that is being made on `node`, read from `source`. */
export interface CopyUnderWay {
  volume: string;
  node: string;
  source: string;
}

/** The calls of SimAgent; those of a gateway that crashed are never answered. */
export type NodeAgent = Pick<SimAgent, 'createExport' | 'deleteExport' | 'setEpoch' | 'look' | 'capacityBytes'>;

/** What an incarnation under protection can be asked and told besides. */
export interface Guarded {
  rollback(volume: string): Promise<Answer>;
  /** Somebody outside says that the node fails with this probability. */
  giveVerdict(node: string, probability: number): Promise<Answer>;
  /** The node shows other signs than before. */
  fresh(node: string): void;
  /** Nodes over which a verdict stands. */
  alarmed(): string[];
  /** Undefined: the volume is not protected yet. */
  view(volume: string): ProtectionView | undefined;
}

export interface Status {
  active: string;
  /** Its export there. */
  export: string;
  /** Another node that may be becoming the active one; null: none. */
  activating: string | null;
  mirrors: { node: string; export: string; state: string }[];
  /** Its active copy is refused for holding something else. */
  refused: boolean;
}

/** The export in which a node has its copy; where it has none, the one it had at the start. */
export function exportOn({ active, export: name, mirrors }: Status, node: string, volume: string): string {
  if (node === active) return name;
  return mirrors.find((mirror) => mirror.node === node)?.export ?? volume;
}

/** A wish's outcome, in words; `ok` false: refused. */
export interface Answer {
  ok: boolean;
  text: string;
  /** Of a flip that was done. */
  certificate?: FlipCertificate;
}

/** One incarnation. It has no way to crash itself: its surroundings go silent and it is forgotten. */
export interface Incarnation {
  /** Resolves when it has ended in order: what it can still do for its copies is done. */
  close(): Promise<void>;
  /** Null: not served yet. */
  device(volume: string): Device | null;
  setPolicy(policy: Policy): void;
  /** Makes a volume larger. */
  grow(volume: string, sizeBytes: number): Promise<Answer>;
  addMirror(volume: string, node: string): Promise<Answer>;
  removeMirror(volume: string, node: string): Promise<Answer>;
  flip(volume: string, node: string): Promise<Answer>;
  scrub(volume: string): Promise<Answer>;
  status(volume: string): Status;
  /** How many samples of what a copy of the volume must hold are known, should it come back with other contents (rule 20). */
  witnesses(volume: string, node: string): number;
  /** Bytes of a region, the unit of checksums. */
  readonly regionBytes: number;
  /** The root that a certificate should have when exactly these regions are verified and a copy holds `contents`. */
  rootOf(contents: Buffer, regions: readonly number[]): string | null;
  /** What is kept in memory beyond its bound; null: nothing. `largestBytes`: of the host's writes so far. */
  excess(volume: string, largestBytes: number): string | null;
  /** Null: nothing is left to be copied, sent again or waited for. Else what is. */
  unsettled(volume: string): string | null;
  /** Null: there is no protection. */
  readonly guarded: Guarded | null;
}

export interface SystemUnderTest {
  readonly name: string;
  /** It acts on verdicts where its surroundings have them. */
  readonly protects: boolean;
  /** Its volumes can be made larger. */
  readonly grows: boolean;
  start(surroundings: Surroundings): Incarnation;
}
