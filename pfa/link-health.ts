// The judgement over a node's network link: lost segments, broken connections, interface errors, round-trip time.
// Guarantees that a bad link is named as one ("link:"), so that it is not blamed on a disk, and that it alone never passes for a dying
// node: its probability is bounded. Set by judgement. Pure.

import { type DiskHistory, evidenceWindow } from './history.js';
import type { Metric } from './metric.js';
import { type Assessment, type Evidence, fromEvidence, type Model, noSignal } from './model.js';
import { quantity } from './phrase.js';

const PRIOR = 0.0002;
const WINDOW_MS = 10 * 60_000;
const SILENT_MS = 15 * 60_000;
const SEGMENTS_MIN = 500;
const LOSS_USUAL = 0.01;
const LOSS_SCALE = 0.03;
const LOSS_PROBABILITY_MAX = 0.4;
const RTT_US_MIN = 5000;
const RTT_FACTOR = 5;
const RTT_PROBABILITY = 0.2;
/** Counters whose rise within the window is odd: [metric, rise that is, probability]. */
const ODD: readonly (readonly [metric: Metric, from: number, probability: number])[] = [
  ['link_errors', 20, 0.2],
  ['link_resets', 50, 0.15],
];
const LOOKED_AT = new Set<Metric>(['link_segments_sent', 'link_retransmits', 'link_resets', 'link_errors', 'link_rtt_us']);

/** Over the node's own row of history. */
export class LinkHealth implements Model<DiskHistory> {
  readonly id = 'link-health-v1';

  assess(node: DiskHistory, nowMs: number): Assessment {
    const window = evidenceWindow(node, LOOKED_AT, nowMs, SILENT_MS, nowMs - WINDOW_MS);
    if (window === null) return noSignal('link');
    const fromMs = nowMs - WINDOW_MS;
    const rise = (metric: Metric): number => node.series.get(metric)?.riseSince(fromMs) ?? 0;
    const evidence: Evidence[] = [];
    const sent = rise('link_segments_sent');
    const loss = sent >= SEGMENTS_MIN ? rise('link_retransmits') / sent : 0;
    if (loss > LOSS_USUAL) {
      const probability = LOSS_PROBABILITY_MAX * (1 - Math.exp(-(loss - LOSS_USUAL) / LOSS_SCALE));
      evidence.push({ feature: 'link_loss', value: loss, probability, text: `link: ${quantity(loss * 100)} % of TCP segments sent again` });
    }
    for (const [metric, from, probability] of ODD) {
      const count = rise(metric);
      if (count < from) continue;
      const text = `link: ${quantity(count)} ${metric === 'link_errors' ? 'interface errors' : 'connections reset'} in 10 minutes`;
      evidence.push({ feature: metric, value: count, probability, text });
    }
    const rtt = node.series.get('link_rtt_us');
    if (rtt !== undefined && rtt.value >= RTT_US_MIN) {
      const before = rtt.valueAt(fromMs);
      if (rtt.value >= RTT_FACTOR * before) {
        const text = `link: round-trip time ${quantity(rtt.value / 1000)} ms, was ${quantity(before / 1000)} ms`;
        evidence.push({ feature: 'link_rtt_us', value: rtt.value, probability: RTT_PROBABILITY, text });
      }
    }
    return fromEvidence('link', PRIOR, evidence, window);
  }
}
