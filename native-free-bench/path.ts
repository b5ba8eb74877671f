// The ways from the load generator to the node that are compared. Each runs in processes of its own; what it needs
// and how it is started stands here and nowhere else.
import { type Outcome, refuse } from '../gateway/control.js';
import { openGateway } from './gateway-path.js';
import type { Endpoint } from './load-connection.js';
import { modulePath } from './module-path.js';
import type { Part, Parts } from './part.js';
import { freePort, greets } from './probe.js';
import { findProgram } from './program.js';

export const PATH_IDS = ['direct', 'relay', 'socat', 'gateway', 'nbdkit', 'qemu'] as const;
export type PathId = (typeof PATH_IDS)[number];

export interface Path {
  id: PathId;
  title: string;
  /** Another program it needs, the package it comes in, and how to ask its version. */
  needs: { program: string; packages: string; versionFlag: string } | null;
  /** An NBD proxy of others: what the gateway has to be ahead of. */
  proxy: boolean;
  open(setting: PathSetting): Promise<Outcome<OpenPath>>;
}

export interface PathSetting {
  parts: Parts;
  node: Endpoint;
  sizeBytes: number;
  directory: string;
}

export interface OpenPath {
  endpoint: Endpoint;
  /** The process between the load generator and the node, if there is one. */
  part: Part | null;
  /** Whether all its work is done in that process itself. */
  singleProcess: boolean;
}

export const PATHS: readonly Path[] = [
  {
    id: 'direct',
    title: 'load generator to node',
    needs: null,
    proxy: false,
    open: async ({ node }) => ({ ok: true, value: { endpoint: node, part: null, singleProcess: true } }),
  },
  { id: 'relay', title: 'bare TCP relay in Node', needs: null, proxy: false, open: openRelay },
  {
    id: 'socat',
    title: 'bare TCP relay, socat',
    needs: { program: 'socat', packages: 'socat', versionFlag: '-V' },
    proxy: false,
    open: (setting) =>
      openProgram(setting, 'socat', false, (port, node) => [
        `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork,nodelay`,
        `TCP:${node.host}:${node.port},nodelay`,
      ]),
  },
  { id: 'gateway', title: 'Forestall', needs: null, proxy: false, open: openForestall },
  {
    id: 'nbdkit',
    title: 'nbdkit, nbd plugin',
    needs: { program: 'nbdkit', packages: 'nbdkit', versionFlag: '--version' },
    proxy: true,
    open: (setting) =>
      openProgram(setting, 'nbdkit', true, (port, node) => [
        ...['--foreground', '--exit-with-parent', '--ipaddr', '127.0.0.1', '--port', String(port)],
        ...['nbd', `hostname=${node.host}`, `port=${node.port}`, `export=${node.exportName}`],
      ]),
  },
  {
    id: 'qemu',
    title: 'qemu-nbd, nbd driver',
    needs: { program: 'qemu-nbd', packages: 'qemu-utils', versionFlag: '--version' },
    proxy: true,
    open: (setting) =>
      openProgram(setting, 'qemu-nbd', true, (port, node) => [
        ...['--persistent', '--shared=16', '--format=raw', '--bind=127.0.0.1', `--port=${port}`],
        `nbd://${node.host}:${node.port}/${node.exportName}`,
      ]),
  },
];

async function openRelay({ parts, node }: PathSetting): Promise<Outcome<OpenPath>> {
  const started = await parts.start({ name: 'relay', run: { module: modulePath('./relay') }, args: [node.host, String(node.port)] });
  if (!started.ok) return started;
  const { part, port } = started.value;
  return { ok: true, value: { endpoint: { ...node, port }, part, singleProcess: true } };
}

async function openForestall({ parts, node, sizeBytes, directory }: PathSetting): Promise<Outcome<OpenPath>> {
  const opened = await openGateway(parts, { node, sizeBytes, directory });
  return opened.ok ? { ok: true, value: { ...opened.value, singleProcess: true } } : opened;
}

/** Starts a program of others that listens on a port we choose. */
async function openProgram(
  { parts, node }: PathSetting,
  name: string,
  singleProcess: boolean,
  args: (port: number, node: Endpoint) => string[],
): Promise<Outcome<OpenPath>> {
  const program = findProgram(name);
  if (program === null) return refuse('not-installed', `${name} is not installed`);
  const port = await freePort();
  const started = await parts.start({ name, run: { program }, args: args(port, node), isReady: () => greets(port) });
  if (!started.ok) return started;
  // Whatever the node's export is called, these servers offer it as their default one or under any name.
  return { ok: true, value: { endpoint: { host: '127.0.0.1', port, exportName: '' }, part: started.value.part, singleProcess } };
}
