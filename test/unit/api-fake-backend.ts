// A gateway of two volumes and three nodes that exists in memory alone: for the tests of the API and the command line.
import type { Backend, ReloadReport, RollbackReport, SamplesReceipt, ScrubRun, VerdictQuery } from '../../gateway/api/backend.js';
import { ApiServer } from '../../gateway/api/server.js';
import { SystemClock } from '../../gateway/clock.js';
import {
  type FlipCertificate,
  type MirrorView,
  type NodeView,
  type Outcome,
  refuse,
  type ScrubReport,
  type TargetRef,
  type Verdict,
  type VolumeView,
} from '../../gateway/control.js';
import { EventLog } from '../../gateway/events/event-log.js';
import type { Change, Log, Records, RecordValue } from '../../replication/world.js';

const AT = '2026-01-02T03:04:05.678Z';
const GIB = 2 ** 30;

export class VolatileRecords implements Records {
  readonly #map = new Map<string, RecordValue>();
  get = (key: string) => this.#map.get(key);
  list = (prefix: string) => [...this.#map].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));

  async commit(changes: Change[]): Promise<void> {
    for (const change of changes) {
      if ('put' in change) {
        this.#map.set(change.put, change.value);
      } else {
        this.#map.delete(change.remove);
      }
    }
  }
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

function mirrorOn(node: string): MirrorView {
  return {
    node,
    export: `vol0-${node}`,
    state: 'copying',
    reverse: false,
    copiedBytes: 256 * 2 ** 20,
    dirtyBytes: 768 * 2 ** 20,
    lagBytes: 4096,
    lagSeconds: 0.25,
    copyBytesPerSecond: 100 * 2 ** 20,
    etaSeconds: 7.68,
    reason: null,
  };
}

function volumeNamed(name: string, more: Partial<VolumeView> = {}): VolumeView {
  return {
    name,
    size: GIB,
    epoch: 0,
    state: 'healthy',
    service: 'served',
    reason: null,
    priority: 100,
    policy: 'default',
    labels: { program: 'billing-db' },
    active: { node: 'a', export: '' },
    journal: null,
    mirrors: [],
    clients: ['127.0.0.1:43122'],
    lostBytes: 0,
    scrub: null,
    lastFlip: null,
    ...more,
  };
}

function nodeNamed(id: string, more: Partial<NodeView> = {}): NodeView {
  return {
    id,
    kind: 'agent',
    zone: 'rack-1',
    site: 'dc-1',
    state: 'up',
    reason: null,
    capacityBytes: 2 * GIB,
    freeBytes: GIB,
    freeSpares: [],
    volumes: [],
    verdict: null,
    io: { reads: 0, writes: 0, errors: 0, p50Us: null, p99Us: null },
    ...more,
  };
}

export class FakeBackend implements Backend {
  readonly events = new EventLog(new VolatileRecords(), new SystemClock(), silentLog, 200);
  readonly calls: string[] = [];
  isReady = true;
  given: Verdict[] = [];
  samples: unknown[] = [];
  finishScrub: () => void = () => {};
  reloadOutcome: Outcome<ReloadReport> = { ok: true, value: { changes: ['volume vol2 was added'] } };
  readonly #volumes = [volumeNamed('vol0'), volumeNamed('spaced name/ü', { service: 'blocked', reason: 'node a has only 512 MiB' })];
  readonly #nodes = [
    nodeNamed('a', { volumes: [{ name: 'vol0', role: 'active' }], io: { reads: 12, writes: 34, errors: 0, p50Us: 180, p99Us: 2_400 } }),
    nodeNamed('b'),
    nodeNamed('c', { kind: 'plain', state: 'down', reason: 'connection refused', capacityBytes: null, freeBytes: null }),
  ];

  ready = () => (this.isReady ? { ready: true, reasons: [] } : { ready: false, reasons: ['vol0 waits for node a'] });
  volumes = () => this.#volumes;
  volume = (name: string) => this.#volumes.find((volume) => volume.name === name);
  nodes = () => this.#nodes;
  node = (id: string) => this.#nodes.find((node) => node.id === id);
  verdicts = ({ node, firing, limit }: VerdictQuery) =>
    this.given.filter((v) => (node === undefined || v.node === node) && (firing === undefined || v.firing === firing)).slice(-limit);

  async addMirror(name: string, node: string | null): Promise<Outcome<MirrorView>> {
    this.calls.push(`mirror ${name} ${node}`);
    if (node === 'a') {
      return refuse('same-node', 'Volume vol0 is on node a already; a mirror there would not help. Choose b.', { candidates: ['b'] });
    }
    if (node === 'c') {
      return refuse('node-down', 'Node c does not answer.');
    }
    const mirror = mirrorOn(node ?? 'b');
    this.volume(name)!.mirrors = [mirror];
    return { ok: true, value: mirror };
  }

  async removeMirror(name: string, node: string): Promise<Outcome<TargetRef>> {
    this.calls.push(`drop ${name} ${node}`);
    const volume = this.volume(name)!;
    const gone = volume.mirrors.find((mirror) => mirror.node === node)!;
    volume.mirrors = volume.mirrors.filter((mirror) => mirror !== gone);
    return { ok: true, value: { node, export: gone.export } };
  }

  certificate(name: string, node: string): FlipCertificate {
    return {
      volume: name,
      epoch: 1,
      from: { node: 'a', export: '' },
      to: { node, export: `vol0-${node}` },
      kind: 'flip',
      at: AT,
      pauseMs: 3.25,
      held: 16,
      drained: { inFlight: 4, queueBytes: 65_536 },
      dirtyRegions: 0,
      roots: { from: '00ff', to: '00ff', verifiedRegions: 1000, unverifiedRegions: 24, oldestVerification: AT },
      cause: 'asked for',
      verdict: null,
    };
  }

  async flip(name: string, node: string | null): Promise<Outcome<FlipCertificate>> {
    this.calls.push(`flip ${name} ${node}`);
    const volume = this.volume(name)!;
    const mirror = volume.mirrors.find((m) => node === null || m.node === node);
    if (mirror === undefined) {
      return refuse('no-mirror', `Volume ${name} has no mirror to flip to. Start one first.`);
    }
    if (mirror.state !== 'synced') {
      return refuse('not-synced', `The mirror on ${mirror.node} is still copying.`);
    }
    volume.lastFlip = this.certificate(name, mirror.node);
    return { ok: true, value: volume.lastFlip };
  }

  async takeOver(name: string, node: string | null, acceptLoss: boolean): Promise<Outcome<FlipCertificate>> {
    this.calls.push(`takeover ${name} ${node} ${acceptLoss}`);
    if (!acceptLoss) return refuse('loss-not-accepted', 'Up to 1 MiB may be older.', { lossBytes: 1_048_576 });
    return { ok: true, value: { ...this.certificate(name, node ?? 'b'), kind: 'failover', dirtyRegions: 16 } };
  }

  async rollback(name: string): Promise<Outcome<RollbackReport>> {
    const dropped = this.volume(name)!.mirrors.map(({ node, export: e }) => ({ node, export: e }));
    this.volume(name)!.mirrors = [];
    return { ok: true, value: { volume: name, kind: 'mirrors-dropped', dropped, certificate: null } };
  }

  async grow(name: string, sizeBytes: number): Promise<Outcome<VolumeView>> {
    this.calls.push(`grow ${name} ${sizeBytes}`);
    const volume = this.volume(name)!;
    if (sizeBytes < volume.size)
      return refuse('shrink-refused', `${name} has ${volume.size} bytes and only grows.`, { sizeBytes: volume.size });
    volume.size = sizeBytes;
    return { ok: true, value: volume };
  }

  async scrub(name: string): Promise<Outcome<ScrubRun>> {
    const report: ScrubReport = {
      volume: name,
      startedAt: AT,
      finishedAt: null,
      state: 'running',
      comparedBytes: 0,
      totalBytes: GIB,
      mismatches: [],
      bytesPerSecond: 0,
    };
    const mismatch = { offset: 1_048_576, lengthBytes: 65_536, wrong: 'b', repaired: true, reason: 'its checksum differs' };
    const done: ScrubReport = { ...report, finishedAt: AT, state: 'done', comparedBytes: GIB, mismatches: [mismatch] };
    const finished = new Promise<Outcome<ScrubReport>>((resolve) => {
      this.finishScrub = () => resolve({ ok: true, value: done });
    });
    setImmediate(() => this.finishScrub());
    return { ok: true, value: { report, finished } };
  }

  async pushSamples(_node: string, body: unknown): Promise<Outcome<SamplesReceipt>> {
    if (body === 'crash') {
      throw new TypeError('a defect with a secret');
    }
    if (typeof body !== 'object') {
      return refuse('samples-invalid', 'Samples are an object of values by name.');
    }
    this.samples.push(body);
    return { ok: true, value: { accepted: Object.keys(body ?? {}).length, ignored: [] } };
  }

  async giveVerdict(node: string, { probability, reason }: { probability: number; reason: string }): Promise<Outcome<Verdict>> {
    const verdict: Verdict = {
      id: `v${this.given.length + 1}`,
      node,
      at: AT,
      probability,
      threshold: 0.5,
      firing: probability >= 0.5,
      horizonSeconds: 2_592_000,
      reasons: [{ source: 'outside', contribution: probability, text: reason }],
      origin: 'outside',
      predictedFailureAt: null,
      policies: { default: { probability, threshold: 0.5, firing: probability >= 0.5, horizonSeconds: 2_592_000 } },
    };
    this.given.push(verdict);
    this.node(node)!.verdict = verdict;
    this.events.publish({ type: 'node.verdict', level: 'warning', message: `Node ${node} may fail: ${reason}`, node });
    return { ok: true, value: verdict };
  }

  reload = async () => this.reloadOutcome;
}

export interface RunningApi {
  backend: FakeBackend;
  url: string;
  close(): Promise<void>;
}

/** A real API server on a free port over a fake backend. */
export async function startFakeApi(timing = { heartbeatMs: 15_000, stallMs: 30_000 }): Promise<RunningApi> {
  const backend = new FakeBackend();
  const metrics = { contentType: 'text/plain; version=0.0.4; charset=utf-8', render: async () => '# HELP x X\n# TYPE x gauge\nx 1\n' };
  const server = await ApiServer.create({ backend, metrics, log: silentLog, version: '0.0.0', timing });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  return {
    backend,
    url: `http://127.0.0.1:${port}`,
    async close() {
      await backend.events.close();
      await server.close();
    },
  };
}
