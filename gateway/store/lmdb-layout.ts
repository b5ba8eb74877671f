// The bytes of LMDB's file as far as it must be understood to tell a sound one from a damaged one (LMDB's data format 2 on
// 64-bit little-endian systems, as the package lmdb 3.5 writes it; described in its mdb.c). Pure: bytes in, structure or
// the reason why it is none out.
//
// A file is a sequence of pages of one size. Pages 0 and 1 are meta pages; the valid one of the later transaction counts. From
// there two trees go out: that of the records, and that of the free pages.
//
//   every page    0 u64 its number, 8 u64 transaction, 18 u16 flags, 20 u16 lower, 22 u16 upper (both counted from byte 24)
//   meta          24 u32 magic, 28 u16 version, 40 u64 bytes of the map, 48 tree of free pages, 96 tree of records,
//                 144 u64 last page used, 152 u64 transaction
//   a tree        0 u32 page size (first tree only), 4 u16 flags, 6 u16 depth, 8 u64 branch pages, 16 u64 leaf pages,
//                 24 u64 overflow pages, 32 u64 entries, 40 u64 root page, all ones when it is empty
//   branch, leaf  24 u16 for each node: where it starts, counted from byte 24
//   a node        0 u32 length of the data (branch: 48 bits of the child's page number), 4 u16 flags, 6 u16 length of the key,
//                 8 key, then data; with flag 1 the data is u64 page, u64 transaction, u64 pages, and stands from byte 24 of
//                 that overflow page on
//   overflow      20 u32 number of pages
//   free pages    key: u64 transaction; data: u64 n, then n times i64: a page, or 0, or -length followed by the first page
const MAGIC = 0xbeefc0de;
const VERSION = 2;
const PAGE_BYTES_MIN = 4096;
const PAGE_BYTES_MAX = 65536;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
const NODE_BYTES = 8;
const OVERFLOW_REFERENCE_BYTES = 24;
const FLAG_BIG_DATA = 1;

export const PAGE_HEADER_BYTES = 24;
export const META_BYTES = 160;
export const PAGE_KIND = { BRANCH: 1, LEAF: 2, OVERFLOW: 4, META: 8 } as const;
const KIND_MASK = 0x2f;

export interface Tree {
  depth: number;
  branchPages: number;
  leafPages: number;
  overflowPages: number;
  entries: number;
  /** Null: the tree is empty. */
  root: number | null;
}

/** Flags of the two trees that say how keys and data are kept. */
const TREE_FLAGS_MASK = 0x7f;
const FREE_FLAGS = 0x08;

export interface Meta {
  pageBytes: number;
  lastPage: number;
  transaction: number;
  free: Tree;
  records: Tree;
}

/** A child's page in a branch, the data itself in a leaf, or where a leaf says that the data is. */
export interface TreeNode {
  key: Buffer;
  child: number;
  data: Buffer | null;
  overflow: { page: number; transaction: number; pages: number; lengthBytes: number } | null;
}

/** What stands there is not what LMDB writes; the message is a part of a sentence. */
export class DamagedPage extends Error {}

function readTree(page: Buffer, at: number): Tree {
  const root = page.readBigUInt64LE(at + 40);
  return {
    depth: page.readUInt16LE(at + 6),
    branchPages: Number(page.readBigUInt64LE(at + 8)),
    leafPages: Number(page.readBigUInt64LE(at + 16)),
    overflowPages: Number(page.readBigUInt64LE(at + 24)),
    entries: Number(page.readBigUInt64LE(at + 32)),
    root: root === NO_PAGE ? null : Number(root),
  };
}

/** The first `META_BYTES` of meta page 0 or 1; null when they are not one's. */
export function readMeta(page: Buffer, number: 0 | 1): Meta | null {
  if (page.length < META_BYTES || page.readUInt32LE(24) !== MAGIC || page.readUInt16LE(28) !== VERSION) return null;
  if ((page.readUInt16LE(18) & PAGE_KIND.META) === 0) return null;
  if ((page.readUInt16LE(52) & TREE_FLAGS_MASK) !== FREE_FLAGS || (page.readUInt16LE(100) & TREE_FLAGS_MASK) !== 0) return null;
  const pageBytes = page.readUInt32LE(48);
  if (pageBytes < PAGE_BYTES_MIN || pageBytes > PAGE_BYTES_MAX || (pageBytes & (pageBytes - 1)) !== 0) return null;
  const lastPage = Number(page.readBigUInt64LE(144));
  if (lastPage < 1 || (lastPage + 1) * pageBytes > Number(page.readBigUInt64LE(40))) return null;
  const transaction = Number(page.readBigUInt64LE(152));
  // Transactions write them in turn.
  if (transaction % 2 !== number) return null;
  return {
    pageBytes,
    lastPage,
    transaction,
    free: readTree(page, 48),
    records: readTree(page, 96),
  };
}

