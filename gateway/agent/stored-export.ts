// One export of an agent while it runs: its record, where its data is, who uses it, and the device that serves it once
// somebody has asked. Changes to it happen one at a time, in the order they were asked for.
import { constants, open } from 'node:fs';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type Outcome, refuse } from '../control.js';
import type { ExportView } from './agent-schema.js';
import type { ExportRecord } from './export-record.js';
import type { ExportPlace } from './export-scan.js';
import { FileDevice, type FileDeviceOptions } from './file-device.js';

const openFile = promisify(open);

/** Somebody uses the export: it is not deleted meanwhile. */
export interface Hold {
  release(): void;
}

export class StoredExport {
  /** It is being deleted, or the store closes: nobody may begin to use it. */
  retired = false;
  #holders = new Map<Hold, string>();
  #device: Promise<Outcome<FileDevice>> | null = null;
  #changes: Promise<unknown> = Promise.resolve();

  constructor(
    public record: ExportRecord,
    public place: ExportPlace | null,
    public problem: string | null,
    /** False: there is metadata that cannot be read, and `record` is only a guess. */
    readonly understood: boolean,
  ) {}

  get clients(): string[] {
    return [...this.#holders.values()];
  }

  /** Refused with `export-unusable`, or `export-unknown` when it is going away. */
  hold(client: string): Outcome<Hold> {
    if (this.retired) return refuse('export-unknown', `export ${this.record.name} is being deleted`);
    if (this.problem !== null) return refuse('export-unusable', `export ${this.record.name} cannot be used: ${this.problem}`);
    const hold: Hold = { release: () => void this.#holders.delete(hold) };
    this.#holders.set(hold, client);
    return { ok: true, value: hold };
  }

  /** Runs `change` after those asked for before it. */
  change<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#changes.then(change);
    this.#changes = result.catch(() => undefined);
    return result;
  }

  /** The device, opened when first asked for and kept: the kernel tells of a failed write-back only who had the file open. Refused with `open-failed`. */
  device(options: Pick<FileDeviceOptions, 'libc' | 'counters' | 'failed'>): Promise<Outcome<FileDevice>> {
    this.#device ??= this.#open(options).then((opened) => {
      if (!opened.ok) this.#device = null;
      return opened;
    });
    return this.#device;
  }

  /** The device if it is open, for a change of its size. */
  async openDevice(): Promise<FileDevice | null> {
    const opened = await this.#device;
    return opened?.ok ? opened.value : null;
  }

  /** Answers what is in flight, flushes and closes the device. Gives the flush's error number. */
  async closeDevice(): Promise<number> {
    const device = await this.openDevice();
    this.#device = null;
    return device === null ? 0 : device.close();
  }

  /** Closes the device without a flush: its data is about to be removed. */
  async discardDevice(): Promise<void> {
    const device = await this.openDevice();
    this.#device = null;
    await device?.discard();
  }

  async view(): Promise<ExportView> {
    const { name, sizeBytes, origin, volume, epoch, role = null, createdAt } = this.record;
    const kind = this.place?.kind ?? 'file';
    const allocatedBytes = kind === 'block' ? sizeBytes : await allocatedBytesOf(this.place);
    const { clients, problem } = this;
    const blank = allocatedBytes === 0 && this.place !== null;
    return { name, sizeBytes, kind, origin, volume, epoch, role, createdAt, allocatedBytes, blank, clients, problem };
  }

  async #open(options: Pick<FileDeviceOptions, 'libc' | 'counters' | 'failed'>): Promise<Outcome<FileDevice>> {
    const { path, kind, logicalBlockBytes } = this.place!;
    try {
      // On a block device O_EXCL fails while it is mounted or otherwise taken.
      const fd = await openFile(path, kind === 'block' ? constants.O_RDWR | constants.O_EXCL : constants.O_RDWR);
      const device = new FileDevice({ ...options, fd, sizeBytes: this.record.sizeBytes, kind, blockBytes: logicalBlockBytes });
      return { ok: true, value: device };
    } catch (error) {
      return refuse('open-failed', `export ${this.record.name} cannot be opened: ${(error as Error).message}`);
    }
  }
}

async function allocatedBytesOf(place: ExportPlace | null): Promise<number> {
  const stats = place === null ? null : await stat(place.path).catch(() => null);
  return stats === null ? 0 : stats.blocks * 512;
}
