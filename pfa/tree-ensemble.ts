// A sum of binary regression trees: scoring, and exact additive explanations by TreeSHAP.
// Guarantees expectedValue + sum of contributions = margin (to rounding) for every row, missing values included. It must not know what
// the features mean, nor how the trees were grown.
// Method: Lundberg, Erion, Lee, "Consistent Individualized Feature Attribution for Tree Ensembles" (2018), algorithm 2.

import assert from 'node:assert';

/** Nodes in arrays; node 0 is the root. feature -1: a leaf. A row goes left when value <= threshold, or is NaN and missingLeft. */
export interface Tree {
  feature: number[];
  threshold: number[];
  missingLeft: boolean[];
  left: number[];
  right: number[];
  /** Log-odds of a leaf; 0 in inner nodes. */
  value: number[];
  /** How many training rows passed here, by weight. */
  cover: number[];
}

export const DEPTH_MAX = 12;

/** Sum of the leaves a row ends in. */
export function margin(trees: readonly Tree[], row: Float64Array): number {
  let sum = 0;
  for (const tree of trees) sum += tree.value[leafOf(tree, row)];
  return sum;
}

export function leafOf(tree: Tree, row: Float64Array): number {
  let node = 0;
  while (tree.feature[node] >= 0) node = next(tree, node, row);
  return node;
}

/** The margin of a row of which nothing is known: leaves averaged by cover. */
export function expectedValue(trees: readonly Tree[]): number {
  return trees.reduce((sum, tree) => sum + meanBelow(tree, 0), 0);
}

function meanBelow(tree: Tree, node: number): number {
  if (tree.feature[node] < 0) return tree.value[node];
  const left = tree.left[node];
  const right = tree.right[node];
  return (tree.cover[left] * meanBelow(tree, left) + tree.cover[right] * meanBelow(tree, right)) / (tree.cover[left] + tree.cover[right]);
}

/** Shapley values of one row, added into `contributions` (one number a feature). Not re-entrant: it works in the arrays below. */
export function addContributions(trees: readonly Tree[], row: Float64Array, contributions: Float64Array): void {
  for (const tree of trees) {
    if (tree.feature[0] >= 0) descend(tree, row, contributions, 0, -1, 0, 1, 1, -1);
  }
}

// The features met on the way down, one path a level, level l from l * STRIDE on: which feature, the share of rows that pass its splits when
// it is unknown (zero) and known (one), and the weight of the permutations in which this many features come before.
const STRIDE = DEPTH_MAX + 2;
const FEATURE = new Int32Array(STRIDE * STRIDE);
const ZERO = new Float64Array(STRIDE * STRIDE);
const ONE = new Float64Array(STRIDE * STRIDE);
const WEIGHT = new Float64Array(STRIDE * STRIDE);

/** `length`: steps of the path of the level above, which this level extends by one. */
function descend(
  tree: Tree,
  row: Float64Array,
  out: Float64Array,
  node: number,
  above: number,
  length: number,
  zero: number,
  one: number,
  feature: number,
): void {
  const level = above + 1;
  const base = level * STRIDE;
  assert(level < STRIDE && length < STRIDE, 'a tree fits its numbering');
  if (length > 0) copyPath(above * STRIDE, base, length);
  extend(base, length, zero, one, feature);
  let steps = length + 1;
  if (tree.feature[node] < 0) {
    for (let i = 1; i < steps; i++) {
      out[FEATURE[base + i]] += unwoundSum(base, steps, i) * (ONE[base + i] - ZERO[base + i]) * tree.value[node];
    }
    return;
  }
  const split = tree.feature[node];
  const hot = next(tree, node, row);
  const cold = hot === tree.left[node] ? tree.right[node] : tree.left[node];
  let [zeroBefore, oneBefore] = [1, 1];
  for (let i = 1; i < steps; i++) {
    if (FEATURE[base + i] !== split) continue;
    [zeroBefore, oneBefore] = [ZERO[base + i], ONE[base + i]];
    unwind(base, steps, i);
    steps--;
    break;
  }
  const total = tree.cover[hot] + tree.cover[cold];
  descend(tree, row, out, hot, level, steps, (zeroBefore * tree.cover[hot]) / total, oneBefore, split);
  descend(tree, row, out, cold, level, steps, (zeroBefore * tree.cover[cold]) / total, 0, split);
}

function copyPath(from: number, to: number, length: number): void {
  for (let i = 0; i < length; i++) {
    FEATURE[to + i] = FEATURE[from + i];
    ZERO[to + i] = ZERO[from + i];
    ONE[to + i] = ONE[from + i];
    WEIGHT[to + i] = WEIGHT[from + i];
  }
}

function extend(base: number, length: number, zero: number, one: number, feature: number): void {
  FEATURE[base + length] = feature;
  ZERO[base + length] = zero;
  ONE[base + length] = one;
  WEIGHT[base + length] = length === 0 ? 1 : 0;
  for (let i = length - 1; i >= 0; i--) {
    WEIGHT[base + i + 1] += (one * WEIGHT[base + i] * (i + 1)) / (length + 1);
    WEIGHT[base + i] = (zero * WEIGHT[base + i] * (length - i)) / (length + 1);
  }
}

/** Takes one step out of a path. */
function unwind(base: number, steps: number, index: number): void {
  const depth = steps - 1;
  const one = ONE[base + index];
  const zero = ZERO[base + index];
  let carried = WEIGHT[base + depth];
  for (let i = depth - 1; i >= 0; i--) {
    if (one !== 0) {
      const held = WEIGHT[base + i];
      WEIGHT[base + i] = (carried * steps) / ((i + 1) * one);
      carried = held - (WEIGHT[base + i] * zero * (depth - i)) / steps;
    } else {
      WEIGHT[base + i] = (WEIGHT[base + i] * steps) / (zero * (depth - i));
    }
  }
  for (let i = index; i < depth; i++) {
    FEATURE[base + i] = FEATURE[base + i + 1];
    ZERO[base + i] = ZERO[base + i + 1];
    ONE[base + i] = ONE[base + i + 1];
  }
}

/** Sum of the weights of the path without one step. */
function unwoundSum(base: number, steps: number, index: number): number {
  const depth = steps - 1;
  const one = ONE[base + index];
  const zero = ZERO[base + index];
  let carried = WEIGHT[base + depth];
  let total = 0;
  for (let i = depth - 1; i >= 0; i--) {
    if (one !== 0) {
      const weight = (carried * steps) / ((i + 1) * one);
      total += weight;
      carried = WEIGHT[base + i] - (weight * zero * (depth - i)) / steps;
    } else {
      total += (WEIGHT[base + i] * steps) / (zero * (depth - i));
    }
  }
  return total;
}

function next(tree: Tree, node: number, row: Float64Array): number {
  const value = row[tree.feature[node]];
  const left = Number.isNaN(value) ? tree.missingLeft[node] : value <= tree.threshold[node];
  return left ? tree.left[node] : tree.right[node];
}
