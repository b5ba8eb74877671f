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

/** Shapley values of one row, added into `contributions` (one number a feature). */
export function addContributions(trees: readonly Tree[], row: Float64Array, contributions: Float64Array): void {
  for (const tree of trees) {
    if (tree.feature[0] >= 0) descend(tree, row, contributions, 0, [], 1, 1, -1);
  }
}

/** One split on the way down: which feature, the share of rows that pass when it is unknown / known, and the permutation weight. */
interface Step {
  feature: number;
  zero: number;
  one: number;
  weight: number;
}

function descend(
  tree: Tree,
  row: Float64Array,
  out: Float64Array,
  node: number,
  above: readonly Step[],
  zero: number,
  one: number,
  feature: number,
): void {
  const path = extend(above, zero, one, feature);
  if (tree.feature[node] < 0) {
    for (let i = 1; i < path.length; i++) {
      const step = path[i];
      out[step.feature] += unwoundSum(path, i) * (step.one - step.zero) * tree.value[node];
    }
    return;
  }
  assert(path.length <= DEPTH_MAX + 1);
  const split = tree.feature[node];
  const hot = next(tree, node, row);
  const cold = hot === tree.left[node] ? tree.right[node] : tree.left[node];
  const seen = path.findIndex((step, i) => i > 0 && step.feature === split);
  const before = seen < 0 ? { zero: 1, one: 1 } : path[seen];
  const rest = seen < 0 ? path : unwind(path, seen);
  const total = tree.cover[hot] + tree.cover[cold];
  descend(tree, row, out, hot, rest, (before.zero * tree.cover[hot]) / total, before.one, split);
  descend(tree, row, out, cold, rest, (before.zero * tree.cover[cold]) / total, 0, split);
}

function extend(above: readonly Step[], zero: number, one: number, feature: number): Step[] {
  const path = above.map((step) => ({ ...step }));
  const depth = path.length;
  path.push({ feature, zero, one, weight: depth === 0 ? 1 : 0 });
  for (let i = depth - 1; i >= 0; i--) {
    path[i + 1].weight += (one * path[i].weight * (i + 1)) / (depth + 1);
    path[i].weight = (zero * path[i].weight * (depth - i)) / (depth + 1);
  }
  return path;
}

function unwind(path: readonly Step[], index: number): Step[] {
  const depth = path.length - 1;
  const { one, zero } = path[index];
  const shorter = path.map((step) => ({ ...step }));
  let carried = path[depth].weight;
  for (let i = depth - 1; i >= 0; i--) {
    if (one !== 0) {
      const held = shorter[i].weight;
      shorter[i].weight = (carried * (depth + 1)) / ((i + 1) * one);
      carried = held - (shorter[i].weight * zero * (depth - i)) / (depth + 1);
    } else {
      shorter[i].weight = (shorter[i].weight * (depth + 1)) / (zero * (depth - i));
    }
  }
  for (let i = index; i < depth; i++) {
    const { feature, zero: z, one: o } = path[i + 1];
    shorter[i] = { feature, zero: z, one: o, weight: shorter[i].weight };
  }
  shorter.pop();
  return shorter;
}

/** Sum of the weights of the path without one step. */
function unwoundSum(path: readonly Step[], index: number): number {
  const depth = path.length - 1;
  const { one, zero } = path[index];
  let carried = path[depth].weight;
  let total = 0;
  for (let i = depth - 1; i >= 0; i--) {
    if (one !== 0) {
      const weight = (carried * (depth + 1)) / ((i + 1) * one);
      total += weight;
      carried = path[i].weight - (weight * zero * (depth - i)) / (depth + 1);
    } else {
      total += (path[i].weight * (depth + 1)) / (zero * (depth - i));
    }
  }
  return total;
}

function next(tree: Tree, node: number, row: Float64Array): number {
  const value = row[tree.feature[node]];
  const left = Number.isNaN(value) ? tree.missingLeft[node] : value <= tree.threshold[node];
  return left ? tree.left[node] : tree.right[node];
}
