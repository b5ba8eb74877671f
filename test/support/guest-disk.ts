// A volume of the gateway as a disk of a virtual machine, by the kernel's own NBD client.
import assert from 'node:assert/strict';
import type { Disk } from './file-system.js';
import type { Shell } from './shell.js';
import { HOST_ADDRESS } from './virtual-machine.js';

export class GuestDisk implements Disk {
  readonly shell: Shell;
  readonly #device: string;
  readonly #volume: string;
  readonly #control: Shell;

  private constructor(shell: Shell, control: Shell, { device, volume }: { device: string; volume: string }) {
    this.shell = shell;
    this.#control = control;
    this.#device = device;
    this.#volume = volume;
  }

  /** Attached over two connections. `control`: another shell of the same machine, for when `shell` waits for the disk. */
  static async attach(shell: Shell, control: Shell, options: { device: string; volume: string; port: number }): Promise<GuestDisk> {
    const { device, volume, port } = options;
    await shell.run(`disk=${device} tree=/mnt/${volume} pool=/${volume}.pool mount=mount; mkdir -p "$tree"`);
    const said = await shell.run(`nbd-client -N ${volume} ${HOST_ADDRESS} ${port} ${device} -C 2`);
    assert.match(said, /Connected/);
    return new GuestDisk(shell, control, options);
  }

  async detach(): Promise<void> {
    await this.shell.run(`nbd-client -d ${this.#device}`);
  }

  /** The device is taken away under the file system: what waited for it fails, what was not written is lost. */
  async crash(): Promise<void> {
    await this.#control.run(`nbd-client -d ${this.#device}`);
    await this.#control.run(`umount -l /mnt/${this.#volume}`);
  }
}
