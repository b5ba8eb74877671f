// Reads the records' LMDB file without LMDB, page by page, and says everything that is wrong with its structure. LMDB maps
// the file into memory and trusts it: one that is cut off or damaged would kill the process by a signal, or give another
// record than was written. Here damage is a reason in words, and what is still readable is read. Never writes.
//
// Only for a file that nobody writes: the data directory's lock is held while this reads.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import {
  DamagedPage,
  decodeKey,
  META_BYTES,
  type Meta,
  overflowPagesOf,
  PAGE_HEADER_BYTES,
  PAGE_KIND,
  pageKind,
  readFreePages,
  readMeta,
  readNodes,
  type Tree,
  type TreeNode,
} from './lmdb-layout.js';

const DEPTH_MAX = 32;

export interface StoredRecord {
  key: string;
  /** As `record-codec.ts` made them, unchecked. */
  bytes: Buffer;
}

/** Told of each flaw: a sentence's part that names the page. */
export type Fault = (reason: string) => void;

interface Walk {
  tree: Tree;
  name: string;
  pages: { branch: number; leaf: number; overflow: number };
  entries: number;
  compare(a: Buffer, b: Buffer): number;
  last: Buffer | null;
  /** Something could not be read, so the counts cannot fit. */
  broken: boolean;
}

/** Keys lie from `low` (inclusive) to `high` (exclusive); null: without a bound. */
interface Bounds {
  low: Buffer | null;
  high: Buffer | null;
}

function compareTransactions(a: Buffer, b: Buffer): number {
  if (a.length !== 8 || b.length !== 8) throw new DamagedPage('a key is no transaction number');
  return Number(a.readBigUInt64LE(0) - b.readBigUInt64LE(0));
}

export class RecordsFile {
  readonly meta: Meta;
  readonly sizeBytes: number;
  readonly #fd: number;
  /** One bit for each page of the file: a tree uses it. */
  #used = new Uint8Array(0);

  private constructor(fd: number, sizeBytes: number, meta: Meta) {
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
    this.meta = meta;
  }

  /** A text is the reason why it is no file of records at all. Throws the system's error. */
  static open(path: string): RecordsFile | string {
    const fd = openSync(path, 'r');
    try {
      const sizeBytes = fstatSync(fd).size;
      const first = readMetaAt(fd, 0, 0);
      const second = first === null ? null : readMetaAt(fd, 1, first.pageBytes);
      if (first === null || second === null || first.pageBytes !== second.pageBytes) {
        closeSync(fd);
        return sizeBytes === 0 ? 'it is empty' : 'its first pages are not those of a records file';
      }
      // LMDB would take the older one if the newer one were older by damage: that is another state of the records.
      if (Math.abs(first.transaction - second.transaction) > 1) {
        closeSync(fd);
        return 'its first pages do not follow on one another';
      }
      return new RecordsFile(fd, sizeBytes, second.transaction > first.transaction ? second : first);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Every record that can be read, by key; then the free pages are looked at. Read to the end to know of every flaw. */
  *records(fault: Fault): Generator<StoredRecord> {
    const { pageBytes, lastPage } = this.meta;
    this.#used = new Uint8Array(Math.ceil(Math.min(lastPage + 1, Math.ceil(this.sizeBytes / pageBytes)) / 8));
    for (const node of this.#tree(this.meta.records, 'records', Buffer.compare, fault)) {
      yield { key: decodeKey(node.key), bytes: node.bytes };
    }
    for (const { bytes } of this.#tree(this.meta.free, 'free pages', compareTransactions, fault)) {
      this.#checkFree(bytes, fault);
    }
  }

  *#tree(tree: Tree, name: string, compare: Walk['compare'], fault: Fault): Generator<{ key: Buffer; bytes: Buffer }> {
    const walk: Walk = { tree, name, compare, pages: { branch: 0, leaf: 0, overflow: 0 }, entries: 0, last: null, broken: false };
    if (tree.root !== null && tree.depth > 0 && tree.depth <= DEPTH_MAX) {
      yield* this.#branch(walk, tree.root, tree.depth, { low: null, high: null }, fault);
    } else if (tree.root !== null || tree.depth !== 0) {
      fault(`the tree of ${name} has no possible depth`);
      return;
    }
    const { pages, entries } = walk;
    const fits =
      pages.branch === tree.branchPages &&
      pages.leaf === tree.leafPages &&
      pages.overflow === tree.overflowPages &&
      entries === tree.entries;
    if (!walk.broken && !fits) fault(`the tree of ${name} has ${entries} entries, but says that they are ${tree.entries}, or other pages`);
  }

  *#branch(walk: Walk, number: number, depth: number, bounds: Bounds, fault: Fault): Generator<{ key: Buffer; bytes: Buffer }> {
    let nodes: TreeNode[];
    const leaf = depth === 1;
    try {
      const page = this.#page(number);
      const kind = pageKind(page, number, this.meta.transaction);
      if (kind !== (leaf ? PAGE_KIND.LEAF : PAGE_KIND.BRANCH)) throw new DamagedPage('it is of another kind than its place');
      nodes = readNodes(page, kind);
      if (!leaf) checkBranch(walk, nodes, bounds);
    } catch (error) {
      this.#say(walk, number, error, fault);
      return;
    }
    walk.pages[leaf ? 'leaf' : 'branch'] += 1;
    for (const [at, node] of nodes.entries()) {
      if (!leaf) {
        const within = { low: at === 0 ? bounds.low : node.key, high: nodes[at + 1]?.key ?? bounds.high };
        yield* this.#branch(walk, node.child, depth - 1, within, fault);
        continue;
      }
      walk.entries += 1;
      try {
        checkOrder(walk, node.key, bounds);
        yield { key: node.key, bytes: node.data ?? this.#overflow(walk, node.overflow!) };
      } catch (error) {
        this.#say(walk, number, error, fault, node.key);
      }
    }
  }

  #say(walk: Walk, number: number, error: unknown, fault: Fault, key: Buffer | null = null): void {
    if (!(error instanceof DamagedPage)) throw error;
    walk.broken = true;
    const where = key === null || walk.tree !== this.meta.records ? '' : `, record ${JSON.stringify(decodeKey(key))}`;
    fault(`page ${number}, of the ${walk.name}${where}: ${error.message}`);
  }

