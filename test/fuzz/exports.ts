// The exports that the fuzzed servers have: one of each kind, on devices in memory whose contents, allocation and failures
// are plain functions, so that the models can say what is right without asking the device.
import type { DeviceRequest, Extent } from '../../replication/device.js';
import { OP } from '../../replication/device.js';
import type { Export } from '../../gateway/nbd/export.js';
import type { KnownContext } from '../../gateway/nbd/meta-context.js';
import { MemoryDevice } from '../support/memory-device.js';
import { type ExportWish, memoryExport } from '../support/memory-exports.js';

export const PARITY_CONTEXT = 'x-fuzz:parity';
export const LOCKED = 'locked';
/** Where there is TLS to be had, only who has it knows of this one. */
export const SECRET = 'bare';
/** Pieces that a device or a context tells of at once. */
const RUNS_MAX = 40;

export interface ExportPlan {
  readonly name: string;
  readonly sizeBytes: number;
  /** The device has so many from the start; the rest reads as zero. */
  readonly keptBytes: number;
  readonly wish: ExportWish;
}

const parity: KnownContext = { name: PARITY_CONTEXT, runs: (offset, length) => runsOf(offset, length, 512, (at) => (at / 512) % 2) };

const plan = (name: string, sizeBytes: number, wish: ExportWish = {}): ExportPlan => ({
  name,
  sizeBytes,
  keptBytes: Math.min(sizeBytes, 16 * 1024),
  wish,
});

const NONE = { flush: false, fua: false, trim: false, zeroes: false, fastZero: false, cache: false, multiConn: false };

export const EXPORT_PLANS: readonly ExportPlan[] = [
  plan('disk', 8192, { block: { maximumPayload: 4096 }, contexts: [parity] }),
  plan('ro', 8192, { features: { readOnly: true, rotational: true }, contexts: [parity] }),
  plan('blocks', 64 * 1024, { block: { minimum: 512, maximumPayload: 64 * 1024 }, description: 'blocks of 512 bytes' }),
  plan('bare', 70_000, { features: NONE, contexts: [parity] }),
  plan('huge', 2 ** 36, { block: { maximumPayload: 96 * 1024 }, contexts: [parity] }),
  plan(LOCKED, 4096),
  plan('', 4096, { description: 'the default one' }),
  plan('größe', 4096),
];

/** From `offset` on, pieces of `unit` bytes with their status; those alike that follow each other are one. */
function runsOf(offset: number, length: number, unit: number, statusAt: (at: number) => number): { lengthBytes: number; status: number }[] {
  const runs: { lengthBytes: number; status: number }[] = [];
  for (let at = offset; at < offset + length && runs.length < RUNS_MAX; ) {
    const begun = at - (at % unit);
    const lengthBytes = begun + unit - at;
    runs.push({ lengthBytes, status: statusAt(begun) });
    at += lengthBytes;
  }
  return runs;
}

/** base:allocation of these devices: for each 1024 bytes something else. */
const allocationAt = (at: number): number => [0, 3, 2][(at / 1024) % 3];

/** What the device says, and what a server may make of it, for the context `name`. */
export function statusRuns(name: string, offset: number, length: number): { lengthBytes: number; status: number }[] {
  return name === PARITY_CONTEXT ? parity.runs(offset, length) : runsOf(offset, length, 1024, allocationAt);
}

const ERRNOS = [5, 28, 95, 27, 122, 22, 1, 1000];

/** How a device that fails answers: some offsets never work. */
export function failureAt(op: number, offset: number): number {
  return op !== OP.FLUSH && offset % 7 === 3 ? ERRNOS[offset % ERRNOS.length] : 0;
}

export interface BuiltExport {
  device: MemoryDevice;
  export: Export;
}

export interface DeviceManner {
  completion: 'sync' | 'held';
  fails: boolean;
}

export function buildExport(plan: ExportPlan, { completion, fails }: DeviceManner): BuiltExport {
  const device = new MemoryDevice(plan.sizeBytes, { completion, keptBytes: plan.keptBytes });
  device.extents = ({ offset, length }: DeviceRequest): Extent[] =>
    statusRuns('base:allocation', offset, length).map(({ lengthBytes, status }) => ({
      lengthBytes,
      hole: (status & 1) !== 0,
      zero: (status & 2) !== 0,
    }));
  if (fails) device.fail = ({ op, offset }) => failureAt(op, offset);
  return { device, export: memoryExport(plan.name, device, plan.wish) };
}
