// A reference to try the simulator on: a system so simple that it is plainly right, with bugs that can be switched on.
// Every write goes to the active target and, if there is one, to the mirror, before it is answered; copying and flipping
// stop all I/O meanwhile. It must find no violation in any seed; with any one bug it must.
import { type Device, type DeviceRequest, ERRNO, OP } from '../../replication/device.js';
import type { Bug } from './reference-bugs.js';
import { ReferenceTarget, type TargetRequest } from './reference-target.js';
import type { Answer, Incarnation, NodePlace, Status, Surroundings, SystemUnderTest, VolumePlan } from './system.js';

const COPY_BYTES = 65_536;
const RETRY_MS = 5;

interface Placement {
  active: string;
  mirror: string | null;
}

export function referenceSystem(bugs: readonly Bug[]): SystemUnderTest {
  return {
    name: ['reference', ...bugs].join(':'),
    protects: false,
    grows: false,
    start: (surroundings) => new Reference(surroundings, new Set(bugs)),
  };
}

class Reference implements Incarnation {
  readonly #volumes = new Map<string, ReferenceVolume>();

  constructor(surroundings: Surroundings, bugs: ReadonlySet<Bug>) {
    for (const plan of surroundings.volumes) this.#volumes.set(plan.name, new ReferenceVolume(surroundings, plan, bugs));
  }

  async close(): Promise<void> {}

  setPolicy(): void {}

  device(volume: string): Device {
    return this.#volumes.get(volume)!;
  }

  async grow(): Promise<Answer> {
    return { ok: false, text: 'the reference does not grow' };
  }

  addMirror(volume: string, node: string): Promise<Answer> {
    return this.#volumes.get(volume)!.addMirror(node);
  }

  removeMirror(volume: string): Promise<Answer> {
    return this.#volumes.get(volume)!.removeMirror();
  }

  flip(volume: string, node: string): Promise<Answer> {
    return this.#volumes.get(volume)!.flip(node);
  }

  async scrub(): Promise<Answer> {
    return { ok: false, text: 'the reference cannot scrub' };
  }

  witnesses(): number {
    return 0;
  }

  readonly regionBytes = 4096;
  readonly guarded = null;

  rootOf(): string | null {
    return null;
  }

  excess(): string | null {
    return null;
  }

  status(volume: string): Status {
    return this.#volumes.get(volume)!.status();
  }

  unsettled(volume: string): string | null {
    return this.#volumes.get(volume)!.unsettled();
  }
}

class ReferenceVolume implements Device {
  readonly sizeBytes: number;
  readonly #surroundings: Surroundings;
  readonly #plan: VolumePlan;
  readonly #bugs: ReadonlySet<Bug>;
  #active: ReferenceTarget;
  #mirror: ReferenceTarget | null = null;
  #mirrorComplete = false;
  #activating: string | null = null;
  #held: DeviceRequest[] | null = null;
  #changing = false;
  #flipped = false;
  /** In order of arrival: those that overlap an earlier one wait for it. */
  #queue: { request: DeviceRequest; started: boolean }[] = [];
  #drained: (() => void) | null = null;
  readonly #readBefore = new Map<number, Buffer>();

  constructor(surroundings: Surroundings, plan: VolumePlan, bugs: ReadonlySet<Bug>) {
    this.#surroundings = surroundings;
    this.#plan = plan;
    this.#bugs = bugs;
    this.sizeBytes = plan.sizeBytes;
    const stored = surroundings.records.get(this.#key) as Placement | undefined;
    this.#active = this.#open(stored?.active ?? plan.node);
    if (stored?.mirror) void this.#resync(stored.mirror);
  }

  get #key(): string {
    return `reference/${this.#plan.name}`;
  }

  submit(request: DeviceRequest): void {
    if (this.#held !== null) {
      this.#held.push(request);
      return;
    }
    this.#queue.push({ request, started: false });
    this.#startWhatMay();
  }

