// What volumes tell, as events that people and programs read.
import { plural } from '../../config/plural.js';
import { formatBytes } from '../../config/units.js';
import type { EventSink, NewEvent, VolumeFact } from '../control.js';
import { describeTarget } from '../volume/copy.js';

interface About {
  volume: string;
  labels: Record<string, string>;
  clients: string[];
}

export function tellFact(events: EventSink, fact: VolumeFact, about: About): void {
  events.publish({ ...about, ...eventOf(fact, about.volume) });
}

function eventOf(fact: VolumeFact, volume: string): NewEvent {
  switch (fact.type) {
    case 'mirror-state':
      return {
        type: 'mirror.state',
        level: fact.to === 'failed' ? 'alert' : fact.to === 'lost' ? 'warning' : 'info',
        message: `The mirror of ${volume} on ${describeTarget(fact.target)} is ${fact.to}${fact.reason === null ? '' : `: ${fact.reason}`}.`,
        node: fact.target.node,
        details: { export: fact.target.export, from: fact.from, to: fact.to, reason: fact.reason },
      };
    case 'target-lost':
      return {
        type: 'target.lost',
        level: 'warning',
        message: `${describeTarget(fact.target)} does not answer for ${volume}: ${fact.reason}.`,
        node: fact.target.node,
        details: { export: fact.target.export, reason: fact.reason },
      };
    case 'target-back':
      return {
        type: 'target.back',
        level: 'info',
        message: `${describeTarget(fact.target)} answers for ${volume}.`,
        node: fact.target.node,
        details: { export: fact.target.export },
      };
    case 'target-blocked':
      return {
        type: 'target.blocked',
        level: 'alert',
        message: `${describeTarget(fact.target)} cannot be a copy of ${volume}: ${fact.reason}.`,
        node: fact.target.node,
        details: { export: fact.target.export, reason: fact.reason },
      };
    case 'flipped': {
      const { certificate } = fact;
      return {
        type: 'volume.flipped',
        level: certificate.kind === 'failover' ? 'warning' : 'info',
        message: `${volume} went from ${describeTarget(certificate.from)} to ${describeTarget(certificate.to)} (${certificate.kind}, epoch ${certificate.epoch}); hosts were held for ${certificate.pauseMs.toFixed(1)} ms.`,
        node: certificate.to.node,
        details: { certificate },
      };
    }
    case 'scrub-finished': {
      const { report } = fact;
      const { mismatches } = report;
      const mended = mismatches.filter(({ repaired }) => repaired).length;
      const found = mismatches.length === 0 ? 'no difference' : `${plural(mismatches.length, 'difference')}, ${mended} mended`;
      return {
        type: 'scrub.finished',
        level: mismatches.length > 0 ? 'warning' : 'info',
        message: `The scrub of ${volume} is ${report.state}: ${formatBytes(report.comparedBytes)} compared, ${found}.`,
        details: { report: { ...report, mismatches: mismatches.slice(0, 100) } },
      };
    }
    case 'grown':
      return {
        type: 'volume.grown',
        level: 'info',
        message: `${volume} has grown from ${formatBytes(fact.from)} to ${formatBytes(fact.sizeBytes)} (${fact.sizeBytes} bytes); hosts see it when they attach again.`,
        details: { from: fact.from, size: fact.sizeBytes },
      };
    case 'journal-state':
      return {
        type: 'journal.state',
        level: fact.state === 'failed' ? 'alert' : 'info',
        message:
          fact.reason === null
            ? `The journal of ${volume} is ${fact.state}.`
            : `The journal of ${volume} is ${fact.state}: ${fact.reason}. Flushes wait for the mirrors that are in step instead.`,
        details: { state: fact.state, reason: fact.reason },
      };
    case 'journal-replayed':
      return {
        type: 'journal.replayed',
        level: 'warning',
        message: `${describeTarget(fact.target)} has all of ${volume} that hosts flushed, ${plural(fact.records, 'record')} of it by the journal: it may take over, because the active target does not answer since the gateway started.`,
        node: fact.target.node,
        details: { export: fact.target.export, records: fact.records },
      };
    case 'unmarked':
      return {
        type: 'volume.unmarked',
        level: fact.reason === null ? 'info' : 'alert',
        message:
          fact.reason === null
            ? `What is written to ${volume} is marked in the intent log again.`
            : `The intent log of ${volume} cannot be written: ${fact.reason}. Hosts go on; should the gateway end now, all of the volume is copied to its mirrors again.`,
        details: { reason: fact.reason },
      };
    case 'damage':
      return {
        type: 'volume.damage',
        level: 'alert',
        message: `No copy of ${volume} is known to be right at ${fact.offset} (${plural(fact.lengthBytes, 'byte')}), which hosts cannot read until it is written or mended: ${fact.reason}.`,
        details: { offset: fact.offset, lengthBytes: fact.lengthBytes, reason: fact.reason },
      };
    case 'lost':
      return {
        type: 'volume.lost',
        level: 'alert',
        message: `No copy of ${volume} can give what is at ${fact.offset} (${plural(fact.lengthBytes, 'byte')}), and the mirrors go without it: hosts cannot read it until they write it: ${fact.reason}.`,
        details: { offset: fact.offset, lengthBytes: fact.lengthBytes, reason: fact.reason },
      };
  }
}