/** The kind of page `number`, bits of PAGE_KIND. Throws DamagedPage. */
export function pageKind(page: Buffer, number: number, transaction: number): number {
  if (Number(page.readBigUInt64LE(0)) !== number) throw new DamagedPage('it does not bear its number');
  if (Number(page.readBigUInt64LE(8)) > transaction) throw new DamagedPage('it is newer than the last transaction');
  return page.readUInt16LE(18) & KIND_MASK;
}

/** The nodes of a branch or leaf page, in order. Throws DamagedPage. */
export function readNodes(page: Buffer, kind: number): TreeNode[] {
  const lower = page.readUInt16LE(20);
  const upper = page.readUInt16LE(22);
  if (lower % 2 !== 0 || lower > upper || upper > page.length - PAGE_HEADER_BYTES) throw new DamagedPage('its bounds are impossible');
  const nodes: TreeNode[] = [];
  for (let at = PAGE_HEADER_BYTES; at < PAGE_HEADER_BYTES + lower; at += 2) {
    const start = page.readUInt16LE(at) + PAGE_HEADER_BYTES;
    if (start < PAGE_HEADER_BYTES + upper || start + NODE_BYTES > page.length) throw new DamagedPage('an entry lies outside of it');
    nodes.push(readNode(page, start, kind));
  }
  if (nodes.length === 0) throw new DamagedPage('it has no entries');
  return nodes;
}

function readNode(page: Buffer, start: number, kind: number): TreeNode {
  const low = page.readUInt32LE(start);
  const flags = page.readUInt16LE(start + 4);
  const keyEnd = start + NODE_BYTES + page.readUInt16LE(start + 6);
  if (keyEnd > page.length) throw new DamagedPage('a key runs out of it');
  const key = page.subarray(start + NODE_BYTES, keyEnd);
  if (kind === PAGE_KIND.BRANCH) return { key, child: low + flags * 2 ** 32, data: null, overflow: null };
  if (flags === FLAG_BIG_DATA) {
    if (keyEnd + OVERFLOW_REFERENCE_BYTES > page.length) throw new DamagedPage('an entry runs out of it');
    const [number, transaction, pages] = [0, 8, 16].map((offset) => Number(page.readBigUInt64LE(keyEnd + offset)));
    return { key, child: 0, data: null, overflow: { page: number, transaction, pages, lengthBytes: low } };
  }
  if (flags !== 0) throw new DamagedPage('an entry is of a kind that is never used');
  if (keyEnd + low > page.length) throw new DamagedPage('an entry runs out of it');
  return { key, child: 0, data: page.subarray(keyEnd, keyEnd + low), overflow: null };
}

/** The number of pages that data of this length takes outside of the tree. */
export function overflowPagesOf(lengthBytes: number, pageBytes: number): number {
  return Math.floor((PAGE_HEADER_BYTES - 1 + lengthBytes) / pageBytes) + 1;
}

/** Runs of free pages as one entry of the tree of free pages names them. Throws DamagedPage. */
export function readFreePages(data: Buffer): { first: number; pages: number }[] {
  const count = data.length < 8 ? -1 : Number(data.readBigUInt64LE(0));
  if (count < 0 || (count + 1) * 8 > data.length) throw new DamagedPage('a list of free pages is cut off');
  const runs: { first: number; pages: number }[] = [];
  for (let at = 1; at <= count; at += 1) {
    const entry = Number(data.readBigInt64LE(at * 8));
    if (entry > 0) runs.push({ first: entry, pages: 1 });
    if (entry >= 0) continue;
    at += 1;
    if (at > count) throw new DamagedPage('a list of free pages is cut off');
    runs.push({ first: Number(data.readBigInt64LE(at * 8)), pages: -entry });
  }
  return runs;
}

/** The text that the package lmdb made this key of. */
export function decodeKey(key: Buffer): string {
  const bytes: number[] = [];
  // A text that begins with a control character has an escape in front, and the first ones have one each.
  for (let at = key[0] === 27 ? 1 : 0; at < key.length; at += 1) {
    if (key[at] === 4 && at + 1 < key.length) at += 1;
    bytes.push(key[at]);
  }
  return Buffer.from(bytes).toString('utf8');
}
