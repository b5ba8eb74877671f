// The commands of volumes: show, grow, mirror, flip, take over, roll back, scrub. Each is a request to the API and a text for people.
import { setTimeout as delay } from 'node:timers/promises';
import { plural } from '../../config/plural.js';
import { formatBytes, formatDuration } from '../../config/units.js';
import type { RollbackReport } from '../api/backend.js';
import type { FlipCertificate, JournalView, MirrorView, ScrubReport, TargetRef, VolumeView } from '../control.js';
import type { ApiClient } from './api-client.js';
import { CliError, EXIT, type ExitCode } from './cli-error.js';
import type { Output } from './output.js';
import { type Column, list, table } from './table.js';

const POLL_MS = 500;

function pathOf(volume: string, ...rest: string[]): string {
  return ['/v1/volumes', ...[volume, ...rest].map(encodeURIComponent)].join('/');
}

function shownTarget({ node, export: name }: TargetRef): string {
  return name === '' ? node : `${node}/${name}`;
}

function progress({ copiedBytes, dirtyBytes }: MirrorView): string {
  const total = copiedBytes + dirtyBytes;
  return total === 0 ? '' : `${Math.floor((copiedBytes / total) * 100)}%`;
}

function seconds(value: number | null): string {
  return value === null ? '' : formatDuration(value * 1_000);
}

const VOLUME_COLUMNS: Column<VolumeView>[] = [
  { title: 'NAME', cell: ({ name }) => name },
  { title: 'SIZE', right: true, cell: ({ size }) => formatBytes(size) },
  { title: 'STATE', cell: ({ state }) => state },
  { title: 'SERVICE', cell: ({ service }) => service },
  { title: 'ACTIVE', cell: ({ active }) => shownTarget(active) },
  { title: 'EPOCH', right: true, cell: ({ epoch }) => String(epoch) },
  {
    title: 'MIRRORS',
    cell: ({ mirrors }) =>
      mirrors.map((m) => [`${m.node}:${m.state}`, m.state === 'copying' ? progress(m) : ''].join(' ').trim()).join(', '),
  },
  { title: 'CLIENTS', right: true, cell: ({ clients }) => String(clients.length) },
];

const MIRROR_COLUMNS: Column<MirrorView>[] = [
  { title: 'MIRROR', cell: shownTarget },
  { title: 'STATE', cell: ({ state, reverse }) => (reverse ? `${state} (reverse)` : state) },
  { title: 'COPIED', right: true, cell: ({ copiedBytes }) => formatBytes(copiedBytes) },
  { title: 'TO COPY', right: true, cell: ({ dirtyBytes }) => formatBytes(dirtyBytes) },
  { title: 'LAG', right: true, cell: ({ lagBytes }) => formatBytes(lagBytes) },
  { title: 'RATE', right: true, cell: ({ copyBytesPerSecond: rate }) => (rate === 0 ? '' : `${formatBytes(rate)}/s`) },
  { title: 'ETA', right: true, cell: ({ etaSeconds }) => seconds(etaSeconds) },
  { title: 'REASON', cell: ({ reason }) => reason ?? '' },
];

function shownScrub(scrub: ScrubReport): string {
  const { state, comparedBytes, totalBytes, mismatches } = scrub;
  const repaired = mismatches.filter((mismatch) => mismatch.repaired).length;
  const found = mismatches.length === 0 ? 'no mismatch' : `${plural(mismatches.length, 'mismatch', 'mismatches')}, ${repaired} repaired`;
  return `${state}, ${formatBytes(comparedBytes)} of ${formatBytes(totalBytes)} compared, ${found}`;
}

function shownFlip({ kind, from, to, at, pauseMs, cause }: FlipCertificate): string {
  return `${kind} from ${shownTarget(from)} to ${shownTarget(to)} at ${at}, paused ${formatDuration(pauseMs)}: ${cause}`;
}

function shownJournal({ state, reason, usedBytes, sizeBytes, covers }: JournalView): string {
  if (reason !== null) return `${state}: ${reason}; flushes wait for the mirrors in step`;
  return `${state}, ${formatBytes(usedBytes)} of ${formatBytes(sizeBytes)} used, covers ${covers.length === 0 ? 'no mirror' : covers.join(' ')}`;
}

