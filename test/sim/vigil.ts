// Watches a run while it goes on, for promises that its history alone does not show: that no error reaches a host which a
// mirror that stood ready could have spared it, and that memory keeps its bounds. Looks at every answer.
import { ERRNO } from '../../replication/device.js';
import type { Violation } from './checker.js';
import type { Bystander } from './client.js';
import { BLOCK_BYTES } from './disk.js';
import type { Operation } from './history.js';
import type { SimWorld } from './sim-world.js';
import type { Incarnation } from './system.js';

const VIOLATIONS_MAX = 3;
const SLIPPED = 'fact mirror-state catching-up';
const BY_ITSELF = 'mirror out of step by itself';

export class Vigil implements Bystander {
  readonly violations: Violation[] = [];
  readonly #world: SimWorld;
  readonly #incarnation: () => Incarnation | null;
  /** When it was asked for: mirrors that stood ready, and how often any had fallen out of step by then. */
  readonly #before = new WeakMap<Operation, { ready: string[]; slips: number }>();
  #largestBytes = 0;

  constructor(world: SimWorld, incarnation: () => Incarnation | null) {
    this.#world = world;
    this.#incarnation = incarnation;
  }

  asked(operation: Operation): void {
    if (operation.kind === 'write') this.#largestBytes = Math.max(this.#largestBytes, operation.count * BLOCK_BYTES);
    if (changes(operation)) this.#before.set(operation, { ready: this.#fit(operation.volume, ['synced']), slips: this.#slips });
  }

  told(operation: Operation): void {
    const { volume, kind, id } = operation;
    const text = this.#incarnation()?.excess(volume, this.#largestBytes) ?? null;
    if (text !== null) this.#note({ property: 'bounds', text, volume });
    if (operation.errno === 0 || operation.errno === ERRNO.ENOTSUP || !changes(operation)) return;
    const { ready, slips } = this.#before.get(operation)!;
    // With the failure itself a mirror falls out of step, before the host is told: not earlier.
    const { lastMs, scheduler } = this.#world;
    const now = lastMs.get(SLIPPED) === scheduler.nowMs && lastMs.get(BY_ITSELF) !== scheduler.nowMs;
    if (this.#slips > slips + (now ? 1 : 0)) return;
    const spare = this.#fit(volume, now ? ['synced', 'catching-up'] : ['synced']).find((node) => ready.includes(node));
    if (spare === undefined) return;
    const failure = `operation ${id} (${kind}) failed with error ${operation.errno} though the mirror on ${spare} stood ready`;
    this.#note({ property: 'errors', text: failure, volume, block: operation.block });
  }

  get #slips(): number {
    const { counts } = this.#world;
    return [SLIPPED, 'fact mirror-state lost', 'fact mirror-state failed'].reduce((sum, name) => sum + (counts.get(name) ?? 0), 0);
  }

  /** Mirrors in such a state on nodes that never refused anything. Where copies are known to differ none may take over. */
  #fit(volume: string, states: readonly string[]): string[] {
    const incarnation = this.#incarnation();
    if (incarnation === null || this.#world.counts.has('fact damage')) return [];
    return incarnation
      .status(volume)
      .mirrors.filter(({ state }) => states.includes(state))
      .map(({ node }) => this.#world.node(node))
      .filter(({ up, hung, refused }) => up && !hung && !refused)
      .map(({ name }) => name);
  }

  #note(violation: Violation): void {
    if (this.violations.length < VIOLATIONS_MAX) this.violations.push(violation);
  }
}

/** Reads that a mirror cannot answer may fail: a write may be on its way to it. */
function changes({ kind }: Operation): boolean {
  return kind === 'write' || kind === 'zeroes' || kind === 'flush';
}
