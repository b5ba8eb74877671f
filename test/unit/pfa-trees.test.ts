// Tree ensembles: contributions against Shapley values by brute force, boosting against what it promises, bins against numbers.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { binColumns } from '../../pfa/train/binning.js';
import { Booster, type BoostingOptions } from '../../pfa/train/boosting.js';
import { addContributions, expectedValue, margin, type Tree } from '../../pfa/tree-ensemble.js';

const test = suite('pfa trees');
const OPTIONS: BoostingOptions = {
  treesMax: 20,
  depthMax: 4,
  leavesMax: 12,
  learningRate: 0.3,
  lambda: 1,
  leafHessianMin: 1,
  gainMin: 0,
  rowShare: 1,
  featureShare: 1,
  seed: 7,
};

/** Data with interactions, missing values and noise, the same for a seed. */
function dataset(rows: number, seed: number): { columns: Float32Array[]; labels: Uint8Array } {
  let state = seed;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const columns = [0, 1, 2, 3].map(() => new Float32Array(rows));
  const labels = new Uint8Array(rows);
  for (let i = 0; i < rows; i++) {
    const [a, b, c, d] = [random() * 10, Math.floor(random() * 4), random(), random() * 100];
    columns[0][i] = random() < 0.1 ? Number.NaN : a;
    columns[1][i] = b;
    columns[2][i] = random() < 0.5 ? Number.NaN : c;
    columns[3][i] = d;
    labels[i] = random() < 1 / (1 + Math.exp(-(a - 6 + (b === 3 && c > 0.5 ? 3 : 0) + Math.sin(d)))) ? 1 : 0;
  }
  return { columns, labels };
}

function grown(rows: number, trees: number, monotone: number[] = [0, 0, 0, 0], options: Partial<BoostingOptions> = {}): Booster {
  const { columns, labels } = dataset(rows, 11);
  const booster = new Booster(binColumns(columns, monotone), labels, new Float64Array(rows).fill(1), { ...OPTIONS, ...options });
  for (let i = 0; i < trees; i++) booster.grow();
  return booster;
}

/** Expected value of a tree when only some features are known. */
function known(tree: Tree, row: Float64Array, features: ReadonlySet<number>, node = 0): number {
  const feature = tree.feature[node];
  if (feature < 0) return tree.value[node];
  const [left, right] = [tree.left[node], tree.right[node]];
  if (features.has(feature)) {
    const value = row[feature];
    const goesLeft = Number.isNaN(value) ? tree.missingLeft[node] : value <= tree.threshold[node];
    return known(tree, row, features, goesLeft ? left : right);
  }
  const total = tree.cover[left] + tree.cover[right];
  return (tree.cover[left] * known(tree, row, features, left) + tree.cover[right] * known(tree, row, features, right)) / total;
}

/** Shapley values by their definition: over all subsets. */
function shapley(trees: readonly Tree[], row: Float64Array): number[] {
  const n = row.length;
  const factorial = (k: number): number => (k < 2 ? 1 : k * factorial(k - 1));
  return Array.from(row, (_, feature) => {
    let sum = 0;
    for (let mask = 0; mask < 2 ** n; mask++) {
      if ((mask >> feature) & 1) continue;
      const subset = new Set([...row.keys()].filter((i) => (mask >> i) & 1));
      const weight = (factorial(subset.size) * factorial(n - subset.size - 1)) / factorial(n);
      const withFeature = new Set(subset).add(feature);
      for (const tree of trees) sum += weight * (known(tree, row, withFeature) - known(tree, row, subset));
    }
    return sum;
  });
}

const booster = grown(3000, 8);
const anyRow = fc
  .tuple(
    fc.oneof(fc.constant(Number.NaN), fc.double({ min: -1, max: 11, noNaN: true })),
    fc.constantFrom(0, 1, 2, 3, Number.NaN),
    fc.oneof(fc.constant(Number.NaN), fc.double({ min: 0, max: 1, noNaN: true })),
    fc.double({ min: 0, max: 100, noNaN: true }),
  )
  .map((values) => Float64Array.from(values));