  #overflow(walk: Walk, { page, transaction, pages, lengthBytes }: NonNullable<TreeNode['overflow']>): Buffer {
    const { pageBytes } = this.meta;
    if (pages !== overflowPagesOf(lengthBytes, pageBytes)) throw new DamagedPage('the length of an entry does not fit its pages');
    const whole = this.#page(page, pages);
    const kind = pageKind(whole, page, this.meta.transaction);
    const same = Number(whole.readBigUInt64LE(8)) === transaction;
    if (kind !== PAGE_KIND.OVERFLOW || !same || whole.readUInt32LE(20) !== pages) {
      throw new DamagedPage(`page ${page} does not hold the entry that it should`);
    }
    walk.pages.overflow += pages;
    return whole.subarray(PAGE_HEADER_BYTES, PAGE_HEADER_BYTES + lengthBytes);
  }

  /** Pages that no other place of the trees uses. */
  #page(number: number, pages = 1): Buffer {
    const { pageBytes, lastPage } = this.meta;
    if (number < 2 || number + pages - 1 > lastPage) throw new DamagedPage(`page ${number} is none of the file's`);
    if ((number + pages) * pageBytes > this.sizeBytes) throw new DamagedPage(`the file is cut off before page ${number + pages - 1}`);
    for (let each = number; each < number + pages; each += 1) {
      if (this.#isUsed(each)) throw new DamagedPage(`page ${each} is used twice`);
      this.#used[each >>> 3] |= 1 << (each & 7);
    }
    const bytes = Buffer.allocUnsafe(pages * pageBytes);
    for (let done = 0; done < bytes.length; ) {
      const read = readSync(this.#fd, bytes, done, bytes.length - done, number * pageBytes + done);
      if (read === 0) throw new DamagedPage('the file became shorter');
      done += read;
    }
    return bytes;
  }

  #isUsed(page: number): boolean {
    return (this.#used[page >>> 3] & (1 << (page & 7))) !== 0;
  }

  /** A page that is free and used would be overwritten by the next commit. */
  #checkFree(bytes: Buffer, fault: Fault): void {
    try {
      for (const { first, pages } of readFreePages(bytes)) {
        if (first < 2 || first + pages - 1 > this.meta.lastPage) throw new DamagedPage(`a list of free pages names page ${first}`);
        for (let page = first; page < first + pages; page += 1) {
          if (this.#isUsed(page)) throw new DamagedPage(`page ${page} is used, but stands among the free ones`);
        }
      }
    } catch (error) {
      if (!(error instanceof DamagedPage)) throw error;
      fault(error.message);
    }
  }
}

function readMetaAt(fd: number, number: 0 | 1, offset: number): Meta | null {
  const page = Buffer.alloc(META_BYTES);
  return readSync(fd, page, 0, META_BYTES, offset) < META_BYTES ? null : readMeta(page, number);
}

/** A branch's first key is never looked at. */
function checkBranch(walk: Walk, nodes: TreeNode[], { low, high }: Bounds): void {
  for (let at = 1; at < nodes.length; at += 1) {
    const { key } = nodes[at];
    const before = at === 1 ? low : nodes[at - 1].key;
    const ordered = (before === null || walk.compare(before, key) < 0) && (high === null || walk.compare(key, high) < 0);
    if (!ordered) throw new DamagedPage('its keys are out of order');
  }
}

function checkOrder(walk: Walk, key: Buffer, { low, high }: Bounds): void {
  const ordered =
    (walk.last === null || walk.compare(walk.last, key) < 0) &&
    (low === null || walk.compare(low, key) <= 0) &&
    (high === null || walk.compare(key, high) < 0);
  if (!ordered) throw new DamagedPage('its keys are out of order');
  walk.last = key;
}
