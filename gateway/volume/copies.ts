// The copies of a volume: which of them is active, which are its mirrors, and where hosts' writes go. The list is replaced
// and never changed in place, so that whoever works on it over an await can see that it has become another.
import { type Device, ERRNO } from '../../replication/device.js';
import type { Mirror } from '../../replication/mirror.js';
import type { TargetRef } from '../control.js';
import { type Copy, sameTarget } from './copy.js';
import type { IoPath } from './io-path.js';
import type { MirrorRecord } from './volume-record.js';
import type { VolumeSettings } from './volume-settings.js';

/** Refuses everything. */
const NOWHERE: Device = { sizeBytes: 0, submit: (request) => request.complete(ERRNO.ESHUTDOWN) };

export type MirrorCopy = Copy & { mirror: Mirror; id: string };

export class Copies {
  readonly #path: IoPath;
  readonly #settings: () => VolumeSettings;
  #active!: Copy;
  #list: readonly Copy[] = [];
  /** Copies that may be written to: their first reading may begin, or began long ago. */
  readonly #copying = new WeakSet<Copy>();
  /** Mirrors that are being removed: no record names them any more. */
  readonly #leaving = new WeakSet<Copy>();
  /** Those of them that were never begun: a record may name them all the same. Nobody else hears of them. */
  readonly #disowned = new WeakSet<Copy>();
  #closed = false;

  constructor(path: IoPath, settings: () => VolumeSettings) {
    this.#path = path;
    this.#settings = settings;
  }

  get active(): Copy {
    return this.#active;
  }

  /** Every target that holds or may hold a copy: the active one first. */
  get list(): readonly Copy[] {
    return this.#list;
  }

  /** Those that a scrub looks at. */
  get compared(): readonly Copy[] {
    return this.#list.filter((copy) => !this.#disowned.has(copy));
  }

  get mirrors(): MirrorCopy[] {
    return this.#list.filter((copy): copy is MirrorCopy => copy.mirror !== null);
  }

  /** Nothing is begun with them any more. */
  get closed(): boolean {
    return this.#closed;
  }

  /** What is read to copy. While the active target is being given up it is nobody's: its node may come back without what it forgot. */
  get source(): Device {
    return this.#path.isSuspended ? NOWHERE : this.#active.upstream;
  }

  has(copy: Copy): boolean {
    return this.#list.includes(copy);
  }

  /** The mirror on a target. */
  find(target: TargetRef): MirrorCopy | null {
    return this.mirrors.find((copy) => sameTarget(copy.target, target) && !this.isDisowned(copy)) ?? null;
  }

  /** What the volume's record says of those that are wanted; of all unless told otherwise. */
  records(wanted: (copy: Copy) => boolean = () => true): MirrorRecord[] {
    return this.mirrors
      .filter((copy) => wanted(copy) && !this.#leaving.has(copy))
      .map((copy) => ({
        id: copy.id,
        target: copy.target,
        reverse: copy.mirror.reverse,
        synced: copy.mirror.complete,
        cause: copy.cause,
      }));
  }

  /** The active copy comes first. `route` makes hosts' writes follow. */
  activate(copy: Copy): void {
    this.#active = copy;
    this.#list = [copy, ...this.#list.filter((each) => each !== copy)];
  }

  add(copy: MirrorCopy): void {
    this.#list = [...this.#list, copy];
    this.route();
  }

  remove(copy: MirrorCopy): void {
    copy.mirror.stop();
    this.#list = this.#list.filter((each) => each !== copy);
    this.route();
  }

  /** From now on hosts' writes go to the mirrors as they are, the way the policy says. */
  route(): void {
    this.#path.setMirrors(
      this.mirrors.map((copy) => copy.mirror),
      this.#settings().durability,
    );
  }

  isCopying(copy: Copy): boolean {
    return this.#copying.has(copy);
  }

  mayCopy(copy: Copy): void {
    this.#copying.add(copy);
  }

  isLeaving(copy: Copy): boolean {
    return this.#leaving.has(copy);
  }

  leave(copy: Copy): void {
    this.#leaving.add(copy);
  }

  disown(copy: Copy): void {
    this.#leaving.add(copy);
    this.#disowned.add(copy);
  }

  isDisowned(copy: Copy): boolean {
    return this.#disowned.has(copy);
  }

  stay(copy: Copy): void {
    this.#leaving.delete(copy);
  }

  close(): void {
    this.#closed = true;
  }
}
