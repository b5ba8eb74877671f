// Grows a gradient-boosted tree ensemble for a yes/no label on binned columns (logistic loss, Newton steps).
// Guarantees determinism for a seed, native missing values (bin 0), monotone features that are monotone, and at most `leavesMax` leaves
// and `depthMax` levels a tree. It must not read files or know what the features mean.
// Method: histogram boosting as in Ke et al., "LightGBM" (2017); sibling histograms by subtraction.

import type { Tree } from '../tree-ensemble.js';
import type { BinnedColumns } from './binning.js';

export interface BoostingOptions {
  treesMax: number;
  depthMax: number;
  leavesMax: number;
  learningRate: number;
  /** L2 penalty on leaf values, and the least sum of hessians in a leaf. */
  lambda: number;
  leafHessianMin: number;
  /** Gain below which a node is not split. */
  gainMin: number;
  /** Shares of rows and of features drawn for each tree. */
  rowShare: number;
  featureShare: number;
  seed: number;
}

interface Split {
  gain: number;
  feature: number;
  /** Rows whose bin is 1..bin go left. */
  bin: number;
  missingLeft: boolean;
  leftValue: number;
  rightValue: number;
}

interface Leaf {
  node: number;
  depth: number;
  rows: Uint32Array;
  histogram: Float64Array;
  lower: number;
  upper: number;
  split: Split | null;
}

const BINS = 256;

export class Booster {
  readonly #margins: Float64Array;
  readonly #gradient: Float64Array;
  readonly #hessian: Float64Array;
  readonly #orderedGradient: Float64Array;
  readonly #orderedHessian: Float64Array;
  readonly #random: () => number;
  readonly bias: number;
  readonly trees: Tree[] = [];

  /** `weights` count only for the cover of nodes: how many rows of the population each one stands for. */
  constructor(
    readonly columns: BinnedColumns,
    readonly labels: Uint8Array,
    readonly weights: Float64Array,
    readonly options: BoostingOptions,
  ) {
    const rows = labels.length;
    const positives = labels.reduce((sum, label) => sum + label, 0);
    this.bias = Math.log(positives / (rows - positives));
    this.#margins = new Float64Array(rows).fill(this.bias);
    this.#gradient = new Float64Array(rows);
    this.#hessian = new Float64Array(rows);
    this.#orderedGradient = new Float64Array(rows);
    this.#orderedHessian = new Float64Array(rows);
    this.#random = generator(options.seed);
  }

