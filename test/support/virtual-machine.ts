// A small Linux machine in qemu, for what needs a kernel of its own: the kernel's NBD client above all. It is emulated (what /dev/kvm
// promises is not kept everywhere), boots in some seconds from memory, knows busybox and the programs it was given, reaches
// this machine as 10.0.2.2, and has shells that take orders.
import { writeFile } from 'node:fs/promises';
import type { GuestKernel } from './guest-kernel.js';
import { Initramfs } from './initramfs.js';
import { type Shell, ShellPort } from './shell.js';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

/** How the guest calls this machine. */
export const HOST_ADDRESS = '10.0.2.2';
const MEMORY_MIB = 512;

const INIT = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko || poweroff -f; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
echo 3 > /proc/sys/kernel/printk
while [ $shells -gt 0 ]; do
  nc ${HOST_ADDRESS} $port -e busybox sh &
  shells=$((shells - 1))
done
while :; do wait; sleep 1; done
`;

export interface GuestOptions {
  kernel: GuestKernel;
  /** Programs of this machine that it needs besides busybox. */
  programs: string[];
  /** By path. */
  files?: Record<string, Buffer>;
  shells: number;
}

export class VirtualMachine {
  /** What it says on its console is its standard output. */
  readonly program: StartedProgram;
  readonly shells: Shell[];

  private constructor(program: StartedProgram, shells: Shell[]) {
    this.program = program;
    this.shells = shells;
  }

  /** Resolves when its shells take orders. */
  static async boot(site: Site, { kernel, programs, files = {}, shells }: GuestOptions): Promise<VirtualMachine> {
    const { image, modules } = kernel;
    const memory = new Initramfs();
    for (const directory of ['proc', 'sys', 'dev', 'tmp', 'mnt', 'etc']) memory.addDirectory(directory);
    for (const name of ['busybox', ...programs]) await memory.addProgram(name);
    for (const { name, bytes } of modules) memory.add(`modules/${name}.ko`, bytes);
    memory.add('modules/order', modules.map(({ name }) => name).join('\n'));
    for (const [path, bytes] of Object.entries(files)) memory.add(path, bytes);
    memory.add('init', INIT);
    const archive = site.path('initramfs');
    await writeFile(archive, memory.archive());
    const port = await ShellPort.open(site);
    const program = StartedProgram.start(site, 'qemu-system-x86_64', [
      ...['-accel', 'tcg', '-cpu', 'max', '-m', String(MEMORY_MIB), '-smp', '1'],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
      ...['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
      ...['-kernel', image, '-initrd', archive],
      ...['-append', `console=ttyS0 panic=-1 quiet mitigations=off port=${port.port} shells=${shells}`],
    ]);
    const dialled: Shell[] = [];
    while (dialled.length < shells) dialled.push(await port.shell(program));
    return new VirtualMachine(program, dialled);
  }
}
