// The predictor: takes samples, I/O intervals and verdicts from outside, and judges each node, once for each criterion that policies have.
// Guarantees bounded memory, no clock of its own, and that an alarm from outside stands until it is withdrawn, lowered or expires, whatever the
// models say. It must not act on a judgement: that is protection's business. State survives a restart by serialize and restore.

import { type Alarm, Alarms, type Criterion, criterionKey } from './alarms.js';
import { DiskLatency } from './disk-latency.js';
import { DiskReports } from './disk-reports.js';
import { DiskWearOut } from './disk-wearout.js';
import { History, type HistoryLimits, type Observed } from './history.js';
import { aggregateProblem, type IoAggregate } from './io-aggregate.js';
import { IoHealth } from './io-health.js';
import { LinkHealth } from './link-health.js';
import { LoadMeter } from './load-meter.js';
import type { Assessment } from './model.js';
import { loadModelFile, type ModelResult } from './model-file.js';
import { type Combined, combine, type NodeAssessment, without } from './node-assessment.js';
import { expired, OUTSIDE_TTL_MS, type OutsideVerdict } from './outside-verdict.js';
import { type PredictorState, readPredictorState } from './predictor-state.js';
import type { Sample } from './sample.js';
import { HYSTERESIS, type Hysteresis, type ThresholdChange, type ThresholdEvent, type ThresholdPolicy } from './threshold.js';
import { Trends } from './trends.js';

export interface PredictorOptions {
  /** The criterion at first. */
  threshold: ThresholdPolicy;
  horizonMs: number;
  /** Called once, when the first disk is judged. */
  loadModel: () => ModelResult;
  hysteresis: Hysteresis;
  history: Partial<HistoryLimits>;
  nodesMax: number;
}

const DAY_MS = 86_400_000;
const CHANGES_MAX = 100;
const TICK_MS = 10_000;

export const PREDICTOR_OPTIONS: PredictorOptions = {
  threshold: { kind: 'adaptive', minimum: 0.5 },
  horizonMs: 30 * DAY_MS,
  loadModel: () => loadModelFile(),
  hysteresis: HYSTERESIS,
  history: {},
  nodesMax: 10_000,
};

interface NodeState {
  outside: OutsideVerdict | null;
  /** An outside verdict was lowered, withdrawn or ran out: the next assessment lets go without waiting. */
  outsideEnded: boolean;
}

/** `criterion`: the key of the one whose threshold changed. */
export type CriterionChange = ThresholdChange & { criterion: string };

/** One criterion, with the trends that its horizon reaches. */
interface Bench {
  alarms: Alarms;
  trends: Trends;
}

/** What one criterion makes of a node, and from what. */
interface Judged {
  alarm: Alarm;
  combined: Combined;
  assessments: Assessment[];
  horizonMs: number;
}

export class Predictor {
  readonly #options: PredictorOptions;
  #history: History;
  #io = new IoHealth();
  readonly #disks = new DiskLatency();
  readonly #reports = new DiskReports();
  readonly #links = new LinkHealth();
  readonly #load = new LoadMeter();
  readonly #nodes = new Map<string, NodeState>();
  /** By the key of the criterion, in their order. */
  #benches = new Map<string, Bench>();
  #changes: CriterionChange[] = [];
  #model: { wearOut: DiskWearOut | null; problem: string | null } | null = null;

