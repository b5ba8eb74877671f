// Files and directories as a file system must hold them: what was done to them step by step, each step as an order for a shell and
// as what it does to the model. Contents are pieces of a pool of random bytes that the shell has as a file; small or large,
// aligned or not.
import { createHash } from 'node:crypto';
import { dirname } from 'node:path/posix';
import type { Random } from '../sim/random.js';

const KIB = 1024;
export const POOL_BYTES = 2 * 1024 * KIB;
const DIRECTORIES_MAX = 24;
const FILES_MAX = 400;

/** Several names of one file share it. */
interface File {
  bytes: Buffer;
}

/** A change of a tree. */
export interface Step {
  /** For a shell with `$tree`, the directory, and `$pool`, the file of random bytes. */
  order: string;
  /** Whether it is on stable storage once the order has ended. */
  durable: boolean;
  /** The names that are made, changed or removed. */
  names: string[];
  apply: () => void;
}

export interface FileTreeOptions {
  random: Random;
  /** What all files together may hold. */
  bytesMax: number;
  /** The share of steps that are durable. */
  durableShare: number;
  /** Of the largest file. */
  fileBytesMax?: number;
}

export class FileTree {
  readonly pool: Buffer;
  readonly #random: Random;
  readonly #bytesMax: number;
  readonly #durableShare: number;
  readonly #fileBytesMax: number;
  readonly #directories = ['.'];
  readonly #files = new Map<string, File>();
  #serial = 0;

  constructor({ random, bytesMax, durableShare, fileBytesMax = 512 * KIB }: FileTreeOptions) {
    this.#random = random;
    this.#bytesMax = bytesMax;
    this.#durableShare = durableShare;
    this.#fileBytesMax = fileBytesMax;
    const words = Uint32Array.from({ length: POOL_BYTES / 4 }, () => random.uint32());
    this.pool = Buffer.from(words.buffer);
  }

  get size(): { files: number; directories: number; bytes: number } {
    const bytes = [...new Set(this.#files.values())].reduce((sum, file) => sum + file.bytes.length, 0);
    return { files: this.#files.size, directories: this.#directories.length, bytes };
  }

  /** The next change; the caller applies it when it is done. */
  next(): Step {
    const { files, bytes } = this.size;
    if (bytes > this.#bytesMax || files > FILES_MAX) return this.#remove();
    if (files < 8) return this.#create();
    const kinds = { create: 30, append: 20, overwrite: 20, replace: 8, rename: 8, link: 5, truncate: 5, remove: 8, directory: 4 };
    switch (this.#random.weighted(kinds)) {
      case 'create':
        return this.#create();
      case 'append':
        return this.#append();
      case 'overwrite':
        return this.#overwrite();
      case 'replace':
        return this.#replace();
      case 'rename':
        return this.#rename();
      case 'link':
        return this.#link();
      case 'truncate':
        return this.#truncate();
      case 'remove':
        return this.#remove();
      case 'directory':
        return this.#directory();
    }
  }

  /** Takes a name out of the model: nobody knows what it holds. Gives the other names of the same file. */
  forget(name: string): string[] {
    const file = this.#files.get(name);
    this.#files.delete(name);
    return file === undefined ? [] : this.#namesOf(file);
  }

  /** An order that prints what `differences` reads. */
  static readonly listing =
    'cd "$tree" && find . -type f -exec md5sum {} + && find . -type d && find . -type f -exec stat -c "%h links %n" {} +; cd /';

  /** How a tree of which `listing` printed `output` differs from what it must be, at most 20 lines; names under `lost+found` do not count. */
  differences(output: string): string[] {
    const wanted = new Set<string>();
    for (const [name, file] of this.#files) {
      wanted.add(`${createHash('md5').update(file.bytes).digest('hex')}  ./${name}`);
      wanted.add(`${this.#namesOf(file).length} links ./${name}`);
    }
    for (const directory of this.#directories) wanted.add(directory === '.' ? '.' : `./${directory}`);
    const found = new Set(output.split('\n').filter((line) => line !== '' && !line.includes('./lost+found')));
    const missing = [...wanted].filter((line) => !found.has(line)).map((line) => `missing: ${line}`);
    const surplus = [...found].filter((line) => !wanted.has(line)).map((line) => `found: ${line}`);
    return [...missing, ...surplus].sort((one, other) => (one.slice(-12) < other.slice(-12) ? -1 : 1)).slice(0, 20);
  }

  #create(): Step {
    const name = this.#newName();
    const { bytes, from } = this.#piece(this.#fileBytesMax);
    const apply = () => void this.#files.set(name, { bytes });
    return this.#step(`${copy(from, bytes.length)} of="$tree/${name}"`, [name], apply, [name, dirname(name)]);
  }

  #append(): Step {
    const [name, file] = this.#aFile();
    const { bytes, from } = this.#piece(64 * KIB);
    const apply = () => {
      file.bytes = Buffer.concat([file.bytes, bytes]);
    };
    const order = `${copy(from, bytes.length)} conv=notrunc oflag=append of="$tree/${name}"`;
    return this.#step(order, this.#namesOf(file), apply, [name]);
  }

  #overwrite(): Step {
    const [name, file] = this.#aFile();
    const at = this.#random.int(file.bytes.length + 1);
    const { bytes, from } = this.#piece(64 * KIB);
    const apply = () => {
      const head = file.bytes.subarray(0, at);
      file.bytes = Buffer.concat([head, bytes, file.bytes.subarray(Math.min(at + bytes.length, file.bytes.length))]);
    };
    const order = `${copy(from, bytes.length)} conv=notrunc oflag=seek_bytes seek=${at} of="$tree/${name}"`;
    return this.#step(order, this.#namesOf(file), apply, [name]);
  }

  /** As programs save a file: the new one whole under another name, then in the place of the old one. */
  #replace(): Step {
    const [name] = this.#aFile();
    const { bytes, from } = this.#piece(this.#fileBytesMax);
    const fresh = `${name}.new`;
    const apply = () => void this.#files.set(name, { bytes });
    const order = `${copy(from, bytes.length)} of="$tree/${fresh}" && sync "$tree/${fresh}" && mv "$tree/${fresh}" "$tree/${name}"`;
    return this.#step(order, [name, fresh], apply, [dirname(name)]);
  }

  #rename(): Step {
    const [name, file] = this.#aFile();
    const to = this.#newName();
    const apply = () => {
      this.#files.delete(name);
      this.#files.set(to, file);
    };
    return this.#step(`mv "$tree/${name}" "$tree/${to}"`, [name, to], apply, [to, dirname(name), dirname(to)]);
  }

