// The metrics of volumes: what hosts see, where each copy stands, flips and scrubs.
import { JOURNAL_STATES, type JournalView, MIRROR_STATES, PROTECTION_STATES } from '../control.js';
import { byKey, type Family, histogramValues, known, one, oneHot, type Value } from './family.js';
import type { VolumeMetrics } from './source.js';

const SERVICE_STATES = ['served', 'waiting', 'blocked'] as const;

function volumeFamily(
  name: string,
  type: Family['type'],
  help: string,
  values: (metrics: VolumeMetrics, volume: { volume: string }) => Value[],
): Family {
  return { name, type, help, values: ({ volumes }) => volumes.flatMap((metrics) => values(metrics, { volume: metrics.view.name })) };
}

function mirrorFamily(name: string, help: string, value: (mirror: VolumeMetrics['view']['mirrors'][number]) => number): Family {
  return volumeFamily(name, 'gauge', help, ({ view }, labels) =>
    view.mirrors.map((mirror) => one({ ...labels, node: mirror.node }, value(mirror))),
  );
}

function journalFamily(name: string, help: string, value: (journal: JournalView) => number): Family {
  return volumeFamily(name, 'gauge', help, ({ view }, labels) => (view.journal === null ? [] : [one(labels, value(view.journal))]));
}

export const VOLUME_FAMILIES: Family[] = [
  volumeFamily('forestall_volume_size_bytes', 'gauge', 'Size of the volume.', ({ view }, labels) => [one(labels, view.size)]),
  volumeFamily('forestall_volume_epoch', 'gauge', 'Epoch of the volume; it grows by one with each flip.', ({ view }, labels) => [
    one(labels, view.epoch),
  ]),
  volumeFamily(
    'forestall_volume_active_info',
    'gauge',
    'Always 1; the labels name the active target of the volume.',
    ({ view }, labels) => [one({ ...labels, node: view.active.node, export: view.active.export }, 1)],
  ),
  volumeFamily(
    'forestall_volume_service_state',
    'gauge',
    '1 for the present service of the volume to its hosts, 0 for the others.',
    ({ view }, labels) => oneHot(labels, SERVICE_STATES, view.service),
  ),
  volumeFamily(
    'forestall_volume_protection_state',
    'gauge',
    '1 for the present state of protection of the volume, 0 for the others.',
    ({ view }, labels) => oneHot(labels, PROTECTION_STATES, view.state),
  ),
  volumeFamily('forestall_volume_clients', 'gauge', 'Hosts attached to the volume.', ({ view }, labels) => [
    one(labels, view.clients.length),
  ]),
  volumeFamily(
    'forestall_volume_resync_extents',
    'gauge',
    'Extents of 4 MiB that a restart of the gateway would copy to the mirrors again.',
    ({ resyncExtents }, labels) => [one(labels, resyncExtents)],
  ),

  volumeFamily('forestall_host_requests_total', 'counter', 'Requests of hosts that were answered, by operation.', ({ host }, labels) =>
    byKey(labels, 'op', host.requests),
  ),
  volumeFamily('forestall_host_bytes_total', 'counter', 'Bytes that hosts read and wrote.', ({ host }, labels) =>
    byKey(labels, 'op', host.bytes),
  ),
  volumeFamily(
    'forestall_host_hedged_reads_total',
    'counter',
    'Reads that a mirror answered before the active target did.',
    ({ host }, labels) => [one(labels, host.hedgedReads)],
  ),
  volumeFamily('forestall_host_errors_total', 'counter', 'Requests of hosts that were answered with an error.', ({ host }, labels) => [
    one(labels, host.errors),
  ]),
  volumeFamily('forestall_host_latency_seconds', 'histogram', 'Time from a read or write of a host to its answer.', ({ host }, labels) =>
    histogramValues('forestall_host_latency_seconds', labels, host.latency),
  ),

  volumeFamily('forestall_mirror_state', 'gauge', '1 for the present state of the mirror, 0 for the others.', ({ view }, labels) =>
    view.mirrors.flatMap((mirror) => oneHot({ ...labels, node: mirror.node }, MIRROR_STATES, mirror.state)),
  ),
  mirrorFamily(
    'forestall_mirror_lag_bytes',
    'Acknowledged writes that the mirror lacks, in its replication queue.',
    ({ lagBytes }) => lagBytes,
  ),
  mirrorFamily(
    'forestall_mirror_lag_seconds',
    'Age of the oldest acknowledged write that the mirror lacks.',
    ({ lagSeconds }) => lagSeconds,
  ),
  mirrorFamily('forestall_mirror_dirty_bytes', 'Regions that are still to be copied to the mirror.', ({ dirtyBytes }) => dirtyBytes),
  mirrorFamily('forestall_mirror_copied_bytes', 'What was copied to the mirror since its copy began.', ({ copiedBytes }) => copiedBytes),

  volumeFamily(
    'forestall_journal_state',
    'gauge',
    '1 for the present state of the journal of the volume, 0 for the others; only where the policy wants one.',
    ({ view }, labels) => (view.journal === null ? [] : oneHot(labels, JOURNAL_STATES, view.journal.state)),
  ),
  journalFamily(
    'forestall_journal_used_bytes',
    'What is in the journal and not on stable storage of every mirror.',
    ({ usedBytes }) => usedBytes,
  ),
  journalFamily('forestall_journal_size_bytes', 'What the journal of the volume can hold.', ({ sizeBytes }) => sizeBytes),

  volumeFamily('forestall_flips_total', 'counter', 'Changes of the active target of the volume, by kind.', ({ flips }, labels) =>
    byKey(labels, 'kind', flips),
  ),
  volumeFamily('forestall_flip_pause_seconds', 'histogram', 'How long hosts were held by a flip.', ({ flipPause }, labels) =>
    histogramValues('forestall_flip_pause_seconds', labels, flipPause),
  ),

  volumeFamily(
    'forestall_volume_lost_bytes',
    'gauge',
    'What no copy of the volume can give: hosts cannot read it before they write it, at the latest after the next flip.',
    ({ view }, labels) => [one(labels, view.lostBytes)],
  ),

  volumeFamily('forestall_scrubs_total', 'counter', 'Scrubs of the volume that ended.', ({ scrub }, labels) => [
    one(labels, scrub.finished),
  ]),
  volumeFamily('forestall_scrub_compared_bytes_total', 'counter', 'Bytes that scrubs compared.', ({ scrub }, labels) => [
    one(labels, scrub.comparedBytes),
  ]),
  volumeFamily('forestall_scrub_mismatches_total', 'counter', 'Regions that scrubs found to differ.', ({ scrub }, labels) => [
    one(labels, scrub.mismatches),
  ]),
  volumeFamily('forestall_scrub_repairs_total', 'counter', 'Regions that scrubs repaired.', ({ scrub }, labels) => [
    one(labels, scrub.repaired),
  ]),
  volumeFamily(
    'forestall_scrub_last_end_timestamp_seconds',
    'gauge',
    'When the last scrub of the volume ended, as seconds since 1970.',
    ({ scrub }, labels) => known(labels, scrub.lastEndMs === null ? null : scrub.lastEndMs / 1_000),
  ),
];
