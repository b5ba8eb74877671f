// The kernel that virtual machines run: Debian's for the cloud, with the modules that a guest needs, unpacked from its package into
// .tmp of this checkout, not installed. Fetched once with apt-get.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const CACHE = fileURLToPath(new URL('../../.tmp/guest-kernel', import.meta.url));
const META_PACKAGE = 'linux-image-cloud-amd64';
const FETCH_MS = 120_000;

/** In an order in which each finds what it needs. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci'],
  ...['failover', 'net_failover', 'virtio_net', 'nbd', 'libcrc32c', 'xfs'],
];

export interface GuestKernel {
  /** Path of the image. */
  image: string;
  /** To be loaded in this order. */
  modules: { name: string; bytes: Buffer }[];
}

/** Rejects where it is not here and cannot be fetched. */
export async function guestKernel(): Promise<GuestKernel> {
  if (process.arch !== 'x64') throw new Error("this machine's programs do not run on amd64");
  const files = (await unpacked()) ?? (await fetched());
  const image = files.find((file) => file.includes('/boot/vmlinuz-'));
  if (image === undefined) throw new Error(`no kernel in ${CACHE}`);
  const modules = MODULES.map(async (name) => {
    const file = files.find((each) => each.endsWith(`/${name}.ko`));
    if (file === undefined) throw new Error(`no module ${name} in ${CACHE}`);
    return { name, bytes: await readFile(file) };
  });
  return { image, modules: await Promise.all(modules) };
}

/** All files of the unpacked package; null when there is none. */
async function unpacked(): Promise<string[] | null> {
  try {
    return (await readdir(CACHE, { recursive: true })).map((file) => join(CACHE, file));
  } catch {
    return null;
  }
}

async function fetched(): Promise<string[]> {
  await mkdir(join(CACHE, '..'), { recursive: true });
  const directory = await mkdtemp(join(CACHE, '..', 'fetch-'));
  const options = { cwd: directory, timeout: FETCH_MS };
  try {
    const { stdout } = await run('apt-cache', ['depends', META_PACKAGE], options);
    const name = /linux-image-\S+/.exec(stdout.replace(META_PACKAGE, ''))?.[0];
    if (name === undefined) throw new Error(`apt knows no ${META_PACKAGE}: apt-get update may help`);
    await run('apt-get', ['download', '-qq', name], options);
    const [file] = await readdir(directory);
    await run('dpkg-deb', ['-x', file, 'package'], options);
    await rename(join(directory, 'package'), CACHE).catch((error: NodeJS.ErrnoException) => {
      // Another test was faster.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    return (await unpacked()) ?? [];
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