  #link(): Step {
    const [name, file] = this.#aFile();
    const to = this.#newName();
    const apply = () => void this.#files.set(to, file);
    return this.#step(`ln "$tree/${name}" "$tree/${to}"`, [...this.#namesOf(file), to], apply, [to, dirname(to)]);
  }

  #truncate(): Step {
    const [name, file] = this.#aFile();
    const length = this.#random.int(file.bytes.length + 16 * KIB);
    const apply = () => {
      const bytes = Buffer.alloc(length);
      file.bytes.copy(bytes);
      file.bytes = bytes;
    };
    return this.#step(`truncate -s ${length} "$tree/${name}"`, this.#namesOf(file), apply, [name]);
  }

  #remove(): Step {
    const [name, file] = this.#aFile();
    const apply = () => void this.#files.delete(name);
    return this.#step(`rm "$tree/${name}"`, this.#namesOf(file), apply, [dirname(name)]);
  }

  #directory(): Step {
    if (this.#directories.length >= DIRECTORIES_MAX) return this.#create();
    this.#serial += 1;
    const parent = this.#random.pick(this.#directories);
    const name = parent === '.' ? `d${this.#serial}` : `${parent}/d${this.#serial}`;
    const apply = () => void this.#directories.push(name);
    return this.#step(`mkdir -p "$tree/${name}"`, [name], apply, [name, parent], true);
  }

  /** `synced`: what must be flushed for the step to be durable. */
  #step(order: string, names: string[], apply: () => void, synced: string[], always = false): Step {
    const durable = always || this.#random.chance(this.#durableShare);
    const sync = [...new Set(synced)].map((name) => ` "$tree/${name}"`).join('');
    return { order: durable ? `${order} && sync${sync}` : order, durable, names, apply };
  }

  #aFile(): [string, File] {
    return this.#random.pick([...this.#files]);
  }

  #namesOf(file: File): string[] {
    return [...this.#files].filter(([, each]) => each === file).map(([name]) => name);
  }

  #newName(): string {
    this.#serial += 1;
    const directory = this.#random.pick(this.#directories);
    return directory === '.' ? `f${this.#serial}` : `${directory}/f${this.#serial}`;
  }

  /** Small ones more often than large ones. */
  #piece(bytesMax: number): { bytes: Buffer; from: number } {
    const length = 1 + Math.floor(bytesMax * this.#random.fraction() ** 3);
    const from = this.#random.int(POOL_BYTES - length);
    return { bytes: this.pool.subarray(from, from + length), from };
  }
}

function copy(from: number, length: number): string {
  return `dd status=none if="$pool" bs=64k iflag=skip_bytes,count_bytes skip=${from} count=${length}`;
}