function shownVolume(volume: VolumeView): string {
  const labels = Object.entries(volume.labels).map(([key, value]) => `${key}=${value}`);
  const about = list([
    ['name', volume.name],
    ['size', `${formatBytes(volume.size)} (${volume.size} bytes)`],
    ['state', volume.state],
    ['service', volume.service],
    ['reason', volume.reason],
    ['active', shownTarget(volume.active)],
    ['epoch', String(volume.epoch)],
    ['policy', `${volume.policy}, priority ${volume.priority}`],
    ['labels', labels.join(' ')],
    ['journal', volume.journal && shownJournal(volume.journal)],
    ['clients', volume.clients.join(' ')],
    ['lost', volume.lostBytes > 0 ? `${formatBytes(volume.lostBytes)} that no copy can give` : null],
    ['scrub', volume.scrub && shownScrub(volume.scrub)],
    ['last flip', volume.lastFlip && shownFlip(volume.lastFlip)],
  ]);
  return volume.mirrors.length === 0 ? about : `${about}\n${table(volume.mirrors, MIRROR_COLUMNS)}`;
}

export async function showVolumes(api: ApiClient, output: Output, name: string | undefined): Promise<ExitCode> {
  if (name !== undefined) {
    const volume = await api.get<VolumeView>(pathOf(name));
    output.result(volume, () => shownVolume(volume));
    return EXIT.OK;
  }
  const answer = await api.get<{ volumes: VolumeView[] }>('/v1/volumes');
  output.result(answer, () => table(answer.volumes, VOLUME_COLUMNS));
  return EXIT.OK;
}

/** `size`: as the configuration writes it, or bytes. Takes as long as the nodes need to zero the new part. */
export async function growVolume(api: ApiClient, output: Output, volume: string, size: string): Promise<ExitCode> {
  const before = await api.get<VolumeView>(pathOf(volume));
  const grown = await api.patchAndWait<VolumeView>(pathOf(volume), { size });
  output.result(grown, () => {
    const has = `${formatBytes(grown.size)} (${grown.size} bytes)`;
    if (grown.size === before.size) return `${volume} has ${has} already.\n`;
    return `${volume} has grown from ${formatBytes(before.size)} to ${has}. Hosts see it when they attach again.\n`;
  });
  return EXIT.OK;
}

async function untilSynced(api: ApiClient, output: Output, volume: string, node: string): Promise<MirrorView> {
  let told = '';
  for (;;) {
    const { mirrors } = await api.get<VolumeView>(pathOf(volume));
    const mirror = mirrors.find((candidate) => candidate.node === node);
    if (mirror === undefined) {
      throw new CliError(EXIT.REFUSED, `The mirror of ${volume} on ${node} was dropped before it was complete.`);
    }
    if (mirror.state === 'synced') {
      return mirror;
    }
    if (mirror.state === 'failed') {
      throw new CliError(EXIT.REFUSED, `The mirror of ${volume} on ${node} failed: ${mirror.reason ?? 'no reason is known'}.`);
    }
    const line = `${mirror.state} ${progress(mirror)}${mirror.etaSeconds === null ? '' : `, ${seconds(Math.ceil(mirror.etaSeconds))} left`}`;
    if (line !== told && !output.json) {
      output.note(line);
      told = line;
    }
    await delay(POLL_MS);
  }
}

export async function addMirror(
  api: ApiClient,
  output: Output,
  volume: string,
  options: { node?: string; wait?: boolean },
): Promise<ExitCode> {
  const begun = await api.post<MirrorView>(pathOf(volume, 'mirrors'), { node: options.node ?? null });
  if (options.wait !== true) {
    output.result(begun, () => `${volume} is being copied to ${shownTarget(begun)}; "forestall volumes ${volume}" shows how far it is.\n`);
    return EXIT.OK;
  }
  const mirror = await untilSynced(api, output, volume, begun.node);
  output.result(mirror, () => `The mirror of ${volume} on ${shownTarget(mirror)} is complete.\n`);
  return EXIT.OK;
}