  status(): Status {
    const { name } = this.#plan;
    const state = this.#mirrorComplete ? 'synced' : 'copying';
    const mirrors = this.#mirror === null ? [] : [{ node: this.#mirror.place.name, export: name, state }];
    return { active: this.#active.place.name, export: name, activating: this.#activating, mirrors, refused: false };
  }

  unsettled(): string | null {
    if (this.#changing || this.#held !== null) return 'a change is under way';
    if (this.#queue.length > 0 || this.#active.busy || this.#mirror?.busy) return 'requests are under way';
    return null;
  }

  async addMirror(node: string): Promise<Answer> {
    if (this.#changing || this.#mirror !== null || node === this.#active.place.name) return { ok: false, text: 'busy, or a copy already' };
    this.#changing = true;
    await this.#commit({ active: this.#active.place.name, mirror: node });
    const mirror = this.#open(node);
    if (!this.#bugs.has('copy-without-hold')) await this.#hold();
    await this.#copyTo(mirror);
    this.#mirror = mirror;
    this.#mirrorComplete = true;
    this.#changing = false;
    this.#release();
    return { ok: true, text: 'mirrored' };
  }

  async removeMirror(): Promise<Answer> {
    if (this.#changing || this.#mirror === null) return { ok: false, text: 'busy, or none' };
    this.#changing = true;
    await this.#hold();
    await this.#commit({ active: this.#active.place.name, mirror: null });
    this.#mirror.close();
    this.#mirror = null;
    this.#changing = false;
    this.#release();
    return { ok: true, text: 'removed' };
  }

  async flip(node: string): Promise<Answer> {
    const to = this.#mirror;
    if (this.#changing || to === null || to.place.name !== node) return { ok: false, text: 'busy, or no such mirror' };
    this.#changing = true;
    const from = this.#active;
    this.#activating = node;
    await this.#hold();
    await flushed(to);
    await this.#commit({ active: node, mirror: from.place.name });
    this.#flipped = true;
    this.#active = to;
    this.#mirror = from;
    this.#activating = null;
    this.#changing = false;
    this.#surroundings.count('flip');
    this.#release();
    return { ok: true, text: 'flipped' };
  }

  async #resync(node: string): Promise<void> {
    this.#mirror = this.#open(node);
    if (!this.#bugs.has('resync-skipped')) {
      this.#changing = true;
      this.#held = [];
      const mirror = this.#mirror;
      this.#mirror = null;
      await this.#copyTo(mirror);
      this.#mirror = mirror;
      this.#changing = false;
      this.#surroundings.count('resync');
    }
    this.#mirrorComplete = true;
    this.#release();
  }

  #open(node: string): ReferenceTarget {
    const place = this.#surroundings.nodes.find((each: NodePlace) => each.name === node)!;
    return new ReferenceTarget(this.#surroundings, place, this.#plan.name, this.#bugs);
  }

  async #commit(placement: Placement): Promise<void> {
    for (;;) {
      try {
        return await this.#surroundings.records.commit([{ put: this.#key, value: placement }]);
      } catch {
        // Its outcome is unknown; the same again makes it known.
      }
    }
  }

  async #hold(): Promise<void> {
    this.#held = [];
    while (this.#queue.length > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
  }

  #release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const request of held) this.submit(request);
  }

  async #copyTo(mirror: ReferenceTarget): Promise<void> {
    // What is copied must not be taken back from the source by a loss of power: a former life may have left it unflushed.
    if (!this.#bugs.has('copy-unflushed')) await flushed(this.#active);
    const end = this.#bugs.has('copy-half') ? this.sizeBytes / 2 : this.sizeBytes;
    for (let offset = 0; offset < end; offset += COPY_BYTES) {
      const length = Math.min(COPY_BYTES, this.sizeBytes - offset);
      let data: Buffer | null = null;
      while (data === null) data = (await ask(this.#active, { op: OP.READ, offset, length, data: null })).data;
      while ((await ask(mirror, { op: OP.WRITE, offset, length, data })).errno !== 0);
    }
    await flushed(mirror);
  }

  #startWhatMay(): void {
    for (const [index, entry] of this.#queue.entries()) {
      if (entry.started) continue;
      const { offset, length } = entry.request;
      const blocked =
        !this.#bugs.has('no-overlap-order') &&
        this.#queue.slice(0, index).some(({ request: other }) => other.offset < offset + length && other.offset + other.length > offset);
      if (blocked) continue;
      entry.started = true;
      this.#start(entry.request);
    }
  }

  #start(request: DeviceRequest): void {
    const { op } = request;
    if (op === OP.STATUS) {
      request.extents = [{ lengthBytes: request.length, hole: false, zero: false }];
      this.#surroundings.clock.after(0, () => this.#finish(request, 0));
      return;
    }
    if (op === OP.ZEROES && request.fast) {
      this.#surroundings.clock.after(0, () => this.#finish(request, ERRNO.ENOTSUP));
      return;
    }
    const targets = [this.#active];
    const mirrored =
      !(op === OP.ZEROES && this.#bugs.has('mirror-misses-zeroes')) && !(this.#flipped && this.#bugs.has('reverse-forgotten'));
    if (op !== OP.READ && this.#mirror !== null && mirrored) targets.push(this.#mirror);
    let left = targets.length;
    let errno = 0;
    for (const target of targets) {
      const { offset, length, fua, data } = request;
      const submit = (): void => target.submit({ op, offset, length, fua, data, done });
      const done = (result: number, bytes: Buffer | null): void => {
        if (op !== OP.READ && result !== 0 && result !== ERRNO.ESHUTDOWN) {
          // A copy that lacks a write would differ: it gets it until it takes it.
          this.#surroundings.clock.after(RETRY_MS, submit);
          return;
        }
        left -= 1;
        if (result !== 0) errno = result;
        if (op === OP.READ && result === 0) request.data = this.#spoil(request, bytes!);
        if (left === 0) this.#finish(request, errno);
      };
      submit();
    }
  }

  #finish(request: DeviceRequest, errno: number): void {
    this.#queue = this.#queue.filter((entry) => entry.request !== request);
    request.complete(errno);
    this.#startWhatMay();
    if (this.#queue.length === 0) this.#drained?.();
  }

  /** The bugs that concern the bytes of a read. */
  #spoil(request: DeviceRequest, data: Buffer): Buffer {
    if (this.#bugs.has('torn-slice') && data.length >= 16_384) {
      const first = Buffer.from(data.subarray(0, 512));
      data.copy(data, 0, 512, 1024);
      first.copy(data, 512);
    }
    if (!this.#bugs.has('stale-read')) return data;
    const before = this.#readBefore.get(request.offset);
    if (before !== undefined && before.length === data.length) return before;
    this.#readBefore.set(request.offset, data);
    return data;
  }
}

function ask(
  target: ReferenceTarget,
  request: Pick<TargetRequest, 'op' | 'offset' | 'length' | 'data'>,
): Promise<{ errno: number; data: Buffer | null }> {
  return new Promise((resolve) => target.submit({ ...request, fua: false, done: (errno, data) => resolve({ errno, data }) }));
}

async function flushed(target: ReferenceTarget): Promise<void> {
  while ((await ask(target, { op: OP.FLUSH, offset: 0, length: 0, data: null })).errno !== 0);
}
