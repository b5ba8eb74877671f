// The storage nodes that are tortured: an nbdkit whose requests can be made to fail and to crawl, behind a relay that can be
// cut; one with a volatile cache; and an agent. Each keeps its one copy in a file that can be compared and damaged.
import { readdirSync } from 'node:fs';
import { rm, truncate, writeFile } from 'node:fs/promises';
import { CuttingRelay } from '../support/cutting-relay.js';
import { NbdkitNode } from '../support/nbdkit-node.js';
import { NodeAgentProcess } from '../support/node-agent-process.js';
import type { Site } from '../support/site.js';
import type { StartedProgram } from '../support/started-program.js';

export interface TortureNode {
  readonly id: string;
  /** Its entry in the configuration. */
  readonly config: Record<string, unknown>;
  /** The process that can be stopped and killed. */
  readonly program: StartedProgram;
  readonly relay: CuttingRelay | null;
  /** What it has not flushed is gone when it is killed. */
  readonly volatile: boolean;
  /** Where the copy is, once there is one, or null where its file does not show all that the node holds. */
  copyFile(): string | null;
  kill(): Promise<void>;
  start(): Promise<void>;
  /** From now on requests fail with EIO now and then, until `heal`. False: this node cannot. */
  fail(): Promise<boolean>;
  /** From now on it moves so many bits per second, until `heal`. False: this node cannot. */
  crawl(bitsPerSecond: number): Promise<boolean>;
  heal(): Promise<void>;
}

const ZOMBIE = '1s';
const FAST = '0';

async function blankImage(path: string, sizeBytes: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
}

export async function failingNode(site: Site, id: string, sizeBytes: number): Promise<TortureNode> {
  const image = site.path(`${id}.img`);
  const [errors, rate] = [site.path(`${id}.errors`), site.path(`${id}.rate`)];
  await blankImage(image, sizeBytes);
  await writeFile(rate, FAST);
  const filters = ['--filter=error', '--filter=rate'];
  const knobs = ['error=EIO', 'error-rate=20%', `error-file=${errors}`, `rate-file=${rate}`];
  const node = await NbdkitNode.start(site, [...filters, 'file', image, ...knobs]);
  const relay = await CuttingRelay.start(site, node.port);
  return {
    id,
    config: { id, nbd: relay.uri, capacity: '1GiB', spares: [''], zombie: ZOMBIE },
    get program() {
      return node.program;
    },
    relay,
    volatile: false,
    copyFile: () => image,
    kill: () => node.kill(),
    start: () => node.start(),
    fail: async () => {
      await writeFile(errors, '');
      return true;
    },
    crawl: async (bitsPerSecond) => {
      await writeFile(rate, String(bitsPerSecond));
      return true;
    },
    heal: async () => {
      await rm(errors, { force: true });
      await writeFile(rate, FAST);
    },
  };
}

export async function volatileNode(site: Site, id: string, sizeBytes: number): Promise<TortureNode> {
  const image = site.path(`${id}.img`);
  await blankImage(image, sizeBytes);
  const node = await NbdkitNode.start(site, ['--filter=cache', 'file', image, 'cache=writeback']);
  const relay = await CuttingRelay.start(site, node.port);
  return {
    id,
    config: { id, nbd: relay.uri, capacity: '1GiB', spares: [''], zombie: ZOMBIE },
    get program() {
      return node.program;
    },
    relay,
    volatile: true,
    copyFile: () => null,
    kill: () => node.kill(),
    start: () => node.start(),
    fail: async () => false,
    crawl: async () => false,
    heal: async () => {},
  };
}

export async function agentNode(site: Site, id: string): Promise<TortureNode> {
  const agent = await NodeAgentProcess.start(site, id);
  return {
    id,
    config: { id, agent: agent.url },
    get program() {
      return agent.program;
    },
    relay: null,
    volatile: false,
    copyFile: () => {
      const image = readdirSync(agent.directory).find((name) => name.endsWith('.img'));
      return image === undefined ? null : `${agent.directory}/${image}`;
    },
    kill: () => agent.kill(),
    start: () => agent.start(),
    fail: async () => false,
    crawl: async () => false,
    heal: async () => {},
  };
}
