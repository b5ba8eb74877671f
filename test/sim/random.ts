// The simulator's only source of chance: a small seeded generator (sfc32). The same seed gives the same numbers on every
// machine. Parts that must not disturb one another's draws take a stream of their own (`fork`).

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, stream = '') {
    let hash = 0x811c9dc5;
    for (let at = 0; at < stream.length; at += 1) hash = Math.imul(hash ^ stream.charCodeAt(at), 0x01000193);
    this.#a = seed >>> 0;
    this.#b = Math.floor(seed / 2 ** 32) >>> 0;
    this.#c = hash >>> 0;
    for (let warm = 0; warm < 12; warm += 1) this.uint32();
  }

  /** A generator of its own; the same label of the same state gives the same one. */
  fork(label: string): Random {
    return new Random(this.uint32() + this.int(2 ** 20) * 2 ** 32, label);
  }

  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }

  /** 0 <= x < 1. */
  fraction(): number {
    return this.uint32() / 2 ** 32;
  }

  /** An integer, 0 <= x < `below`; `below` is at least 1 and at most 2^32. */
  int(below: number): number {
    return Math.floor(this.fraction() * below);
  }

  /** An integer, `least` <= x <= `most`. */
  between(least: number, most: number): number {
    return least + this.int(most - least + 1);
  }

  /** A number, `least` <= x < `most`. */
  range(least: number, most: number): number {
    return least + this.fraction() * (most - least);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(items.length)];
  }

  /** One of the keys, each as likely as its weight. */
  weighted<K extends string>(weights: Partial<Record<K, number>>): K {
    const keys = Object.keys(weights) as K[];
    let total = 0;
    for (const key of keys) total += weights[key] ?? 0;
    let left = this.fraction() * total;
    for (const key of keys) {
      left -= weights[key] ?? 0;
      if (left < 0) return key;
    }
    return keys[keys.length - 1];
  }

  /** Shuffles in place. */
  shuffle<T>(items: T[]): T[] {
    for (let at = items.length - 1; at > 0; at -= 1) {
      const other = this.int(at + 1);
      const item = items[at];
      items[at] = items[other];
      items[other] = item;
    }
    return items;
  }
}
