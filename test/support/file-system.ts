// The file systems that volumes are tried with: what they need of a volume, and how a shell makes, mounts and checks one.
import type { Shell } from './shell.js';

export interface FileSystem {
  name: 'ext4' | 'xfs';
  /** At least what mkfs asks for. */
  sizeMiB: number;
  make: string;
  /** Exits with other than 0 if it is not clean, and changes nothing. */
  check: string;
  mountOptions: string;
  /** Mounts a copy that must not be written to. */
  readOnlyOptions: string;
}

export const FILE_SYSTEMS: FileSystem[] = [
  {
    name: 'ext4',
    sizeMiB: 256,
    make: 'mkfs.ext4 -q -F',
    check: 'e2fsck -f -n',
    mountOptions: 'errors=remount-ro',
    readOnlyOptions: 'ro,noload',
  },
  {
    name: 'xfs',
    sizeMiB: 320,
    make: 'mkfs.xfs -q -f',
    check: 'xfs_repair -n',
    mountOptions: 'nouuid',
    readOnlyOptions: 'ro,nouuid,norecovery',
  },
];

/** The programs of all of them. */
export const FILE_SYSTEM_PROGRAMS = ['mkfs.ext4', 'e2fsck', 'mkfs.xfs', 'xfs_repair'];

/** A volume as a machine has it: a device, or a file that shows it, to be made a file system and mounted. */
export interface Disk {
  /** Its `$disk` is the volume, `$tree` where it is mounted, `$pool` the file of random bytes, `$mount` what mounts. */
  readonly shell: Shell;
  /** Of what is not mounted. */
  detach(): Promise<void>;
  /** As if the machine lost its power: nothing of what it has not written is written. */
  crash(): Promise<void>;
}

export async function makeFileSystem({ shell }: Disk, { make }: FileSystem): Promise<void> {
  await shell.run(`${make} "$disk"`);
}

export async function mount({ shell }: Disk, { name }: FileSystem, options: string): Promise<void> {
  await shell.run(`$mount -t ${name} -o ${options} "$disk" "$tree"`);
}

export async function unmount({ shell }: Disk): Promise<void> {
  await shell.run('umount "$tree"');
}

/** Whether it is clean. `copy` is the file of another copy of it. */
export async function checkFileSystem({ shell }: Disk, { check }: FileSystem, copy = '$disk'): Promise<void> {
  await shell.run(`${check} "${copy}"`);
}