  constructor(options: Partial<PredictorOptions> = {}) {
    this.#options = { ...PREDICTOR_OPTIONS, ...options };
    this.#history = new History(this.#options.history);
    this.judgeBy([{ threshold: this.#options.threshold, horizonMs: this.#options.horizonMs }]);
  }

  /** From now on these criteria count; one that counted before goes on as it was. */
  judgeBy(criteria: readonly [Criterion, ...Criterion[]]): void {
    const benches = new Map<string, Bench>();
    for (const criterion of criteria) {
      const key = criterionKey(criterion);
      const fresh = () => ({ alarms: new Alarms(criterion, this.#options.hysteresis), trends: new Trends(criterion.horizonMs) });
      benches.set(key, this.#benches.get(key) ?? fresh());
    }
    this.#benches = benches;
  }

  /** Takes a sample; not ok: it is not kept, with the reason. */
  observe(sample: Sample): Observed {
    if (this.#node(sample.node) === null) return { ok: false, reason: `more than ${this.#options.nodesMax} nodes` };
    this.#disks.observe(sample);
    return this.#history.observe(sample);
  }

  /** Takes what was measured on a node's I/O in one interval. */
  observeIo(node: string, io: IoAggregate): Observed {
    const problem = aggregateProblem(io);
    if (problem !== null) return { ok: false, reason: problem };
    if (this.#node(node) === null) return { ok: false, reason: `more than ${this.#options.nodesMax} nodes` };
    this.#io.observe(node, io);
    this.#load.observe(node, io);
    return { ok: true, late: false };
  }

  /** A verdict from outside replaces the one before. One below the threshold ends an alarm that came from outside. */
  outsideVerdict(node: string, given: Omit<OutsideVerdict, 'ttlMs'> & { ttlMs?: number }): void {
    const state = this.#node(node);
    if (state === null) return;
    const before = state.outside;
    state.outside = { ...given, ttlMs: given.ttlMs ?? OUTSIDE_TTL_MS };
    if (before !== null && given.probability < before.probability) state.outsideEnded = true;
  }

  withdrawOutsideVerdict(node: string): void {
    const state = this.#nodes.get(node);
    if (state === undefined || state.outside === null) return;
    state.outside = null;
    state.outsideEnded = true;
  }

  /** A node did fail: more sensitive for a while. */
  failed(node: string, atMs: number): void {
    this.#step({ type: 'failed', atMs, node });
  }

  /** The alarm over a node proved false: it ends, and the models' threshold rises if they had raised it. */
  falseAlarm(node: string, atMs: number): void {
    const state = this.#nodes.get(node);
    if (state === undefined) return;
    for (const { alarms } of this.#benches.values()) this.#changed(alarms, alarms.falseAlarm(node, state.outside, atMs));
    state.outside = null;
  }

  /**
   * The judgement now, explained for the first criterion by which the node fires, or else for the first of all. Calling it moves the
   * hysteresis, so it is called in time order.
   */
  assess(node: string, nowMs: number): NodeAssessment {
    this.#tick(nowMs);
    const state: NodeState = this.#nodes.get(node) ?? newNode();
    if (state.outside !== null && expired(state.outside, nowMs)) {
      state.outside = null;
      state.outsideEnded = true;
    }
    const shared = this.#assessments(node, nowMs);
    const judged: Judged[] = [];
    const byCriterion: NodeAssessment['byCriterion'] = {};
    for (const [key, { alarms, trends }] of this.#benches) {
      const { horizonMs } = alarms.criterion;
      const assessments = [...this.#history.disks(node).map((disk) => trends.assess(disk, nowMs)), ...shared];
      const stretch = horizonMs / (this.#wearOutModel()?.horizonMs ?? horizonMs);
      const combined = combine(assessments, state.outside, (source) => (source.startsWith('wear-out') ? stretch : 1));
      const alarm = alarms.decide(node, combined, state.outside, state.outsideEnded, nowMs);
      const { probability, threshold, firing } = alarm;
      byCriterion[key] = { probability, threshold, firing, horizonSeconds: horizonMs / 1000 };
      judged.push({ alarm, combined, assessments, horizonMs });
    }
    state.outsideEnded = false;
    const shown = judged.find(({ alarm }) => alarm.firing) ?? judged[0];
    return { ...this.#present(node, nowMs, shown), byCriterion };
  }

  /** Every node anything is known of. */
  nodes(): string[] {
    return [...this.#nodes.keys()];
  }

  /** Threshold changes since the last call, each with its cause; at most the newest 100. */
  takeThresholdChanges(): CriterionChange[] {
    return this.#changes.splice(0);
  }

  /** Loads the disk model now. Null, or why there is none: the disks then have no wear-out signal. */
  modelProblem(): string | null {
    this.#wearOutModel();
    return this.#model?.problem ?? null;
  }

  /** SHA-256 of the disk model in use. */
  modelId(): string | null {
    return this.#wearOutModel()?.id ?? null;
  }

  forget(node: string): void {
    this.#nodes.delete(node);
    this.#history.forget(node);
    this.#io.forget(node);
    this.#disks.forget(node);
    this.#load.forget(node);
    for (const { alarms } of this.#benches.values()) alarms.forget(node);
  }

  /** A plain value for JSON or a store: histories, thresholds, what fires, verdicts from outside. */
  serialize(): PredictorState {
    const nodes = [...this.#nodes].map(([node, { outside }]) => ({ node, outside: outside && { ...outside } }));
    const alarms = [...this.#benches.values()].map((bench) => bench.alarms.toState());
    return { format: 2, history: this.#history.toState(), io: this.#io.toState(), alarms, nodes };
  }

  /** Takes back what serialize gave; not ok: nothing is taken, and why. */
  restore(value: unknown): { ok: true } | { ok: false; message: string } {
    const read = readPredictorState(value);
    if (!read.ok) return read;
    const { history, io, alarms, nodes } = read.state;
    const histories = new History(this.#options.history);
    const baselines = new IoHealth();
    if (!histories.restore(history))
      return { ok: false, message: 'the stored state of the predictor is refused: the histories are damaged' };
    if (!baselines.restore(io))
      return { ok: false, message: 'the stored state of the predictor is refused: the I/O baselines are damaged' };
    [this.#history, this.#io] = [histories, baselines];
    for (const state of alarms) this.#benches.get(state.criterion)?.alarms.restore(state);
    this.#nodes.clear();
    for (const name of [...this.#history.nodes(), ...this.#io.nodes()]) this.#node(name);
    for (const { node, outside } of nodes) {
      const state = this.#node(node);
      if (state !== null) state.outside = outside && { ...outside };
    }
    return { ok: true };
  }

  /** All but the trends, which depend on the horizon. */
  #assessments(node: string, nowMs: number): Assessment[] {
    const wearOut = this.#wearOutModel();
    const assessments: Assessment[] = [];
    for (const disk of this.#history.disks(node)) {
      // Samples pushed without a disk's name may be a disk's all the same.
      if (wearOut !== null && (disk.disk !== null || wearOut.knows(disk, nowMs))) assessments.push(wearOut.assess(disk, nowMs));
      if (disk.disk === null) assessments.push(this.#links.assess(disk, nowMs));
      assessments.push(this.#reports.assess(disk, nowMs));
      if (disk.disk !== null) assessments.push(this.#disks.assess({ node, disk: disk.disk }, nowMs));
    }
    assessments.push(this.#io.assess(node, nowMs));
    return assessments;
  }

  #present(node: string, nowMs: number, { combined, alarm, assessments, horizonMs }: Judged): Omit<NodeAssessment, 'byCriterion'> {
    const { threshold, firing, sinceMs } = alarm;
    const { probability, window } = combined;
    const event = this.#io.clusterEvent(nowMs);
    return {
      node,
      at: iso(nowMs),
      probability,
      noSignal: probability === null,
      threshold,
      firing,
      horizonSeconds: horizonMs / 1000,
      reasons: combined.reasons,
      origin: combined.origin,
      predictedFailureAt: combined.predictedFailureAtMs === null ? null : iso(combined.predictedFailureAtMs),
      firingSince: sinceMs === null ? null : iso(sinceMs),
      window: window && { from: iso(window.fromMs), to: iso(window.toMs), samples: window.samples },
      counterfactuals:
        probability !== null && probability >= threshold ? this.#counterfactuals(node, nowMs, probability, threshold, assessments) : [],
      silent: combined.silent,
      clusterEvent: event && { since: iso(event.sinceMs), nodes: event.members, factor: event.factor },
    };
  }

  #counterfactuals(node: string, nowMs: number, probability: number, threshold: number, assessments: Assessment[]): string[] {
    const sentences: string[] = [];
    for (const disk of this.#history.disks(node)) {
      const sentence = this.#wearOutModel()?.counterfactual(disk, nowMs, threshold) ?? null;
      if (sentence !== null) sentences.push(disk.disk === null ? sentence : `${disk.disk}: ${sentence}`);
    }
    return [...sentences, ...quietWithout(probability, threshold, assessments)];
  }

  #tick(nowMs: number): void {
    const [{ alarms }] = this.#benches.values();
    if (alarms.atMs !== null && nowMs - alarms.atMs < TICK_MS) return;
    const clusterEvent = this.#io.clusterEvent(nowMs) !== null;
    this.#step({ type: 'tick', atMs: nowMs, nodes: this.#nodes.size, load: this.#load.load(nowMs), clusterEvent });
  }

  #step(event: ThresholdEvent): void {
    for (const { alarms } of this.#benches.values()) this.#changed(alarms, alarms.step(event));
  }

  #changed({ criterion }: Alarms, changes: ThresholdChange[]): void {
    for (const change of changes) this.#changes.push({ ...change, criterion: criterionKey(criterion) });
    if (this.#changes.length > CHANGES_MAX) this.#changes.splice(0, this.#changes.length - CHANGES_MAX);
  }

  #wearOutModel(): DiskWearOut | null {
    if (this.#model === null) {
      const loaded = this.#options.loadModel();
      this.#model = loaded.ok ? { wearOut: new DiskWearOut(loaded.model), problem: null } : { wearOut: null, problem: loaded.message };
    }
    return this.#model.wearOut;
  }

  #node(node: string): NodeState | null {
    let state = this.#nodes.get(node);
    if (state === undefined) {
      if (this.#nodes.size >= this.#options.nodesMax) return null;
      state = newNode();
      this.#nodes.set(node, state);
    }
    return state;
  }
}

/** Which sources it would have taken away: each that is enough alone, or else the fewest largest that are enough together. */
function quietWithout(probability: number, threshold: number, assessments: Assessment[]): string[] {
  const raising = assessments.filter(({ probability: part, contributions }) => part !== null && (contributions[0]?.contribution ?? 0) > 0);
  const text = ({ contributions }: Assessment): string => contributions[0].text;
  const alone = raising.filter((one) => without(probability, one.probability!) < threshold);
  if (alone.length > 0) return alone.map((one) => `quiet without: ${text(one)}`);
  raising.sort((a, b) => b.probability! - a.probability!);
  let left = probability;
  for (const [count, one] of raising.entries()) {
    left = without(left, one.probability!);
    if (left < threshold)
      return [
        `quiet without: ${raising
          .slice(0, count + 1)
          .map(text)
          .join('; and: ')}`,
      ];
  }
  return [];
}

function newNode(): NodeState {
  return { outside: null, outsideEnded: false };
}

function iso(atMs: number): string {
  return new Date(atMs).toISOString();
}
