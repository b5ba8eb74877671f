// A machine with a file system on a volume, and a program that writes files there; it looks at them through fresh eyes, and after
// a crash.
import assert from 'node:assert/strict';
import { checkFileSystem, type Disk, type FileSystem, makeFileSystem, mount, unmount } from './file-system.js';
import { FileTree } from './file-tree.js';
import { FileWriter } from './file-writer.js';

const MIB = 1024 * 1024;

export class FileHost {
  readonly fileSystem: FileSystem;
  readonly #tree: FileTree;
  readonly #attach: () => Promise<Disk>;
  #disk: Disk | null = null;
  #writer: FileWriter | null = null;

  /** `attach` gives the volume to this machine, with nothing of it in any cache. */
  constructor(fileSystem: FileSystem, tree: FileTree, attach: () => Promise<Disk>) {
    this.fileSystem = fileSystem;
    this.#tree = tree;
    this.#attach = attach;
  }

  get name(): string {
    return this.fileSystem.name;
  }

  get writer(): FileWriter {
    assert(this.#writer !== null, 'it was started');
    return this.#writer;
  }

  /** Makes the file system and writes to it until `stop`. */
  async start(): Promise<void> {
    this.#disk = await this.#attach();
    await makeFileSystem(this.#disk, this.fileSystem);
    await this.#write(this.#disk);
  }

  /** Resolves when all is written. */
  async stop(): Promise<void> {
    await this.writer.stop();
    assert(this.#disk !== null);
    await unmount(this.#disk);
    await this.#disk.detach();
  }

  /** It crashes with all that it had not written. */
  async crash(): Promise<void> {
    await this.#disk?.crash();
    await this.writer.end();
  }

  /** After a crash: the journal is replayed, all that was durable must be there; then it writes again. */
  async recover(): Promise<void> {
    const disk = await this.#attach();
    this.#disk = disk;
    await mount(disk, this.fileSystem, this.fileSystem.mountOptions);
    const inDoubt = this.writer.forgetOpenStep();
    await disk.shell.run(`rm -f ${inDoubt.map((name) => `"$tree/${name}"`).join(' ')}`);
    await unmount(disk);
    await this.#inspect(disk);
    await this.#write(disk);
  }

  /** Looks at the volume once more: clean, and every file what it must be. `copy` is the file of another copy, to be clean too. */
  async inspect(copy?: string): Promise<void> {
    const disk = await this.#attach();
    await this.#inspect(disk);
    if (copy !== undefined) await checkFileSystem(disk, this.fileSystem, copy);
    await disk.detach();
  }

  async #inspect(disk: Disk): Promise<void> {
    await checkFileSystem(disk, this.fileSystem);
    await mount(disk, this.fileSystem, this.fileSystem.readOnlyOptions);
    assert.deepEqual(this.#tree.differences(await disk.shell.run(FileTree.listing)), []);
    await unmount(disk);
    const { files, directories, bytes } = this.#tree.size;
    const { steps, durableSteps, slowestMs } = this.writer;
    const written = `${steps} steps (${durableSteps} durable, slowest ${slowestMs.toFixed(0)} ms)`;
    const found = `${files} files in ${directories} directories, ${(bytes / MIB).toFixed(1)} MiB`;
    process.stdout.write(`  ${this.name}: after ${written} all is whole: ${found}\n`);
  }

  async #write(disk: Disk): Promise<void> {
    await mount(disk, this.fileSystem, this.fileSystem.mountOptions);
    this.#writer = new FileWriter(disk.shell, this.#tree);
    this.#writer.start();
  }
}
