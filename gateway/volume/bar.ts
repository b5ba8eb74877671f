// Stands before an active target and keeps what hosts ask of it, until it is known whether this target answers them or a
// mirror takes over. What it keeps is bounded by what hosts may have under way.
import { type Device, type DeviceRequest, ERRNO } from '../../replication/device.js';

export class Bar implements Device {
  readonly #target: Device;
  #kept: DeviceRequest[] | null = [];

  constructor(target: Device) {
    this.#target = target;
  }

  get sizeBytes(): number {
    return this.#target.sizeBytes;
  }

  submit(request: DeviceRequest): void {
    if (this.#kept !== null) this.#kept.push(request);
    else this.#target.submit(request);
  }

  /** From now on everything goes to the target. */
  open(): void {
    const kept = this.#kept ?? [];
    this.#kept = null;
    for (const request of kept) this.#target.submit(request);
  }

  /** Another target answers them. */
  takeBack(): DeviceRequest[] {
    const kept = this.#kept ?? [];
    this.#kept = null;
    return kept;
  }

  /** What was asked for before this moment is answered with EIO; how many that were. */
  expire(beforeMs: number): number {
    const late = (this.#kept ?? []).filter(({ askedMs }) => askedMs !== undefined && askedMs < beforeMs);
    if (late.length === 0) return 0;
    this.#kept = this.#kept!.filter((request) => !late.includes(request));
    for (const request of late) request.complete(ERRNO.EIO);
    return late.length;
  }
}