test('contributions are the Shapley values, and add up to the margin', () => {
  const features = new Set(booster.trees.flatMap(({ feature }) => feature));
  assert.ok(
    [0, 1, 2, 3].every((feature) => features.has(feature)),
    'the trees use every feature',
  );
  fc.assert(
    fc.property(anyRow, (row) => {
      const contributions = new Float64Array(4);
      addContributions(booster.trees, row, contributions);
      const brute = shapley(booster.trees, row);
      for (let i = 0; i < 4; i++)
        assert.ok(Math.abs(contributions[i] - brute[i]) < 1e-9, `feature ${i}: ${contributions[i]} against ${brute[i]}`);
      const sum = contributions.reduce((total, one) => total + one, expectedValue(booster.trees));
      assert.ok(Math.abs(sum - margin(booster.trees, row)) < 1e-9);
    }),
    { numRuns: 100 },
  );
});

test('boosting learns: the loss falls from tree to tree and the bias alone is worse', () => {
  const { columns, labels } = dataset(3000, 11);
  const row = new Float64Array(4);
  const loss = (trees: readonly Tree[]): number => {
    let sum = 0;
    for (let i = 0; i < labels.length; i++) {
      for (let f = 0; f < 4; f++) row[f] = columns[f][i];
      const m = booster.bias + margin(trees, row);
      sum += Math.log1p(Math.exp(labels[i] === 1 ? -m : m));
    }
    return sum / labels.length;
  };
  const losses = booster.trees.map((_, count) => loss(booster.trees.slice(0, count + 1)));
  assert.ok(losses.every((one, i) => i === 0 || one < losses[i - 1]));
  assert.ok(losses.at(-1)! < 0.75 * loss([]));
});

test('limits hold: depth, leaves and cover', () => {
  for (const tree of grown(2000, 5, [0, 0, 0, 0], { depthMax: 2, leavesMax: 3 }).trees) {
    assert.ok(tree.feature.filter((feature) => feature < 0).length <= 3);
    assert.equal(tree.cover[0], 2000);
    for (const [node, feature] of tree.feature.entries()) {
      if (feature >= 0) assert.equal(tree.cover[node], tree.cover[tree.left[node]] + tree.cover[tree.right[node]]);
    }
  }
});

test('a monotone feature is monotone in every tree, whatever the noise', () => {
  const { trees } = grown(3000, 20, [1, 0, 0, -1]);
  fc.assert(
    fc.property(anyRow, fc.double({ min: 0, max: 5, noNaN: true }), (row, more) => {
      fc.pre(!Number.isNaN(row[0]));
      for (const tree of trees) {
        const higher = row.slice();
        higher[0] += more;
        assert.ok(margin([tree], higher) >= margin([tree], row) - 1e-12);
        const later = row.slice();
        later[3] += more * 10;
        assert.ok(margin([tree], later) <= margin([tree], row) + 1e-12);
      }
    }),
    { numRuns: 300 },
  );
});

test('the same seed grows the same trees, another one others', () => {
  const options = { rowShare: 0.5, featureShare: 0.5 };
  assert.deepEqual(grown(500, 3, [0, 0, 0, 0], options).trees, grown(500, 3, [0, 0, 0, 0], options).trees);
  assert.notDeepEqual(grown(500, 3, [0, 0, 0, 0], options).trees, grown(500, 3, [0, 0, 0, 0], { ...options, seed: 8 }).trees);
});

test('a value falls into the bin its thresholds say, few values get one bin each, missing is bin 0', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant(Number.NaN), fc.integer({ min: -50, max: 50 }), fc.float({ noNaN: true, noDefaultInfinity: true })), {
        maxLength: 600,
      }),
      (values) => {
        const column = Float32Array.from(values);
        const { columns, thresholds } = binColumns([column], [0]);
        assert.ok(thresholds[0].length <= 254);
        for (let i = 0; i < column.length; i++) {
          const bin = columns[0][i];
          if (Number.isNaN(column[i])) {
            assert.equal(bin, 0);
            continue;
          }
          assert.ok(bin >= 1);
          if (bin <= thresholds[0].length) assert.ok(column[i] <= thresholds[0][bin - 1]);
          if (bin >= 2) assert.ok(column[i] > thresholds[0][bin - 2]);
        }
        const distinct = new Set([...column].filter((value) => !Number.isNaN(value)));
        if (distinct.size <= 254) assert.equal(thresholds[0].length, Math.max(0, distinct.size - 1));
      },
    ),
    { numRuns: 100 },
  );
});

test.run();
