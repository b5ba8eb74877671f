// Asks the predictor about every node, regularly and whenever it has learnt something, and turns its answers into
// verdicts: told when they change, kept, and handed to protection. Guarantees: a verdict in force outlives a restart, an
// outside one as it was given, a model's until its node has a signal again. It judges nothing itself.
import type { Change, Clock, Log, Records, Timer } from '../../replication/world.js';
import { formatDuration } from '../../config/units.js';
import type { EventSink, Outcome, Verdict } from '../control.js';
import { refuse } from '../control.js';
import type { Assessment, Oracle, OutsideVerdict } from './oracle.js';
import { historyKey, type InForce, putInForce, readHistory, readInForce } from './verdict-record.js';

const EVERY_MS = 10_000;
const HISTORY_MAX = 1_000;
/** A probability that moved less is no news. */
const STEP = 0.1;
const REASON_CHARS_MAX = 500;
/** A model's verdict of an earlier process that nothing confirms ends after this. */
const UNCONFIRMED_MS = 24 * 3_600_000;
const REASONS_MAX = 20;

/** A volume with a copy on a node, for the events about that node. */
export interface Resident {
  volume: string;
  role: 'active' | 'mirror';
  labels: Record<string, string>;
  clients: string[];
}

export interface JudgeOptions {
  clock: Clock;
  log: Log;
  records: Records;
  events: EventSink;
  oracle: Oracle;
  nodes(): string[];
  residents(node: string): Resident[];
  /** Protection: each verdict as it stands, and since when (wall time). */
  judged(verdict: Verdict, sinceMs: number): void;
}

export class Judge {
  readonly #options: JudgeOptions;
  readonly #inForce = new Map<string, InForce>();
  /** Nodes whose verdict is an earlier process's: the predictor has had no signal of them yet. */
  readonly #unconfirmed = new Set<string>();
  #history: Verdict[] = [];
  #number = 0;
  #surplus: number[] = [];
  #timer: Timer | null = null;
  readonly #fresh = new Set<string>();
  #writing: Promise<boolean> = Promise.resolve(true);
  #stopped = false;

  /** Reads what is kept and gives the predictor its outside verdicts back. Throws what `records` throws. */
  constructor(options: JudgeOptions) {
    this.#options = options;
    const { records, log, oracle } = options;
    for (const inForce of readInForce(records, log)) {
      this.#inForce.set(inForce.verdict.node, inForce);
      if (inForce.verdict.firing && inForce.verdict.origin === 'model') this.#unconfirmed.add(inForce.verdict.node);
      if (inForce.outside) oracle.outsideVerdict(inForce.verdict.node, inForce.outside);
    }
    const history = readHistory(records, log);
    this.#number = (history.at(-1)?.[0] ?? -1) + 1;
    this.#history = history.slice(-HISTORY_MAX).map(([, verdict]) => verdict);
    this.#surplus = history.slice(0, -HISTORY_MAX).map(([number]) => number);
  }

