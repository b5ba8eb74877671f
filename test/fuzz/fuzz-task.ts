// What main and workers tell each other.

export interface FuzzTask {
  kind: 'fuzz';
  targets: string[];
  seed: number;
  seconds: number;
  /** For each target, at most. */
  inputs: number;
  stopAtFinding: boolean;
  /** Begins with the corpus of the sources at `root`. */
  corpus: boolean;
  root: string;
  /** How many there are in the sources. */
  branches: number;
}

export interface MinimiseTask {
  kind: 'minimise';
  target: string;
  lines: string[];
  branches: number;
}

export interface Finding {
  target: string;
  message: string;
  stack: string;
  /** The shortest input that was seen to fail. */
  line: string;
  /** After so many inputs of this target, and seconds of the worker. */
  inputs: number;
  seconds: number;
}

export type FuzzAnswer =
  | { kind: 'progress'; target: string; inputs: number; branches: number[]; kept: number }
  | ({ kind: 'finding' } & Finding)
  | { kind: 'kept'; target: string; lines: string[] }
  /** `heap`: bytes after a collection, every few seconds. */
  | { kind: 'done'; heap: number[] };
