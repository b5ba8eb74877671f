// The file systems that volumes are tried with, and the orders for a shell that make, check and mount one on a device or file.
/** What it takes of a volume: what mkfs asks for at least, with room to write. */
export interface FileSystem {
  name: 'ext4' | 'xfs';
  sizeMiB: number;
  /** Debian packages of its programs. */
  programs: string[];
  /** `$1` is the device, or a file. */
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
    programs: ['mkfs.ext4', 'e2fsck'],
    make: 'mkfs.ext4 -q -F',
    check: 'e2fsck -f -n',
    mountOptions: 'errors=remount-ro',
    readOnlyOptions: 'ro,noload',
  },
  {
    name: 'xfs',
    sizeMiB: 320,
    programs: ['mkfs.xfs', 'xfs_repair'],
    make: 'mkfs.xfs -q -f',
    check: 'xfs_repair -n -f',
    mountOptions: 'nouuid',
    readOnlyOptions: 'ro,nouuid,norecovery',
  },
];