  /** Hands on the verdicts in force, before volumes are protected; then judges on its own. */
  start(): void {
    const { nodes, judged } = this.#options;
    const known = new Set(nodes());
    for (const [node, { verdict, sinceMs }] of this.#inForce) if (known.has(node)) judged(verdict, sinceMs);
    this.#judgeAll();
  }

  /** Policies may have changed. */
  judgeAgain(): void {
    this.#timer?.cancel();
    this.#judgeAll();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#writing;
  }

  /** The verdict in force; null: the node was never judged. */
  latest(node: string): Verdict | null {
    return this.#inForce.get(node)?.verdict ?? null;
  }

  /** What was published, oldest first, bounded. */
  history(): readonly Verdict[] {
    return this.#history;
  }

  /** The predictor has learnt something of the node: judged once this turn of the event loop is over. */
  fresh(node: string): void {
    if (this.#fresh.size === 0) {
      queueMicrotask(() => {
        const nodes = [...this.#fresh];
        this.#fresh.clear();
        if (!this.#stopped) for (const one of nodes) this.#judge(one, false);
      });
    }
    this.#fresh.add(node);
  }

  /** Somebody else's judgement; in force until the next one or until it proves false. Resolves when it is durable. Code: `store-unwritable`. */
  async giveVerdict(node: string, given: { probability: number; reason: string }): Promise<Outcome<Verdict>> {
    const { clock, oracle } = this.#options;
    const outside = { probability: given.probability, reason: given.reason.slice(0, REASON_CHARS_MAX), atMs: clock.wallMs() };
    oracle.outsideVerdict(node, outside);
    const verdict = this.#judge(node, true, outside);
    if (await this.#writing) return { ok: true, value: verdict };
    return refuse(
      'store-unwritable',
      `The verdict over ${node} is acted on, but a restart would forget it: the records cannot be written.`,
    );
  }

  /** The node did fail. */
  failed(node: string): void {
    this.#options.oracle.failed(node);
    this.#judge(node, false);
  }

  /** It was watched and did not fail: the predictor learns, and an outside verdict is withdrawn. */
  falseAlarm(node: string, reason: string): void {
    const { oracle, log } = this.#options;
    log.info({ node, reason }, 'a verdict proved a false alarm');
    oracle.falseAlarm(node);
    this.#unconfirmed.delete(node);
    this.#judge(node, true, null);
  }

  #judgeAll(): void {
    if (this.#stopped) return;
    for (const node of this.#options.nodes()) this.#judge(node, false);
    this.#timer = this.#options.clock.after(EVERY_MS, () => this.#judgeAll());
  }

  /** `outside`: the outside verdict in force from now on; left out: as it was. `told`: published whatever it says. */
  #judge(node: string, told: boolean, outside?: OutsideVerdict | null): Verdict {
    const { clock, oracle, judged } = this.#options;
    const nowMs = clock.wallMs();
    const before = this.#inForce.get(node) ?? null;
    const given = outside === undefined ? (before?.outside ?? null) : outside;
    const assessment = this.#confirmed(node, oracle.assess(node, nowMs), before, nowMs);
    const news = told || isNews(assessment, before?.verdict ?? null);
    const verdict = this.#verdict(node, assessment, nowMs, news ? `v${this.#number}` : (before?.verdict.id ?? `${node}-unjudged`));
    if (this.#unconfirmed.has(node) && before) verdict.at = before.verdict.at;
    const sinceMs = standsSince(verdict, before, given, nowMs);
    const inForce = { verdict, sinceMs, outside: given };
    this.#inForce.set(node, inForce);
    if (news) this.#publish(inForce, before?.verdict ?? null);
    judged(verdict, sinceMs);
    return verdict;
  }

  /** Until there is a signal, an alarm of an earlier process goes on: what caused it may just have silenced the node. */
  #confirmed(node: string, now: Assessment, before: InForce | null, nowMs: number): Assessment {
    if (!this.#unconfirmed.has(node) || !before) return now;
    const aged = nowMs - Date.parse(before.verdict.at) >= UNCONFIRMED_MS;
    if (now.probability === null && !now.firing && !aged) return asBefore(now, before.verdict);
    this.#unconfirmed.delete(node);
    return now;
  }

  #verdict(node: string, assessment: Assessment, nowMs: number, id: string): Verdict {
    const { probability, threshold, firing, horizonSeconds, reasons, origin, predictedFailureAtMs, policies } = assessment;
    const predictedFailureAt = predictedFailureAtMs === null ? null : new Date(predictedFailureAtMs).toISOString();
    const at = new Date(nowMs).toISOString();
    return {
      id,
      node,
      at,
      probability,
      threshold,
      firing,
      horizonSeconds,
      reasons: reasons.slice(0, REASONS_MAX),
      origin,
      predictedFailureAt,
      policies,
    };
  }

  #publish(inForce: InForce, before: Verdict | null): void {
    const { verdict } = inForce;
    const { node, probability, firing, threshold } = verdict;
    const residents = this.#options.residents(node);
    this.#options.events.publish({
      type: 'node.verdict',
      level: firing ? 'warning' : 'info',
      message: sentence(verdict, before),
      node,
      clients: [...new Set(residents.flatMap(({ clients }) => clients))],
      details: {
        verdict: verdict.id,
        probability,
        firing,
        threshold,
        policies: Object.keys(verdict.policies).filter((name) => verdict.policies[name].firing),
        origin: verdict.origin,
        reasons: verdict.reasons.slice(0, 5),
        volumes: residents,
      },
    });
    this.#keep(inForce);
  }

  #keep(inForce: InForce): void {
    const number = this.#number;
    this.#number += 1;
    this.#history.push(inForce.verdict);
    if (this.#history.length > HISTORY_MAX) this.#history.shift();
    const surplus = [...this.#surplus, ...(number >= HISTORY_MAX ? [number - HISTORY_MAX] : [])];
    this.#surplus = [];
    const changes: Change[] = surplus.map((old) => ({ remove: historyKey(old) }));
    changes.push({ put: historyKey(number), value: inForce.verdict }, putInForce(inForce));
    // One after the other: the newest verdict is the one that stays.
    this.#writing = this.#writing.then(() => this.#commit(changes));
  }

  async #commit(changes: Change[]): Promise<boolean> {
    try {
      await this.#options.records.commit(changes);
      return true;
    } catch (error) {
      this.#options.log.error({ reason: (error as Error).message }, 'a verdict cannot be stored; a restart would not know it');
      return false;
    }
  }
}

function asBefore(now: Assessment, before: Verdict): Assessment {
  const { probability, threshold, horizonSeconds, predictedFailureAt, reasons } = before;
  const predictedFailureAtMs = predictedFailureAt === null ? null : Date.parse(predictedFailureAt);
  const policies = { ...now.policies, ...before.policies };
  return { ...now, probability, threshold, horizonSeconds, reasons, firing: true, origin: 'model', predictedFailureAtMs, policies };
}

function isNews(now: Assessment, before: Verdict | null): boolean {
  if (!before) return now.firing || now.probability !== null;
  if (firesFor(now) !== firesFor(before) || (now.probability === null) !== (before.probability === null)) return true;
  return Math.abs((now.probability ?? 0) - (before.probability ?? 0)) > STEP;
}

/** The policies for which it fires. */
function firesFor({ firing, policies }: Pick<Verdict, 'firing' | 'policies'>): string {
  const names = Object.keys(policies).filter((name) => policies[name].firing);
  return `${firing} ${names.sort().join(' ')}`;
}

/** An outside verdict since it was given; another since it began to fire, or not to. */
function standsSince(verdict: Verdict, before: InForce | null, outside: OutsideVerdict | null, nowMs: number): number {
  if (verdict.origin === 'outside' && outside) return outside.atMs;
  const same = before !== null && before.verdict.firing === verdict.firing && before.verdict.origin === verdict.origin;
  return same ? before.sinceMs : nowMs;
}

function sentence({ node, probability, firing, threshold, horizonSeconds, reasons, origin }: Verdict, before: Verdict | null): string {
  const holds = firing ? 'its alarm holds all the same.' : 'that is no good sign, and no bad one.';
  if (probability === null) return `There is no signal of ${node}'s health: ${holds}`;
  const chance = `${(probability * 100).toFixed(probability > 0.99 && probability < 1 ? 1 : 0)} %`;
  const main = reasons[0]?.text ?? (origin === 'outside' ? 'an outside verdict' : 'no reason stands out');
  const limit = `${Math.round(threshold * 100)} %`;
  if (firing)
    return `${node} is predicted to fail within ${formatDuration(horizonSeconds * 1000)} with ${chance} (threshold ${limit}): ${main}.`;
  if (before?.firing) return `${node} is not predicted to fail any more: ${chance} (threshold ${limit}).`;
  return `${node} fails within ${formatDuration(horizonSeconds * 1000)} with ${chance}, below the threshold of ${limit}: ${main}.`;
}