  /** Adds one tree and returns it. */
  grow(): Tree {
    const { labels } = this;
    for (let i = 0; i < labels.length; i++) {
      const p = 1 / (1 + Math.exp(-this.#margins[i]));
      this.#gradient[i] = p - labels[i];
      this.#hessian[i] = Math.max(1e-9, p * (1 - p));
    }
    const tree: Tree = { feature: [], threshold: [], missingLeft: [], left: [], right: [], value: [], cover: [] };
    const features = this.#drawFeatures();
    const leaves = [this.#leaf(tree, 0, this.#drawRows(), null, features, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY)];
    while (leaves.length < this.options.leavesMax) {
      let best = -1;
      for (let i = 0; i < leaves.length; i++) {
        const gain = leaves[i].split?.gain ?? 0;
        if (gain > 0 && (best < 0 || gain > leaves[best].split!.gain)) best = i;
      }
      if (best < 0) break;
      const [leaf] = leaves.splice(best, 1);
      leaves.push(...this.#divide(tree, leaf, features));
    }
    this.trees.push(tree);
    this.#settle(tree);
    return tree;
  }

  #drawRows(): Uint32Array {
    const rows = new Uint32Array(this.labels.length);
    let count = 0;
    for (let i = 0; i < rows.length; i++) if (this.options.rowShare >= 1 || this.#random() < this.options.rowShare) rows[count++] = i;
    return rows.subarray(0, count);
  }

  #drawFeatures(): number[] {
    const all = this.columns.columns.map((_, feature) => feature).filter((feature) => this.columns.thresholds[feature].length > 0);
    const wanted = Math.max(1, Math.round(all.length * this.options.featureShare));
    for (let i = 0; i < wanted; i++) {
      const j = i + Math.floor(this.#random() * (all.length - i));
      [all[i], all[j]] = [all[j], all[i]];
    }
    return all.slice(0, wanted);
  }

  #leaf(
    tree: Tree,
    depth: number,
    rows: Uint32Array,
    histogram: Float64Array | null,
    features: number[],
    lower: number,
    upper: number,
  ): Leaf {
    const node = tree.feature.length;
    tree.feature.push(-1);
    tree.threshold.push(0);
    tree.missingLeft.push(false);
    tree.left.push(0);
    tree.right.push(0);
    tree.value.push(0);
    tree.cover.push(0);
    const filled = histogram ?? this.#histogram(rows, features);
    let g = 0;
    let h = 0;
    for (let i = 0; i < rows.length; i++) {
      g += this.#gradient[rows[i]];
      h += this.#hessian[rows[i]];
    }
    tree.value[node] = clamp(-g / (h + this.options.lambda), lower, upper) * this.options.learningRate;
    const leaf: Leaf = { node, depth, rows, histogram: filled, lower, upper, split: null };
    if (depth < this.options.depthMax && rows.length > 1) leaf.split = this.#bestSplit(leaf, features, g, h);
    return leaf;
  }

  #histogram(rows: Uint32Array, features: number[]): Float64Array {
    const histogram = new Float64Array(this.columns.columns.length * BINS * 2);
    const g = this.#orderedGradient;
    const h = this.#orderedHessian;
    for (let i = 0; i < rows.length; i++) {
      g[i] = this.#gradient[rows[i]];
      h[i] = this.#hessian[rows[i]];
    }
    for (const feature of features) {
      const bins = this.columns.columns[feature];
      const base = feature * BINS * 2;
      for (let i = 0; i < rows.length; i++) {
        const at = base + bins[rows[i]] * 2;
        histogram[at] += g[i];
        histogram[at + 1] += h[i];
      }
    }
    return histogram;
  }

  #bestSplit(leaf: Leaf, features: number[], g: number, h: number): Split | null {
    const { lambda, gainMin, leafHessianMin } = this.options;
    const parent = (g * g) / (h + lambda);
    let best: Split | null = null;
    for (const feature of features) {
      const base = feature * BINS * 2;
      const missingG = leaf.histogram[base];
      const missingH = leaf.histogram[base + 1];
      const monotone = this.columns.monotone[feature];
      const last = this.columns.thresholds[feature].length;
      let leftG = 0;
      let leftH = 0;
      for (let bin = 1; bin <= last; bin++) {
        leftG += leaf.histogram[base + bin * 2];
        leftH += leaf.histogram[base + bin * 2 + 1];
        for (let side = 0; side < 2; side++) {
          const missingLeft = side === 1;
          if (missingLeft && missingH === 0) break;
          const lg = missingLeft ? leftG + missingG : leftG;
          const lh = missingLeft ? leftH + missingH : leftH;
          const rg = g - lg;
          const rh = h - lh;
          if (lh < leafHessianMin || rh < leafHessianMin) continue;
          const leftValue = clamp(-lg / (lh + lambda), leaf.lower, leaf.upper);
          const rightValue = clamp(-rg / (rh + lambda), leaf.lower, leaf.upper);
          if (monotone * (rightValue - leftValue) < 0) continue;
          const gain = worth(lg, lh, leftValue, lambda) + worth(rg, rh, rightValue, lambda) - parent;
          if (gain > gainMin && (best === null || gain > best.gain)) best = { gain, feature, bin, missingLeft, leftValue, rightValue };
        }
      }
    }
    return best;
  }

  #divide(tree: Tree, leaf: Leaf, features: number[]): [Leaf, Leaf] {
    const split = leaf.split!;
    const bins = this.columns.columns[split.feature];
    const left = new Uint32Array(leaf.rows.length);
    const right = new Uint32Array(leaf.rows.length);
    let lefts = 0;
    let rights = 0;
    for (const row of leaf.rows) {
      const bin = bins[row];
      if (bin === 0 ? split.missingLeft : bin <= split.bin) left[lefts++] = row;
      else right[rights++] = row;
    }
    const leftSmaller = lefts <= rights;
    const small = this.#histogram(leftSmaller ? left.subarray(0, lefts) : right.subarray(0, rights), features);
    const large = leaf.histogram;
    for (let i = 0; i < large.length; i++) large[i] -= small[i];
    const middle = (split.leftValue + split.rightValue) / 2;
    const monotone = this.columns.monotone[split.feature];
    const bounds = { lower: leaf.lower, upper: leaf.upper };
    const [leftBounds, rightBounds] = [{ ...bounds }, { ...bounds }];
    if (monotone > 0) [leftBounds.upper, rightBounds.lower] = [middle, middle];
    if (monotone < 0) [leftBounds.lower, rightBounds.upper] = [middle, middle];
    const depth = leaf.depth + 1;
    const first = this.#leaf(tree, depth, left.slice(0, lefts), leftSmaller ? small : large, features, leftBounds.lower, leftBounds.upper);
    const second = this.#leaf(
      tree,
      depth,
      right.slice(0, rights),
      leftSmaller ? large : small,
      features,
      rightBounds.lower,
      rightBounds.upper,
    );
    tree.feature[leaf.node] = split.feature;
    tree.threshold[leaf.node] = this.columns.thresholds[split.feature][split.bin - 1];
    tree.missingLeft[leaf.node] = split.missingLeft;
    tree.left[leaf.node] = first.node;
    tree.right[leaf.node] = second.node;
    tree.value[leaf.node] = 0;
    return [first, second];
  }

  /** Walks every row down the new tree: margins for the next one, and covers. */
  #settle(tree: Tree): void {
    const bins = this.columns.columns;
    const cuts = tree.feature.map((feature, node) =>
      feature < 0 ? 0 : this.columns.thresholds[feature].indexOf(tree.threshold[node]) + 1,
    );
    for (let row = 0; row < this.labels.length; row++) {
      let node = 0;
      tree.cover[0] += this.weights[row];
      while (tree.feature[node] >= 0) {
        const bin = bins[tree.feature[node]][row];
        node = (bin === 0 ? tree.missingLeft[node] : bin <= cuts[node]) ? tree.left[node] : tree.right[node];
        tree.cover[node] += this.weights[row];
      }
      this.#margins[row] += tree.value[node];
    }
  }
}

/** Loss reduction of a leaf with this value, twice over, as is usual. */
function worth(g: number, h: number, value: number, lambda: number): number {
  return -(2 * g * value + (h + lambda) * value * value);
}

function clamp(value: number, lower: number, upper: number): number {
  return Math.min(upper, Math.max(lower, value));
}

/** mulberry32: small, seeded, good enough to draw rows. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
