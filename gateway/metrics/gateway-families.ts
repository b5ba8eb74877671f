// The metrics of the gateway itself: its events, its NBD server, and the process it runs as.
import { readdirSync } from 'node:fs';
import { type IntervalHistogram, monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { byKey, type Family, known, one, type Value } from './family.js';

const LOOP_RESOLUTION_MS = 10;
const LOOP_QUANTILES = [0.5, 0.9, 0.99, 1] as const;
const LOOP_NAME = 'forestall_event_loop_delay_seconds';

const GATEWAY_FAMILIES: Family[] = [
  {
    name: 'forestall_build_info',
    type: 'gauge',
    help: 'Always 1; the label is the version.',
    values: ({ gateway }) => [one({ version: gateway.version }, 1)],
  },
  {
    name: 'forestall_ready',
    type: 'gauge',
    help: '1 while volumes are served.',
    values: ({ gateway }) => [one({}, Number(gateway.ready))],
  },
  {
    name: 'forestall_events_total',
    type: 'counter',
    help: 'Events since the start of the process, by level.',
    values: ({ gateway: { events } }) => byKey({}, 'level', { info: events.info, warning: events.warning, alert: events.alert }),
  },
  {
    name: 'forestall_events_unwritten',
    type: 'gauge',
    help: 'Events that are not yet stored.',
    values: ({ gateway }) => [one({}, gateway.events.unwritten)],
  },
  {
    name: 'forestall_nbd_sessions',
    type: 'gauge',
    help: 'Sessions of hosts now, one for each connection.',
    values: ({ gateway }) => [one({}, gateway.nbd.sessions)],
  },
  {
    name: 'forestall_nbd_connections_total',
    type: 'counter',
    help: 'NBD connections taken.',
    values: ({ gateway }) => [one({}, gateway.nbd.accepted)],
  },
  {
    name: 'forestall_nbd_connections_refused_total',
    type: 'counter',
    help: 'NBD connections closed at once because there were too many.',
    values: ({ gateway }) => [one({}, gateway.nbd.turnedAway)],
  },
  {
    name: 'forestall_nbd_handshakes_failed_total',
    type: 'counter',
    help: 'NBD handshakes that ended before anything was attached.',
    values: ({ gateway }) => [one({}, gateway.nbd.handshakesFailed)],
  },
  {
    name: 'forestall_nbd_tls_handshakes_total',
    type: 'counter',
    help: 'TLS handshakes with NBD clients that were completed.',
    values: ({ gateway }) => [one({}, gateway.nbd.secured)],
  },
  {
    name: 'forestall_nbd_clients_refused_total',
    type: 'counter',
    help: 'Refusals of NBD clients for who they are: a certificate does not count, or a volume is not for them.',
    values: ({ gateway }) => [one({}, gateway.nbd.refused)],
  },
  {
    name: 'forestall_nbd_violations_total',
    type: 'counter',
    help: 'NBD sessions cut off because the client broke the protocol.',
    values: ({ gateway }) => [one({}, gateway.nbd.violations)],
  },
];

function openFiles(): number | null {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return null;
  }
}

const PROCESS_FAMILIES: Family[] = [
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'Processor time the process used, user and system.',
    values() {
      const { user, system } = process.cpuUsage();
      return [one({}, (user + system) / 1e6)];
    },
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    help: 'Memory the process holds.',
    values: () => [one({}, process.memoryUsage.rss())],
  },
  { name: 'process_heap_bytes', type: 'gauge', help: 'JavaScript heap in use.', values: () => [one({}, process.memoryUsage().heapUsed)] },
  {
    name: 'process_buffer_bytes',
    type: 'gauge',
    help: 'Memory of buffers outside the JavaScript heap.',
    values: () => [one({}, process.memoryUsage().arrayBuffers)],
  },
  { name: 'process_open_fds', type: 'gauge', help: 'File descriptors the process holds open.', values: () => known({}, openFiles()) },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    help: 'When the process started, as seconds since 1970.',
    values: () => [one({}, performance.timeOrigin / 1_000)],
  },
];

/** How late timers of the event loop that carries the I/O fire. Quantiles are of the time since the last scrape. */
class LoopDelay {
  readonly #delays: IntervalHistogram = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  #count = 0;
  #sumSeconds = 0;

  constructor() {
    this.#delays.enable();
  }

  stop(): void {
    this.#delays.disable();
  }

  /** The monitor counts the time between two fires of a timer: the delay is what exceeds its period. */
  values(): Value[] {
    const seconds = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - LOOP_RESOLUTION_MS / 1e3);
    const { count } = this.#delays;
    const values: Value[] = [];
    if (count > 0) {
      this.#count += count;
      this.#sumSeconds += seconds(this.#delays.mean) * count;
      values.push(...LOOP_QUANTILES.map((q) => one({ quantile: String(q) }, seconds(this.#delays.percentile(q * 100)))));
      this.#delays.reset();
    }
    values.push({ labels: {}, value: this.#sumSeconds, metricName: `${LOOP_NAME}_sum` });
    values.push({ labels: {}, value: this.#count, metricName: `${LOOP_NAME}_count` });
    return values;
  }
}

export interface ProcessMetrics {
  families: Family[];
  stop(): void;
}

/** Starts to watch the event loop; `stop` ends that. */
export function gatewayFamilies(): ProcessMetrics {
  const loop = new LoopDelay();
  const delay: Family = {
    name: LOOP_NAME,
    type: 'summary',
    help: 'How late the event loop that carries the I/O runs.',
    values: () => loop.values(),
  };
  return { families: [...GATEWAY_FAMILIES, ...PROCESS_FAMILIES, delay], stop: () => loop.stop() };
}