export async function dropMirror(api: ApiClient, output: Output, volume: string, node: string | undefined): Promise<ExitCode> {
  let from = node;
  if (from === undefined) {
    const { mirrors } = await api.get<VolumeView>(pathOf(volume));
    if (mirrors.length !== 1) {
      const which =
        mirrors.length === 0 ? 'it has none' : `it has several, on ${mirrors.map((mirror) => mirror.node).join(', ')}: choose with --node`;
      throw new CliError(
        mirrors.length === 0 ? EXIT.NOT_FOUND : EXIT.USAGE,
        `Which mirror of ${volume} is to be dropped? It is not clear: ${which}.`,
      );
    }
    from = mirrors[0].node;
  }
  const dropped = await api.delete<TargetRef>(pathOf(volume, 'mirrors', from));
  output.result(dropped, () => `The mirror of ${volume} on ${shownTarget(dropped)} was dropped.\n`);
  return EXIT.OK;
}

function shownCertificate(certificate: FlipCertificate): string {
  const { volume, from, to, kind, epoch, pauseMs, held, drained, dirtyRegions, roots, cause, verdict } = certificate;
  return list([
    [kind, `${volume} from ${shownTarget(from)} to ${shownTarget(to)}`],
    ['epoch', String(epoch)],
    ['pause', `${formatDuration(pauseMs)}, ${plural(held, 'request')} held`],
    [
      'drained',
      `${drained.inFlight} requests in flight, ${formatBytes(drained.queueBytes)} of the queue; ${dirtyRegions} dirty regions left`,
    ],
    [
      'roots',
      `${roots.from ?? 'unknown'} before, ${roots.to ?? 'unknown'} after; ${roots.verifiedRegions} regions read back, ${roots.unverifiedRegions} not`,
    ],
    ['cause', verdict === null ? cause : `${cause} (verdict ${verdict})`],
  ]);
}

export async function flipVolume(api: ApiClient, output: Output, volume: string, node: string | undefined): Promise<ExitCode> {
  const certificate = await api.post<FlipCertificate>(pathOf(volume, 'flip'), { node: node ?? null });
  output.result(certificate, () => shownCertificate(certificate));
  return EXIT.OK;
}

export async function takeOver(
  api: ApiClient,
  output: Output,
  volume: string,
  { node, acceptLoss }: { node?: string; acceptLoss?: boolean },
): Promise<ExitCode> {
  const certificate = await api.post<FlipCertificate>(pathOf(volume, 'takeover'), { node: node ?? null, acceptLoss: acceptLoss ?? false });
  output.result(certificate, () => shownCertificate(certificate));
  return EXIT.OK;
}

export async function rollBack(api: ApiClient, output: Output, volume: string): Promise<ExitCode> {
  const report = await api.post<RollbackReport>(pathOf(volume, 'rollback'));
  output.result(report, () => {
    const dropped =
      report.dropped.length === 0 ? '' : `${volume}: the mirror on ${report.dropped.map(shownTarget).join(', ')} was dropped.\n`;
    return dropped + (report.certificate === null ? '' : shownCertificate(report.certificate));
  });
  return EXIT.OK;
}

export async function scrubVolume(api: ApiClient, output: Output, volume: string, wait: boolean): Promise<ExitCode> {
  const path = pathOf(volume, 'scrub');
  if (!wait) {
    const begun = await api.post<ScrubReport>(path);
    output.result(begun, () => `A scrub of ${volume} is under way; "forestall volumes ${volume}" shows how far it is.\n`);
    return EXIT.OK;
  }
  const report = await api.postAndWait<ScrubReport>(`${path}?wait=true`);
  output.result(report, () => {
    const rows = report.mismatches;
    const head = `${volume}: ${shownScrub(report)}.\n`;
    return rows.length === 0
      ? head
      : `${head}\n${table(rows, [
          { title: 'OFFSET', right: true, cell: ({ offset }) => String(offset) },
          { title: 'LENGTH', right: true, cell: ({ lengthBytes }) => formatBytes(lengthBytes) },
          { title: 'WRONG ON', cell: ({ wrong }) => wrong },
          { title: 'REPAIRED', cell: ({ repaired }) => (repaired ? 'yes' : 'no') },
          { title: 'REASON', cell: ({ reason }) => reason },
        ])}`;
  });
  return report.state === 'done' && report.mismatches.every(({ repaired }) => repaired) ? EXIT.OK : EXIT.REFUSED;
}
