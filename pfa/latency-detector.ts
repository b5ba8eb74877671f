// Finds who got slow: each member (node or disk) against its peers' median at the same time, or against its own past when it has
// fewer than 4 peers. Guarantees that what slows everybody is nobody's fault, that load and request size excuse latency, and that only what
// lasts counts (CUSUM over time, so that the length of the interval does not matter). About 200 bytes a member. Pure.
// Method: Page, "Continuous inspection schemes" (1954), over the log-ratio of latency in units of its usual spread.

import type { IoAggregate } from './io-aggregate.js';
import { median } from './robust-slope.js';

/** Latency below this is never called slow, whatever it was before. */
const FLOOR_US = 2000;
const PEERS_MIN = 4;
const OPS_MIN = 4;
/** Learning the usual state: at least this long and this often before anything is judged. */
const WARM_UP_INTERVALS = 20;
const WARM_UP_MS = 60_000;
const INTERVAL_MS_MAX = 60_000;
const FRESH_MS = 90_000;
const LEARN_MS = 15 * 60_000;
const LEARN_MS_WHILE_SLOW = 48 * 3_600_000;
const ANCHOR_MS = 24 * 3_600_000;
/** The usual level counts no further above its anchor than this (a factor of 1.5). */
const DRIFT_MAX = Math.log(1.5);
/** In natural logs: 0.25 is a factor of 1.28. */
const SPREAD_MIN = 0.25;
/** CUSUM: slack in spreads, one unit of time, alarm level, and where it stops growing so that recovery is noticed. */
const SLACK = 1.5;
const STEP_MS = 10_000;
const ALARM = 12;
const CUSUM_MAX = 3 * ALARM;
const STEP_MIN = -1;
const STEP_MAX = 8;
/** How much of a rise in load or request size excuses the latency, and the most it excuses (a factor of 16). */
const EXCUSED = 0.7;
const EXCUSE_MAX = Math.log(16);
const CLUSTER_RISE = Math.log(2);
const CLUSTER_SHARE = 0.6;

/** What is remembered of a member; plain numbers, so that it can be stored as it stands. */
export interface LatencyState {
  atMs: number;
  startedMs: number;
  intervals: number;
  /** Natural logs of the newest latency (us), its usual level and the usual ratio to the peers, and its usual absolute deviation. */
  latest: number;
  usual: number;
  usualRatio: number;
  /** The same two, learnt over a day: how far the usual may drift before it is a fault that creeps. */
  anchor: number;
  anchorRatio: number;
  deviation: number;
  /** Usual logs of bytes per second, bytes per request, and requests in flight (Little's law). */
  load: number;
  size: number;
  inFlight: number;
  cusum: number;
  /** When the CUSUM last left 0. */
  slowSinceMs: number | null;
}

/** Its fields, to check a state that comes from outside. */
export const LATENCY_KEYS = [
  'atMs',
  'startedMs',
  'intervals',
  'latest',
  'usual',
  'usualRatio',
  'anchor',
  'anchorRatio',
  'deviation',
  'load',
  'size',
  'inFlight',
  'cusum',
  'slowSinceMs',
] as const satisfies readonly (keyof LatencyState)[];

export interface LatencyFinding {
  /** CUSUM in units of the alarm level. */
  level: number;
  latencyUs: number;
  usualUs: number;
  /** The peers' median, when there are enough of them. */
  peersUs: number | null;
  peers: number;
  slowSinceMs: number | null;
}

export interface ClusterEvent {
  sinceMs: number;
  members: number;
  /** How much slower than usual, as a factor. */
  factor: number;
}

export class LatencyDetector {
  readonly #members = new Map<string, LatencyState>();
  #clusterSinceMs: number | null = null;

  constructor(readonly membersMax = 10_000) {}

