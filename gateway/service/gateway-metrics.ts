// The numbers of a scrape, gathered from the parts that count them.
import type { EventLog } from '../events/event-log.js';
import type { Fleet } from '../fleet/fleet.js';
import type { GatewayMetrics, MetricsSource, NodeMetrics, VolumeMetrics } from '../metrics/source.js';
import type { NbdServer } from '../nbd/server.js';
import type { GatewayBackend } from './gateway-backend.js';
import type { ServedVolume } from './served-volume.js';

export interface MetricsParts {
  version: string;
  backend: GatewayBackend;
  volumes: ReadonlyMap<string, ServedVolume>;
  fleet: Fleet;
  nbd: NbdServer;
  events: EventLog;
}

export class GatewayMetricsSource implements MetricsSource {
  readonly #parts: MetricsParts;

  constructor(parts: MetricsParts) {
    this.#parts = parts;
  }

  volumes(): VolumeMetrics[] {
    return [...this.#parts.volumes.values()].flatMap((served) => {
      if (served.volume === null) return [];
      const { counters } = served.volume.path;
      return [
        {
          view: this.#parts.backend.volume(served.name)!,
          host: {
            requests: { read: counters.reads, write: counters.writes, flush: counters.flushes },
            bytes: { read: counters.readBytes, write: counters.writtenBytes },
            errors: counters.errors,
            hedgedReads: counters.hedgedReads,
            latency: counters.latency.snapshot(),
          },
          resyncExtents: served.volume.copies.reduce(
            (sum, { dirtyRecord }) => sum + (dirtyRecord?.count ?? 0),
            served.volume.markedExtents,
          ),
          flips: { ...served.flips },
          flipPause: served.flipPause.snapshot(),
          scrub: { ...served.scrubs },
        },
      ];
    });
  }

  nodes(): NodeMetrics[] {
    return this.#parts.fleet.all().map((node) => {
      const totals = node.totals();
      return {
        view: this.#parts.backend.node(node.id)!,
        upstream: {
          requests: { read: totals.reads, write: totals.writes, flush: totals.flushes },
          bytes: { read: totals.readBytes, write: totals.writtenBytes },
          errors: totals.errors,
          latency: node.latencyOfAll().snapshot(),
          disconnects: totals.disconnects,
        },
      };
    });
  }

  gateway(): GatewayMetrics {
    const { nbd, events, backend, version } = this.#parts;
    return {
      version,
      ready: backend.ready().ready,
      events: events.counters(),
      nbd: { sessions: nbd.clients().length, ...nbdCounts(nbd) },
    };
  }
}

function nbdCounts(nbd: NbdServer): Omit<GatewayMetrics['nbd'], 'sessions'> {
  const { accepted, turnedAway, handshakesFailed, secured, refused, violations } = nbd.counters;
  return { accepted, turnedAway, handshakesFailed, secured, refused, violations };
}
