// `forestall store`: looks at, writes out and takes in the records of a data directory that no gateway uses. Holds the
// directory's lock meanwhile, so that neither sees the other half way.
import { readConfig } from '../../config/load.js';
import { formatProblem } from '../../config/problem.js';
import { formatBytes } from '../../config/units.js';
import type { Outcome } from '../control.js';
import { DataDirectory } from '../store/data-directory.js';
import { checkStore, type Finding, type KindCount, type StoreReport } from '../store/store-check.js';
import type { VolumeSummary } from '../store/cross-check.js';
import { exportStore } from '../store/store-export.js';
import { type Imported, importStore } from '../store/store-import.js';
import { CliError, EXIT, type ExitCode } from './cli-error.js';
import type { Output } from './output.js';
import { packageVersion } from './package.js';
import { type Column, list, table } from './table.js';

export interface StoreOptions {
  data?: string;
  config?: string;
}

const SHOWN_MAX = 50;

async function directoryOf({ data, config }: StoreOptions): Promise<string> {
  if ((data === undefined) === (config === undefined)) {
    throw new CliError(EXIT.USAGE, 'Which data directory? Give --data DIR, or --config FILE of the gateway that uses it.');
  }
  if (data !== undefined) return data;
  const loaded = await readConfig(config!);
  if (!loaded.ok) throw new CliError(EXIT.REFUSED, loaded.problems.map(formatProblem).join('\n'));
  return loaded.config.server.dataDirectory;
}

function granted<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new CliError(EXIT.REFUSED, outcome.message);
  return outcome.value;
}

/** What the system refuses is a sentence too. */
async function withLock<T>(opened: Outcome<{ path: string; release(): void }>, run: (path: string) => T | Promise<T>): Promise<T> {
  const directory = granted(opened);
  try {
    return await run(directory.path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined && !(error as Error).message.startsWith('The records in')) throw error;
    throw new CliError(EXIT.REFUSED, (error as Error).message);
  } finally {
    directory.release();
  }
}

function shownTarget({ node, export: name }: { node: string; export: string }): string {
  return name === '' ? node : `${node}/${name}`;
}

const KIND_COLUMNS: Column<KindCount>[] = [
  { title: 'KIND', cell: ({ kind }) => kind },
  { title: 'RECORDS', right: true, cell: ({ records }) => String(records) },
  { title: 'SIZE', right: true, cell: ({ bytes }) => formatBytes(bytes) },
  { title: 'FLAWED', right: true, cell: ({ flawed }) => String(flawed) },
];

const VOLUME_COLUMNS: Column<VolumeSummary>[] = [
  { title: 'VOLUME', cell: ({ name }) => name },
  { title: 'SIZE', right: true, cell: ({ sizeBytes }) => formatBytes(sizeBytes) },
  { title: 'EPOCH', right: true, cell: ({ epoch }) => String(epoch) },
  { title: 'ACTIVE', cell: ({ active }) => shownTarget(active) },
  {
    title: 'MIRRORS',
    cell: ({ mirrors }) =>
      mirrors
        .map((mirror) => `${shownTarget(mirror)} (${mirror.synced ? '' : 'not synced, '}${mirror.dirtyExtents} extents dirty)`)
        .join(', '),
  },
  { title: 'MARKED', right: true, cell: ({ markedExtents }) => String(markedExtents) },
];

const FINDING_COLUMNS: Column<Finding>[] = [
  { title: 'FINDING', cell: ({ severity }) => severity },
  { title: 'RECORD', cell: ({ key }) => key ?? 'the file' },
  { title: 'WHAT', cell: ({ message }) => message },
];

function shownReport(report: StoreReport): string {
  const { path, sizeBytes, transaction, kinds, volumes, findings, findingsLeftOut, sound } = report;
  const more = findings.length - SHOWN_MAX + findingsLeftOut;
  return [
    list([
      ['records', `${path}, ${formatBytes(sizeBytes)}`],
      ['last commit', String(transaction)],
    ]),
    table(kinds, KIND_COLUMNS),
    volumes.length === 0 ? 'There is no volume in it yet.\n' : table(volumes, VOLUME_COLUMNS),
    ...(findings.length === 0 ? [] : [table(findings.slice(0, SHOWN_MAX), FINDING_COLUMNS) + (more > 0 ? `and ${more} more\n` : '')]),
    sound ? 'The store is sound.\n' : 'The store is damaged: docs/store.md says what to do.\n',
  ].join('\n');
}

export async function checkStoreAt(output: Output, options: StoreOptions): Promise<ExitCode> {
  const directory = await directoryOf(options);
  return withLock(await DataDirectory.openToRead(directory), (path) => {
    const report = granted(checkStore(path));
    output.result(report, () => shownReport(report));
    return report.sound ? EXIT.OK : EXIT.REFUSED;
  });
}

export async function exportStoreAt(output: Output, file: string, options: StoreOptions & { salvage?: boolean }): Promise<ExitCode> {
  const directory = await directoryOf(options);
  return withLock(await DataDirectory.openToRead(directory), (path) => {
    const how = { salvage: options.salvage === true, by: packageVersion(), at: new Date().toISOString() };
    const exported = granted(exportStore(path, file, how));
    for (const reason of exported.leftOut.slice(0, SHOWN_MAX)) output.note(`left out: ${reason}`);
    output.result({ file, ...exported }, () => {
      const left = exported.leftOut.length === 0 ? '' : `, and ${exported.leftOut.length} flaws left out`;
      return `${exported.records} records are in ${file}${left}.\n`;
    });
    return EXIT.OK;
  });
}

function shownImport({ records, head, leftOut, kept, volumes }: Imported, path: string, outdated: boolean): string {
  const places = volumes.map(({ name, epoch, active }) => `  ${name} on ${shownTarget(active)} at epoch ${epoch}\n`).join('');
  return [
    `${records} records of ${head.at} are in ${path}.\n`,
    kept === null ? '' : `What was there is kept as ${kept}.\n`,
    outdated || leftOut > 0 ? 'Every mirror will be copied again, and checksums are learnt anew.\n' : '',
    places === ''
      ? ''
      : `Before you start the gateway: each volume must have been active last where the records say, or an old copy would be served.\n${places}`,
  ].join('');
}

export async function importStoreAt(
  output: Output,
  file: string,
  options: StoreOptions & { replace?: boolean; outdated?: boolean },
): Promise<ExitCode> {
  const directory = await directoryOf(options);
  return withLock(await DataDirectory.open(directory), async (path) => {
    const outdated = options.outdated === true;
    const imported = granted(await importStore(file, path, { replace: options.replace === true, outdated, at: new Date() }));
    output.result(imported, () => shownImport(imported, path, outdated));
    return EXIT.OK;
  });
}