  /** Takes one interval of one member. Late ones, and those with too little I/O to tell, are left out. */
  observe(member: string, io: IoAggregate): void {
    const ops = io.reads + io.writes;
    if (io.p50Us === null || ops < OPS_MIN) return;
    const latest = Math.log(Math.max(FLOOR_US, io.p50Us));
    const state = this.#members.get(member);
    if (state === undefined) {
      if (this.#members.size < this.membersMax) this.#members.set(member, begin(io.atMs, latest));
      return;
    }
    if (io.atMs <= state.atMs) return;
    const elapsedMs = Math.min(INTERVAL_MS_MAX, io.atMs - state.atMs);
    const seconds = elapsedMs / 1000;
    const now = {
      load: Math.log(Math.max(1, io.bytes / seconds)),
      size: Math.log(Math.max(1, io.bytes / ops)),
      inFlight: Math.log(Math.max(1e-3, (ops / seconds) * (io.p50Us / 1e6))),
    };
    state.atMs = io.atMs;
    state.latest = latest;
    const peers = this.#peers(member, io.atMs);
    const ratio = peers.length >= PEERS_MIN ? latest - median(peers.map((peer) => peer.latest)) : 0;
    const warm = isWarm(state);
    if (warm) this.#judge(state, elapsedMs, latest, ratio, now, peers);
    learn(state, elapsedMs, latest, ratio, now, warm);
    this.#noticeCluster(io.atMs);
  }

  /** Null: this member has shown too little I/O to say anything, or none for a while. */
  finding(member: string, nowMs: number): LatencyFinding | null {
    const state = this.#members.get(member);
    if (state === undefined || !isWarm(state) || nowMs - state.atMs > 10 * FRESH_MS) return null;
    const peers = this.#peers(member, state.atMs);
    const peersUs = peers.length >= PEERS_MIN ? Math.exp(median(peers.map(({ latest }) => latest))) : null;
    const { cusum, latest, usual, slowSinceMs } = state;
    return { level: cusum / ALARM, latencyUs: Math.exp(latest), usualUs: Math.exp(usual), peersUs, peers: peers.length, slowSinceMs };
  }

  /** When most members are slower than usual at once; null otherwise. */
  clusterEvent(nowMs: number): ClusterEvent | null {
    const fresh = this.#fresh(nowMs);
    const slow = fresh.filter((state) => state.latest - state.usual > CLUSTER_RISE);
    if (fresh.length < 2 || slow.length < 2 || slow.length < CLUSTER_SHARE * fresh.length) return null;
    const factor = Math.exp(median(slow.map(({ latest, usual }) => latest - usual)));
    return { sinceMs: this.#clusterSinceMs ?? nowMs, members: slow.length, factor };
  }

  forget(member: string): void {
    this.#members.delete(member);
  }

  toState(): [string, LatencyState][] {
    return [...this.#members].map(([member, state]) => [member, { ...state }]);
  }

  restore(states: readonly [string, LatencyState][]): void {
    this.#members.clear();
    for (const [member, state] of states.slice(0, this.membersMax)) this.#members.set(member, { ...state });
  }

  #judge(state: LatencyState, elapsedMs: number, latest: number, ratio: number, now: Load, peers: LatencyState[]): void {
    const compared = peers.length >= PEERS_MIN;
    // With few peers nobody can tell a deeper queue from a slower node, so the queue excuses too; and what peers suffer now is excused.
    const excuses = [now.load - state.load, now.size - state.size];
    if (!compared) excuses.push(now.inFlight - state.inFlight);
    const excused = Math.min(EXCUSE_MAX, EXCUSED * Math.max(0, ...excuses));
    const warmPeers = peers.filter(isWarm);
    const shared = compared || warmPeers.length === 0 ? 0 : median(warmPeers.map((peer) => Math.max(0, peer.latest - peer.usual)));
    const above = compared
      ? ratio - Math.min(state.usualRatio, state.anchorRatio + DRIFT_MAX)
      : latest - Math.min(state.usual, state.anchor + DRIFT_MAX) - shared;
    const spreads = (above - excused) / Math.max(SPREAD_MIN, 1.5 * state.deviation);
    const step = (Math.min(STEP_MAX, Math.max(STEP_MIN, spreads)) - SLACK) * (elapsedMs / STEP_MS);
    const before = state.cusum;
    state.cusum = Math.min(CUSUM_MAX, Math.max(0, before + step));
    if (state.cusum === 0) state.slowSinceMs = null;
    else if (before === 0) state.slowSinceMs = state.atMs;
  }

  #noticeCluster(nowMs: number): void {
    if (this.clusterEvent(nowMs) === null) this.#clusterSinceMs = null;
    else this.#clusterSinceMs ??= nowMs;
  }

  #peers(member: string, nowMs: number): LatencyState[] {
    const peers: LatencyState[] = [];
    for (const [other, state] of this.#members) if (other !== member && Math.abs(nowMs - state.atMs) <= FRESH_MS) peers.push(state);
    return peers;
  }

  #fresh(nowMs: number): LatencyState[] {
    return [...this.#members.values()].filter((state) => isWarm(state) && Math.abs(nowMs - state.atMs) <= FRESH_MS);
  }
}

type Load = Pick<LatencyState, 'load' | 'size' | 'inFlight'>;

function begin(atMs: number, latest: number): LatencyState {
  const usual = { usual: latest, usualRatio: 0, anchor: latest, anchorRatio: 0, deviation: 0, load: 0, size: 0, inFlight: 0 };
  return { atMs, startedMs: atMs, intervals: 0, latest, ...usual, cusum: 0, slowSinceMs: null };
}

function isWarm({ intervals, atMs, startedMs }: LatencyState): boolean {
  return intervals >= WARM_UP_INTERVALS && atMs - startedMs >= WARM_UP_MS;
}

/** A plain mean while warming up; afterwards a slow average, very slow while it is slow, so that a creeping fault is not learnt. */
function learn(state: LatencyState, elapsedMs: number, latest: number, ratio: number, now: Load, warm: boolean): void {
  const memoryMs = state.cusum > 0 ? LEARN_MS_WHILE_SLOW : LEARN_MS;
  const share = warm ? 1 - Math.exp(-elapsedMs / memoryMs) : 1 / (state.intervals + 1);
  state.deviation += share * (Math.abs(latest - state.usual) - state.deviation);
  state.usual += share * (latest - state.usual);
  state.usualRatio += share * (ratio - state.usualRatio);
  const anchored = warm ? 1 - Math.exp(-elapsedMs / Math.max(memoryMs, ANCHOR_MS)) : share;
  state.anchor += anchored * (latest - state.anchor);
  state.anchorRatio += anchored * (ratio - state.anchorRatio);
  state.load += share * (now.load - state.load);
  state.size += share * (now.size - state.size);
  state.inFlight += share * (now.inFlight - state.inFlight);
  state.intervals++;
}
