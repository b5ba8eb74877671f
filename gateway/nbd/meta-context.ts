// The metadata contexts of an export: base:allocation, which its device is asked for, and those that its owner knows by heart.
import { BASE_ALLOCATION } from './constants.js';
import type { Export } from './export.js';

/** A run of bytes that have the same status. */
export interface StatusRun {
  lengthBytes: number;
  /** 32 bits; what they mean is the context's. */
  status: number;
}

/** What is known of every byte of an export without asking its device. */
export interface KnownContext {
  /** A namespace, a colon, and what it is. */
  readonly name: string;
  /** From `offset` on, for `length` bytes (2 GiB at most) or less: one run at least. Runs end at multiples of the minimum block. Must not take long. */
  runs(offset: number, length: number): StatusRun[];
}

/** One that a client selected, by the id it was given. */
export interface SelectedContext {
  readonly id: number;
  /** Null: base:allocation. */
  readonly known: KnownContext | null;
}

/** All that an export has, by name; ids begin with 1. */
export function contextsOf(target: Export): Map<string, SelectedContext> {
  const contexts = new Map<string, SelectedContext>([[BASE_ALLOCATION, { id: 1, known: null }]]);
  for (const known of target.contexts) contexts.set(known.name, { id: contexts.size + 1, known });
  return contexts;
}
