// What the command line may say, checked before anything is started. Pure: arguments in, options or the reason out.
import { parseArgs } from 'node:util';
import { NODE_KINDS, type NodeKind } from './node.js';
import { PATH_IDS, type PathId } from './path.js';
import { WORKLOADS, type Workload } from './workload.js';

export interface BenchOptions {
  rounds: number;
  /** Length of one measurement, in milliseconds, and of the warm-up before it. */
  measureMs: number;
  warmupMs: number;
  sizeBytes: number;
  paths: readonly PathId[];
  workloads: readonly Workload[];
  /** Ours, on Node alone, or nbdkit's. Null: nbdkit's where it is installed. */
  node: NodeKind | null;
  /** Write the results here as JSON. */
  jsonFile: string | null;
  /** Every peer has to be there. */
  peersRequired: boolean;
}

const MiB = 1024 ** 2;
const FULL = { rounds: 5, seconds: 1, sizeBytes: 256 * MiB };
const QUICK = { rounds: 3, seconds: 0.3, sizeBytes: 64 * MiB };
const WARMUP_SHARE = 0.25;
const ROUNDS_MAX = 1000;
const SECONDS = { min: 0.05, max: 600 };

export const USAGE = `usage: npm run bench -- [options] [peers]
       npm run bench -- attack [options]        an honest client beside hostile ones; attack --help

Measures 4 KiB and 256 KiB reads and writes from a load generator to a storage node: directly, through a bare TCP relay,
through the gateway, and through the NBD proxies of nbdkit and qemu where those are installed.

  peers                 every peer has to be installed; without it a missing one is named and left out
  --quick               ${QUICK.rounds} rounds of ${QUICK.seconds} s on ${QUICK.sizeBytes / MiB} MiB instead of ${FULL.rounds} of ${FULL.seconds} s on ${FULL.sizeBytes / MiB} MiB
  --rounds N            how often each path is measured with each workload (1 to ${ROUNDS_MAX})
  --seconds S           length of one measurement (${SECONDS.min} to ${SECONDS.max})
  --only PATH,...       of ${PATH_IDS.join(', ')}
  --workload ID,...     of ${WORKLOADS.map(({ id }) => id).join(', ')}
  --node KIND           the storage node behind all paths: own (in memory, in Node) or nbdkit (its memory plugin, the default
                        where it is installed)
  --json FILE           write the results, every round of them, as JSON
  --help

Exit code: 0, 1 when something failed or brought wrong data, 2 for wrong arguments, 130 when interrupted.
`;

/** The options, 'help', or what is wrong. */
export type ParsedOptions = { options: BenchOptions } | 'help' | { wrong: string };

export function parseOptions(args: string[]): ParsedOptions {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (error) {
    return { wrong: (error as Error).message };
  }
  const { values, positionals } = parsed;
  if (values.help) return 'help';
  const unknown = positionals.find((word) => word !== 'peers');
  if (unknown !== undefined) return { wrong: `unknown word ${unknown}: the only one there is is peers` };
  const mode = values.quick ? QUICK : FULL;
  const rounds = values.rounds === undefined ? mode.rounds : Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX) {
    return { wrong: `--rounds ${values.rounds}: must be a whole number from 1 to ${ROUNDS_MAX}` };
  }
  const seconds = values.seconds === undefined ? mode.seconds : Number(values.seconds);
  if (!(seconds >= SECONDS.min && seconds <= SECONDS.max)) {
    return { wrong: `--seconds ${values.seconds}: must be a number from ${SECONDS.min} to ${SECONDS.max}` };
  }
  const node = NODE_KINDS.find((kind) => kind === values.node) ?? null;
  if (values.node !== undefined && node === null) return { wrong: `--node ${values.node}: must be one of ${NODE_KINDS.join(', ')}` };
  const paths = pick('--only', values.only, PATH_IDS, (id) => id);
  if ('wrong' in paths) return paths;
  const workloads = pick('--workload', values.workload, WORKLOADS, ({ id }) => id);
  if ('wrong' in workloads) return workloads;
  return {
    options: {
      rounds,
      measureMs: seconds * 1000,
      warmupMs: seconds * 1000 * WARMUP_SHARE,
      sizeBytes: mode.sizeBytes,
      paths: paths.picked,
      workloads: workloads.picked,
      node,
      jsonFile: values.json ?? null,
      peersRequired: positionals.length > 0,
    },
  };
}

function parse(args: string[]) {
  return parseArgs({
    args,
    allowPositionals: true,
    options: {
      quick: { type: 'boolean' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      only: { type: 'string' },
      workload: { type: 'string' },
      node: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

/** Those of `all` that the comma-separated `text` names, in the order of `all`; all of them without a text. */
function pick<T>(
  flag: string,
  text: string | undefined,
  all: readonly T[],
  idOf: (item: T) => string,
): { picked: T[] } | { wrong: string } {
  if (text === undefined) return { picked: [...all] };
  const wanted = text.split(',').map((word) => word.trim());
  const unknown = wanted.find((word) => !all.some((item) => idOf(item) === word));
  if (unknown !== undefined) return { wrong: `${flag}: ${JSON.stringify(unknown)} is none of ${all.map(idOf).join(', ')}` };
  return { picked: all.filter((item) => wanted.includes(idOf(item))) };
}
