// A root file system in memory for a virtual machine: a cpio archive as the kernel unpacks it ("newc", see the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst), with programs of this machine and the libraries they load.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path/posix';
import { promisify } from 'node:util';

const run = promisify(execFile);
const DIRECTORY = 0o040755;
const EXECUTABLE = 0o100755;
const ENTRY_END = 'TRAILER!!!';

export class Initramfs {
  readonly #entries: Buffer[] = [];
  readonly #paths = new Set<string>();

  /** `path` without a slash at its beginning; directories are made. */
  add(path: string, bytes: Buffer | string): void {
    if (this.#paths.has(path)) return;
    this.addDirectory(dirname(path));
    this.#paths.add(path);
    this.#entries.push(this.#entry(path, EXECUTABLE, Buffer.from(bytes)));
  }

  addDirectory(path: string): void {
    if (path === '.' || this.#paths.has(path)) return;
    this.addDirectory(dirname(path));
    this.#paths.add(path);
    this.#entries.push(this.#entry(path, DIRECTORY, Buffer.alloc(0)));
  }

  /** A program of this machine, found on the PATH, to /bin; its libraries to where it looks for them. */
  async addProgram(name: string): Promise<void> {
    const { stdout: path } = await run('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin; command -v ${name}`]);
    this.add(`bin/${name}`, await readFile(path.trim()));
    const { stdout } = await run('ldd', [path.trim()]).catch(() => ({ stdout: '' }));
    for (const [library] of stdout.matchAll(/(?<=\s)\/\S+/g)) this.add(library.slice(1), await readFile(library));
  }

  archive(): Buffer {
    return Buffer.concat([...this.#entries, this.#entry(ENTRY_END, 0, Buffer.alloc(0))]);
  }

  #entry(path: string, mode: number, bytes: Buffer): Buffer {
    const inode = this.#entries.length + 1;
    const name = Buffer.from(`${path}\0`);
    const fields = [inode, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, name.length, 0];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
    return Buffer.concat([padded(Buffer.concat([header, name])), padded(bytes)]);
  }
}

/** To a multiple of four bytes. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
