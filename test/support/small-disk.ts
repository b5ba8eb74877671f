// A file system of its own, in memory and small, that a test can fill up: for programs whose disk gets full. Only root can mount one.
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Site } from './site.js';

export class SmallDisk {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Null: this user may not mount any. */
  static mount(site: Site, path: string, size: string): SmallDisk | null {
    mkdirSync(path, { recursive: true });
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path], { stdio: 'ignore' }).status !== 0) return null;
    site.onClose(async () => {
      spawnSync('umount', ['--lazy', path], { stdio: 'ignore' });
    });
    return new SmallDisk(path);
  }

  /** Not a byte is left. */
  fill(): void {
    const fd = openSync(this.#filling, 'w');
    try {
      for (const bytes of [1 << 20, 4096]) this.#write(fd, bytes);
    } finally {
      closeSync(fd);
    }
  }

  free(): void {
    rmSync(this.#filling, { force: true });
  }

  get #filling(): string {
    return join(this.path, 'filling');
  }

  #write(fd: number, bytes: number): void {
    try {
      for (;;) writeSync(fd, Buffer.alloc(bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }
}
