// The disk wear-out model as a file: JSON with a format version, feature names, trees, calibration, its training notice and its figures.
// Guarantees that what it accepts can be scored without a check: sound trees, known features, finite numbers; a damaged file is refused
// with the place that is wrong. The id is the SHA-256 of the file's bytes.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { BetaCalibration } from './calibration.js';
import { FEATURES } from './disk-features.js';
import { DEPTH_MAX, type Tree } from './tree-ensemble.js';

export const FORMAT = 'forestall-disk-wearout';
export const VERSION = 1;

/** The file's content. `training` and `evaluation` are for people and are not interpreted. */
export interface ModelFile {
  format: typeof FORMAT;
  version: typeof VERSION;
  horizonDays: number;
  features: string[];
  bias: number;
  calibration: BetaCalibration;
  trees: Tree[];
  training: Record<string, unknown>;
  evaluation: Record<string, unknown>;
}

export interface LoadedModel {
  /** SHA-256 of the file, hex. */
  id: string;
  file: ModelFile;
  /** For each feature of the file, its index in FEATURES. */
  featureIndex: number[];
}

export type ModelResult = { ok: true; model: LoadedModel } | { ok: false; message: string };

const BYTES_MAX = 32 * 2 ** 20;
const TREES_MAX = 2000;
const NODES_MAX = 4096;
const TREE_COLUMNS = ['feature', 'threshold', 'missingLeft', 'left', 'right', 'value', 'cover'] as const;
const SHIPPED = 'disk-wearout-v1.json';

/** Reads and checks a model file; the shipped one when no path is given. */
export function loadModelFile(path?: string): ModelResult {
  const candidates = path === undefined ? shippedPaths() : [path];
  let problem = '';
  for (const candidate of candidates) {
    try {
      return parseModelFile(readFileSync(candidate));
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
  }
  return { ok: false, message: `the disk wear-out model cannot be read: ${problem}` };
}

/** Beside this file in the sources; above dist/ once built. */
function shippedPaths(): URL[] {
  return [new URL(`./models/${SHIPPED}`, import.meta.url), new URL(`../../pfa/models/${SHIPPED}`, import.meta.url)];
}

/** Checks the bytes of a model file. */
export function parseModelFile(bytes: Uint8Array): ModelResult {
  if (bytes.length > BYTES_MAX) return refused(`${bytes.length} bytes; at most ${BYTES_MAX}`);
  let root: unknown;
  try {
    root = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    return refused(`it is not JSON (${error instanceof Error ? error.message : String(error)})`);
  }
  const file = (root ?? {}) as Partial<ModelFile>;
  if (file.format !== FORMAT) return refused(`format is ${JSON.stringify(file.format)?.slice(0, 40) ?? 'missing'}, expected "${FORMAT}"`);
  if (file.version !== VERSION)
    return refused(`version ${JSON.stringify(file.version) ?? 'missing'} is not ${VERSION}; train it again or update Forestall`);
  if (typeof file.horizonDays !== 'number' || !(file.horizonDays > 0)) return refused('horizonDays is no positive number');
  if (!Number.isFinite(file.bias)) return refused('bias is no finite number');
  const { a, b, c } = (file.calibration ?? {}) as Partial<BetaCalibration>;
  if (!isNumber(a) || !isNumber(b) || !isNumber(c) || a < 0 || b < 0) return refused('calibration is {a, b, c} with a and b not negative');
  if (!Array.isArray(file.features) || file.features.length === 0) return refused('features is missing');
  const featureIndex = file.features.map((name) => FEATURES.findIndex((feature) => feature.name === name));
  const unknown = featureIndex.indexOf(-1);
  if (unknown >= 0) return refused(`feature ${JSON.stringify(file.features[unknown])} is unknown to this version`);
  if (!Array.isArray(file.trees) || file.trees.length === 0 || file.trees.length > TREES_MAX)
    return refused(`trees is a list of 1 to ${TREES_MAX}`);
  for (const [index, tree] of file.trees.entries()) {
    const problem = treeProblem(tree, featureIndex.length);
    if (problem !== null) return refused(`trees[${index}]: ${problem}`);
  }
  const id = createHash('sha256').update(bytes).digest('hex');
  return { ok: true, model: { id, file: file as ModelFile, featureIndex } };
}

/** Null when every node is reached once from the root, children come after their parent, and numbers are finite. */
function treeProblem(tree: Tree | undefined, features: number): string | null {
  const length = tree?.feature?.length;
  if (tree === undefined || length === undefined || length === 0 || length > NODES_MAX) return `a tree has 1 to ${NODES_MAX} nodes`;
  for (const column of TREE_COLUMNS) {
    const cells: unknown = tree[column];
    if (!Array.isArray(cells) || cells.length !== length) return `${column} does not have ${length} entries`;
    const sound = column === 'missingLeft' ? cells.every((cell) => typeof cell === 'boolean') : cells.every(isNumber);
    if (!sound) return `${column} holds something that is no ${column === 'missingLeft' ? 'boolean' : 'finite number'}`;
  }
  const depth = new Int32Array(length).fill(-1);
  depth[0] = 0;
  for (let node = 0; node < length; node++) {
    if (depth[node] < 0) return `node ${node} is not reached from the root`;
    if (depth[node] > DEPTH_MAX) return `deeper than ${DEPTH_MAX} levels`;
    if (tree.cover[node] < 0) return `node ${node} has a negative cover`;
    if (tree.feature[node] === -1) continue;
    if (!Number.isInteger(tree.feature[node]) || tree.feature[node] < 0 || tree.feature[node] >= features)
      return `node ${node} splits on feature ${tree.feature[node]}`;
    for (const child of [tree.left[node], tree.right[node]]) {
      if (!Number.isInteger(child) || child <= node || child >= length || depth[child] >= 0) return `node ${node} has ${child} as a child`;
      if (!(tree.cover[child] > 0)) return `node ${child} has no cover`;
      depth[child] = depth[node] + 1;
    }
  }
  return null;
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function refused(message: string): ModelResult {
  return { ok: false, message: `the disk wear-out model is refused: ${message}` };
}
