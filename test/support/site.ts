// Where an end-to-end test takes place: a temporary directory, and everything the test started. Whatever happens in the
// test, all of it is ended, newest first, and the directory is removed; a test process that dies takes its children along.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'uvu';
import { havePeer, skipped } from './peers.js';

/** Debian packages by the program that a test needs of them. */
const PACKAGES: Record<string, string> = {
  nbdkit: 'nbdkit',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdfuse: 'libnbd-bin',
  'qemu-io': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  fio: 'fio',
  'nbd-client': 'nbd-client',
  'nbd-server': 'nbd-server',
  busybox: 'busybox-static',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  xfs_repair: 'xfsprogs',
  'qemu-system-x86_64': 'qemu-system-x86',
  openssl: 'openssl',
  nbdsh: 'libnbd-bin python3-libnbd',
};

export class Site {
  readonly directory: string;
  readonly #stops: (() => Promise<void>)[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(): Promise<Site> {
    return new Site(await mkdtemp(join(tmpdir(), 'forestall-e2e-')));
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  /** `stop` is called at the end, before those that were given earlier; it must not fail when it has nothing to do. */
  onClose(stop: () => Promise<void>): void {
    this.#stops.push(stop);
  }

  async close(): Promise<void> {
    for (let stop = this.#stops.pop(); stop !== undefined; stop = this.#stops.pop()) await stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Defines a test on a site of its own; skipped, with a line that says so, where one of `programs` is missing. */
export function siteTest(test: Test, programs: string[], name: string, body: (site: Site) => Promise<void>): void {
  const missing = programs.filter((program) => !havePeer(program));
  if (missing.length > 0) {
    skipped(name, [...new Set(missing.map((program) => PACKAGES[program]))].join(' '));
    return;
  }
  test(name, async () => {
    const site = await Site.open();
    try {
      await body(site);
    } finally {
      await site.close();
    }
  });
}
