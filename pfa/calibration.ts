// Beta calibration: turns a model's margin into calibrated log-odds.
// Guarantees a non-decreasing map for a, b >= 0. It must not look at features.
// Method: Kull, Silva Filho, Flach, "Beta calibration" (2017), written over margins: -a softplus(-m) + b softplus(m) + c.

export interface BetaCalibration {
  a: number;
  b: number;
  c: number;
}

export const IDENTITY: BetaCalibration = { a: 1, b: 1, c: 0 };

/** Log-odds after calibration of a margin (log-odds before). */
export function calibrated({ a, b, c }: BetaCalibration, margin: number): number {
  return b * softplus(margin) - a * softplus(-margin) + c;
}

/** Slope of the map at a margin. */
export function calibrationSlope({ a, b }: BetaCalibration, margin: number): number {
  const p = 1 / (1 + Math.exp(-margin));
  return b * p + a * (1 - p);
}

/**
 * The map that makes margins most likely given their labels: Newton's method, damped so that every step lowers the loss, with a light
 * pull towards the identity; a parameter that would turn negative is held at 0.
 */
export function fitBetaCalibration(margins: Float64Array, labels: Uint8Array): BetaCalibration {
  let theta: Theta = [IDENTITY.a, IDENTITY.b, IDENTITY.c];
  let loss = lossOf(theta, margins, labels);
  for (let step = 0; step < STEPS_MAX; step++) {
    const move = newtonStep(theta, margins, labels);
    const before = loss;
    for (let share = 1; share > 1e-4; share /= 2) {
      const tried: Theta = [Math.max(0, theta[0] - share * move[0]), Math.max(0, theta[1] - share * move[1]), theta[2] - share * move[2]];
      const triedLoss = lossOf(tried, margins, labels);
      if (triedLoss >= loss) continue;
      [theta, loss] = [tried, triedLoss];
      break;
    }
    if (before - loss < 1e-9 * Math.abs(loss)) break;
  }
  return { a: theta[0], b: theta[1], c: theta[2] };
}

type Theta = [a: number, b: number, c: number];
const STEPS_MAX = 50;
/** How strongly a and b are pulled to 1, in rows. */
const PULL = [1, 1, 0];

function lossOf([a, b, c]: Theta, margins: Float64Array, labels: Uint8Array): number {
  let sum = (PULL[0] * (a - 1) ** 2 + PULL[1] * (b - 1) ** 2) / 2;
  for (let i = 0; i < margins.length; i++) {
    const z = calibrated({ a, b, c }, margins[i]);
    sum += softplus(labels[i] === 1 ? -z : z);
  }
  return sum;
}

function newtonStep(theta: Theta, margins: Float64Array, labels: Uint8Array): number[] {
  const gradient = theta.map((one, j) => PULL[j] * (one - 1));
  const hessian = [PULL[0] + 1e-9, 0, 0, 0, PULL[1] + 1e-9, 0, 0, 0, 1e-9];
  for (let i = 0; i < margins.length; i++) {
    const x = [-softplus(-margins[i]), softplus(margins[i]), 1];
    const p = 1 / (1 + Math.exp(-(theta[0] * x[0] + theta[1] * x[1] + theta[2])));
    for (let j = 0; j < 3; j++) {
      gradient[j] += (p - labels[i]) * x[j];
      for (let k = 0; k < 3; k++) hessian[j * 3 + k] += p * (1 - p) * x[j] * x[k];
    }
  }
  return solve3(hessian, gradient);
}

function softplus(x: number): number {
  return x > 30 ? x : Math.log1p(Math.exp(x));
}

/** Solves a symmetric positive 3 x 3 system by Cramer's rule. */
function solve3(m: number[], v: number[]): number[] {
  const det = determinant(m);
  return [0, 1, 2].map((column) => determinant(m.map((cell, i) => (i % 3 === column ? v[Math.floor(i / 3)] : cell))) / det);
}

function determinant([a, b, c, d, e, f, g, h, i]: number[]): number {
  return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
}
