// What health needs of the predictor (pfa's Predictor has it), and what else it is given: the places samples come from.
// Types only.
import type { IoAggregate } from '../../pfa/io-aggregate.js';
import type { Sample } from '../../pfa/sample.js';
import type { Outcome, PolicyVerdict } from '../control.js';

export interface Assessment extends PolicyVerdict {
  reasons: { source: string; contribution: number; text: string }[];
  origin: 'model' | 'outside';
  predictedFailureAtMs: number | null;
  policies: Record<string, PolicyVerdict>;
}

export interface Oracle {
  observe(sample: Sample): void;
  observeIo(node: string, aggregate: IoAggregate): void;
  outsideVerdict(node: string, given: OutsideVerdict): void;
  failed(node: string): void;
  falseAlarm(node: string): void;
  assess(node: string, nowMs: number): Assessment;
}

export interface OutsideVerdict {
  probability: number;
  reason: string;
  /** Wall time at which it was given. */
  atMs: number;
}

/** Counts a node's I/O; `take` starts the next window. Null: nothing can be said. */
export interface IoMeter {
  readonly node: string;
  take(nowMs: number): IoAggregate | null;
}

/** Where one page of samples comes from. Every fetch ends by itself, in time, with a bounded text. */
export interface Source {
  readonly node: string;
  readonly type: 'smartctl_exporter' | 'node_exporter' | 'agent';
  /** For people: the URL. */
  readonly name: string;
  readonly everyMs: number;
  fetch(): Promise<Outcome<string>>;
  close(): Promise<void>;
}
