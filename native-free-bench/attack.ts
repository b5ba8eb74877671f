// `npm run bench -- attack`: one honest client beside hostile ones of every kind, at a gateway with its default limits. Measures
// the honest one before, during and after, each as a ratio to before, and how much memory the gateway uses meanwhile.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Outcome } from '../gateway/control.js';
import { openGateway } from './gateway-path.js';
import { type HostileCounts, KINDS, type Kind } from './hostile.js';
import type { Endpoint } from './load-connection.js';
import { LoadClient } from './load-client.js';
import { memoryUseBytes } from './memory-use.js';
import type { Reading } from './meter.js';
import { modulePath } from './module-path.js';
import { startNode } from './node.js';
import type { Part, Parts } from './part.js';
import { PREPARE, WORKLOADS } from './workload.js';

const MiB = 1024 * 1024;
const SIZE_BYTES = 64 * MiB;
const WORKLOAD_IDS = ['randread-4k-d32', 'randwrite-4k-d32', 'randread-4k-d1'];
const WARMUP_MS = 250;
/** The crowd has come, and what it holds is held. */
const SETTLE_MS = 5000;
/** The gateway has noticed that it is gone, and what was held is free. */
const RECOVER_MS = 5000;
const SAMPLE_MS = 100;

export const ATTACK_USAGE = `usage: npm run bench -- attack [options]

  --hostile N      hostile connections (default 1000)
  --kinds KIND,... of ${Object.keys(KINDS).join(', ')} (default all)
  --seconds S      length of one measurement of the honest client (default 3)
`;

export interface AttackOptions {
  hostile: number;
  kinds: Kind[];
  seconds: number;
}

export function parseAttackOptions(args: string[]): AttackOptions | { wrong: string } | 'help' {
  let values: { hostile?: string; kinds?: string; seconds?: string; help?: boolean };
  try {
    const options = {
      hostile: { type: 'string' },
      kinds: { type: 'string' },
      seconds: { type: 'string' },
      help: { type: 'boolean' },
    } as const;
    ({ values } = parseArgs({ args, options }));
  } catch (error) {
    return { wrong: (error as Error).message };
  }
  if (values.help) return 'help';
  const hostile = Number(values.hostile ?? 1000);
  if (!Number.isInteger(hostile) || hostile < 1 || hostile > 1000) return { wrong: `--hostile ${values.hostile}: must be from 1 to 1000` };
  const seconds = Number(values.seconds ?? 3);
  if (!(seconds >= 0.1 && seconds <= 60)) return { wrong: `--seconds ${values.seconds}: must be from 0.1 to 60` };
  const kinds = (values.kinds?.split(',') ?? Object.keys(KINDS)) as Kind[];
  const unknown = kinds.find((kind) => !(kind in KINDS));
  if (unknown !== undefined) return { wrong: `--kinds: ${unknown} is none of ${Object.keys(KINDS).join(', ')}` };
  return { hostile, kinds, seconds };
}

