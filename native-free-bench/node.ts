// The storage node behind every path: nbdkit's memory plugin where it is installed (a native server is the harder
// test of a proxy), else our own in-memory node. One for the whole run, so that all paths meet the same one.
import { type Outcome, refuse } from '../gateway/control.js';
import type { Endpoint } from './load-connection.js';
import { modulePath } from './module-path.js';
import type { Parts } from './part.js';
import { freePort, greets } from './probe.js';
import { findProgram, versionOf } from './program.js';

export interface BenchNode {
  endpoint: Endpoint;
  /** What it is, for the report. */
  title: string;
}

export const NODE_KINDS = ['own', 'nbdkit'] as const;
export type NodeKind = (typeof NODE_KINDS)[number];

/** `kind` null: nbdkit's if that is installed. */
export async function startNode(parts: Parts, kind: NodeKind | null, sizeBytes: number): Promise<Outcome<BenchNode>> {
  const nbdkit = kind === 'own' ? null : findProgram('nbdkit');
  if (nbdkit !== null) return startNbdkit(parts, nbdkit, sizeBytes);
  return kind === 'nbdkit' ? refuse('not-installed', 'nbdkit is not installed (Debian: nbdkit)') : startOwn(parts, sizeBytes);
}

async function startOwn(parts: Parts, sizeBytes: number): Promise<Outcome<BenchNode>> {
  const started = await parts.start({ name: 'node', run: { module: modulePath('./memory-node') }, args: [String(sizeBytes)] });
  if (!started.ok) return started;
  return { ok: true, value: { endpoint: at(started.value.port), title: 'in-memory node in Node' } };
}

async function startNbdkit(parts: Parts, program: string, sizeBytes: number): Promise<Outcome<BenchNode>> {
  const port = await freePort();
  const started = await parts.start({
    name: 'node (nbdkit memory)',
    run: { program },
    args: ['--foreground', '--exit-with-parent', '--ipaddr', '127.0.0.1', '--port', String(port), 'memory', `size=${sizeBytes}`],
    isReady: () => greets(port),
  });
  if (!started.ok) return started;
  return { ok: true, value: { endpoint: at(port), title: `${versionOf('nbdkit', program, '--version')}, memory plugin` } };
}

function at(port: number): Endpoint {
  return { host: '127.0.0.1', port, exportName: '' };
}
