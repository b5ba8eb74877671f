// What the simulator tests, as it sees it: something that, given a world, serves volumes and takes an operator's wishes.
// One implementation wires the real gateway, another is a small reference with bugs that can be switched on.
import type { FlipCertificate } from '../../gateway/control.js';
import type { JournalFiles } from '../../gateway/volume/journaling.js';
import type { VolumeSettings } from '../../gateway/volume/volume-settings.js';
import type { Dialer, WireAddress } from '../../gateway/wire.js';
import type { Device } from '../../replication/device.js';
import type { Clock, Log, Records } from '../../replication/world.js';

/** A storage node as the system's configuration names it. Each has an export for each volume, of the volume's name. */
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

/** All that one incarnation of the system has of the world; falls silent when it crashes. */
export interface Surroundings {
  clock: Clock;
  dialer: Dialer;
  records: Records;
  journals: JournalFiles;
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
  /** A mirror takes over that has what was flushed, and perhaps no more. */
  takeover(volume: string, node: string): void;
}

export interface Status {
  active: string;
  /** Another node that may be becoming the active one; null: none. */
  activating: string | null;
  mirrors: { node: string; state: string }[];
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
  /** Null: not served yet. */
  device(volume: string): Device | null;
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
}

export interface SystemUnderTest {
  readonly name: string;
  start(surroundings: Surroundings): Incarnation;
}