/** In RAM, in bytes: the last, and the most. */
class MemoryWatch {
  mostBytes = 0;
  readonly #pid: number;
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#pid = pid;
    this.#timer = setInterval(() => this.look(), SAMPLE_MS);
  }

  look(): number {
    const bytes = memoryUseBytes(this.#pid) ?? Number.NaN;
    this.mostBytes = Math.max(this.mostBytes, bytes);
    return bytes;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

interface Phase {
  name: string;
  readings: Map<string, Reading>;
  memoryBytes: number;
}

export interface AttackReport {
  phases: Phase[];
  mostBytes: number;
  hostile: HostileCounts;
  failures: string[];
}

export async function runAttack(
  { hostile, kinds, seconds }: AttackOptions,
  { parts, directory, progress }: { parts: Parts; directory: string; progress(text: string): void },
): Promise<Outcome<AttackReport>> {
  const load = await LoadClient.start(parts);
  if (!load.ok) return load;
  const node = await startNode(parts, null, SIZE_BYTES);
  if (!node.ok) return node;
  const gateway = await openGateway(parts, { node: node.value.endpoint, sizeBytes: SIZE_BYTES, directory });
  if (!gateway.ok) return gateway;
  const { endpoint, part } = gateway.value;
  const filled = await load.value.run({ endpoint: node.value.endpoint, workload: PREPARE, extent: { kind: 'pass' }, seed: 0 });
  if (!filled.ok) return filled;
  const watch = new MemoryWatch(part.child.pid!);
  const report: AttackReport = { phases: [], mostBytes: 0, hostile: { connected: 0, cutOff: 0 }, failures: [] };
  const measure = async (name: string): Promise<void> => {
    const readings = new Map<string, Reading>();
    for (const id of WORKLOAD_IDS) {
      progress(`${name}: ${id}`);
      const workload = WORKLOADS.find((candidate) => candidate.id === id)!;
      const extent = { kind: 'window', warmupMs: WARMUP_MS, measureMs: seconds * 1000 } as const;
      const reading = await load.value.run({ endpoint, workload, extent, seed: report.phases.length + 1 });
      if (!reading.ok) report.failures.push(`${name}, ${id}: ${reading.message}`);
      else {
        readings.set(id, reading.value);
        // Hostile clients write where they like: what is read then is theirs.
        if (reading.value.errors > 0) report.failures.push(`${name}, ${id}: ${reading.value.errors} requests were answered with an error`);
      }
    }
    report.phases.push({ name, readings, memoryBytes: watch.look() });
  };
  await measure('before');
  const crowd = await startCrowd(parts, endpoint, hostile, kinds);
  if (!crowd.ok) return crowd;
  progress('the crowd comes');
  await sleep(SETTLE_MS);
  await measure('during');
  report.hostile = await countsOf(crowd.value);
  report.mostBytes = watch.mostBytes;
  await parts.stop(crowd.value);
  progress('the crowd has gone');
  await sleep(RECOVER_MS);
  await measure('after');
  watch.stop();
  if (part.ending !== null) report.failures.push(part.explain(part.ending));
  return { ok: true, value: report };
}

async function startCrowd(parts: Parts, { host, port, exportName }: Endpoint, count: number, kinds: Kind[]): Promise<Outcome<Part>> {
  const args = [host, String(port), exportName, String(count), kinds.join(',')];
  const started = await parts.start({ name: 'hostile clients', run: { module: modulePath('./attackers') }, args });
  return started.ok ? { ok: true, value: started.value.part } : started;
}

function countsOf({ child }: Part): Promise<HostileCounts> {
  return new Promise((resolve) => {
    child.once('message', (counts: HostileCounts) => resolve(counts));
    child.send({});
  });
}

export function renderAttack({ phases, mostBytes, hostile, failures }: AttackReport, { hostile: count, kinds }: AttackOptions): string {
  const mib = (bytes: number): string => `${Math.round(bytes / MiB)} MiB`;
  const lines = [`${count} hostile connections (${kinds.join(', ')}): connected ${hostile.connected} times, ended ${hostile.cutOff} times`];
  const [before] = phases;
  for (const id of WORKLOAD_IDS) {
    lines.push('', WORKLOADS.find((workload) => workload.id === id)!.title);
    lines.push(
      `  ${'honest client'.padEnd(14)}${['IOPS', 'p50 us', 'p99 us', 'x IOPS', 'x p50', 'x p99'].map((title) => title.padStart(10)).join('')}`,
    );
    for (const { name, readings } of phases) {
      const reading = readings.get(id);
      const base = before.readings.get(id);
      if (reading === undefined || base === undefined) continue;
      const iops = ({ operations, windowUs }: Reading): number => operations / (windowUs / 1e6);
      const cells = [iops(reading), reading.p50Us, reading.p99Us].map((value) => Math.round(value).toLocaleString('en-US'));
      const ratios = [iops(reading) / iops(base), reading.p50Us / base.p50Us, reading.p99Us / base.p99Us].map((value) => value.toFixed(2));
      lines.push(`  ${name.padEnd(14)}${[...cells, ...ratios].map((cell) => cell.padStart(10)).join('')}`);
    }
  }
  const memory = phases.map(({ name, memoryBytes }) => `${name} ${mib(memoryBytes)}`).join(', ');
  lines.push('', `memory of the gateway (RSS): ${memory}; at most ${mib(mostBytes)} before and during`);
  return `${[...lines, ...failures.map((failure) => `failed: ${failure}`)].join('\n')}\n`;
}
