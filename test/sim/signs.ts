// What nodes show of their health: which of them a model would say is about to fail. Outlives every gateway, as what the
// disks count does; faults change it, simulated oracles read it.
export class Signs {
  readonly #failing = new Map<string, number>();

  /** `probability` null: it shows nothing any more. */
  show(node: string, probability: number | null): void {
    if (probability === null) this.#failing.delete(node);
    else this.#failing.set(node, probability);
  }

  /** The probability that it fails, for a model; null: nothing points to that. */
  of(node: string): number | null {
    return this.#failing.get(node) ?? null;
  }

  clear(): void {
    this.#failing.clear();
  }
}
