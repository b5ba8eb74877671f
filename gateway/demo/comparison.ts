// The end of the demo: what was measured with prediction beside what was measured without it, and what was not measured
// at all. Pure.
import { formatBytes, formatDuration } from '../../config/units.js';
import { table } from '../cli/table.js';
import type { EvacuationFacts } from './evacuation.js';
import type { FalseAlarmFacts } from './false-alarm.js';
import type { ReactionFacts } from './reaction.js';

/** What the host of one run ended with. */
export interface HostFacts {
  writes: number;
  reads: number;
  errors: number;
  /** Wrong contents, read while it wrote and at the end. */
  mismatches: string[];
  longestGapMs: number;
  connectionLost: boolean;
}

export interface DemoReport {
  predicted: EvacuationFacts & { host: HostFacts };
  falseAlarm: FalseAlarmFacts;
  reacted: ReactionFacts & { host: HostFacts };
  areaBytes: number;
}

interface Row {
  what: string;
  predicted: string;
  reacted: string;
}

export function comparison({ predicted, falseAlarm, reacted, areaBytes }: DemoReport): string {
  const rows: Row[] = [
    {
      what: 'longest time without an answered write',
      predicted: formatDuration(predicted.host.longestGapMs),
      reacted: formatDuration(reacted.host.longestGapMs),
    },
    { what: '  around the death of the node', predicted: formatDuration(predicted.deathGapMs), reacted: formatDuration(reacted.gapMs) },
    { what: '  around the flip', predicted: formatDuration(predicted.flipGapMs), reacted: '-' },
    {
      what: 'pause the gateway measured: flip / false alarm / back',
      predicted: [predicted.certificate, falseAlarm.there, falseAlarm.back].map(({ pauseMs }) => formatDuration(pauseMs)).join(' / '),
      reacted: '-',
    },
    { what: 'errors the host saw', predicted: String(predicted.host.errors), reacted: String(reacted.host.errors) },
    { what: 'answered, unflushed writes only on the node that died', predicted: String(predicted.atRisk), reacted: String(reacted.atRisk) },
    {
      what: '  of these lost (every block read back)',
      predicted: String(predicted.host.mismatches.length),
      reacted: String(reacted.host.mismatches.length),
    },
    { what: 'data with no other copy, had its disk died for good', predicted: '0B', reacted: formatBytes(areaBytes) },
    { what: 'writes answered / blocks checked', predicted: counts(predicted.host), reacted: counts(reacted.host) },
  ];
  return table(rows, [
    { title: '', cell: ({ what }) => what },
    { title: 'PREDICTED, MOVED BEFORE', right: true, cell: (row) => row.predicted },
    { title: 'REACTED AFTER', right: true, cell: (row) => row.reacted },
  ]);
}

function counts({ writes, reads }: HostFacts): string {
  return `${writes} / ${reads}`;
}

/** What the table's figures are, and what they are not. */
export function caveats({ reacted }: DemoReport): string[] {
  return [
    `Measured on this machine, on the same workload: every figure of the table but the last line of data without another copy, which is what the host had written.`,
    `Chosen, not measured: that somebody starts the dead node again after ${formatDuration(reacted.outageMs)}, with its data intact. The gateway sent the unflushed writes again, so they were not lost; without that (a host attached to the node directly) they are what a power failure may take.`,
    `Not measured: a disk that stays dead. Its data would come from a backup, in the time that takes, without what was written since.`,
  ];
}
