// The storage nodes that are tortured: an nbdkit whose requests can be made to fail, to crawl and to pause, or one whose requests
// outlive their connection, each behind a relay that can be cut; one with a volatile cache; and agents. Each keeps its one copy in a file that can be compared and damaged.
import { readdirSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { CuttingRelay } from '../support/cutting-relay.js';
import { blankImage } from '../support/blank-image.js';
import { NbdkitNode, VOLATILE_CACHE } from '../support/nbdkit-node.js';
import { pause, resume } from '../support/pause-control.js';
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
  /** It starts programs for each request: hosts that write as fast as they can leave it behind for good once it is not the active one any more. */
  readonly slow: boolean;
  /** Where the copy is, once there is one, or null where its file does not show all that the node holds. */
  copyFile(): string | null;
  kill(): Promise<void>;
  start(): Promise<void>;
  /** From now on requests fail with EIO now and then, until `heal`. False: this node cannot. */
  fail(): Promise<boolean>;
  /** From now on it begins no request, until `heal`. False: this node cannot. */
  pause(): Promise<boolean>;
  /** From now on its writes take longer than their connection may last, until `heal`. False: this node cannot. */
  linger(): Promise<boolean>;
  /** From now on it moves so many bits per second, until `heal`. False: this node cannot. */
  crawl(bitsPerSecond: number): Promise<boolean>;
  heal(): Promise<void>;
}

const ZOMBIE = '1s';
/** So long a write of a node that lingers takes, and may land after its connection is gone. */
const LINGER_S = 2;
const FAST = '0';

/** What nothing can be done to. */
const STEADY: Pick<TortureNode, 'slow' | 'fail' | 'pause' | 'linger' | 'crawl' | 'heal'> = {
  slow: false,
  fail: async () => false,
  pause: async () => false,
  linger: async () => false,
  crawl: async () => false,
  heal: async () => {},
};

export async function failingNode(site: Site, id: string, sizeBytes: number): Promise<TortureNode> {
  const image = site.path(`${id}.img`);
  const [errors, rate] = [site.path(`${id}.errors`), site.path(`${id}.rate`)];
  await blankImage(image, sizeBytes);
  await writeFile(rate, FAST);
  const socket = site.path(`${id}.pause`);
  const filters = ['--filter=pause', '--filter=error', '--filter=rate', '--filter=delay'];
  const knobs = [
    `pause-control=${socket}`,
    'rdelay=1ms',
    'wdelay=1ms',
    'error=EIO',
    'error-rate=20%',
    `error-file=${errors}`,
    `rate-file=${rate}`,
  ];
  const node = await NbdkitNode.start(site, [...filters, 'file', image, ...knobs]);
  const relay = await CuttingRelay.start(site, node.port);
  return {
    ...STEADY,
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
    pause: async () => {
      await pause(socket);
      return true;
    },
    crawl: async (bitsPerSecond) => {
      await writeFile(rate, String(bitsPerSecond));
      return true;
    },
    heal: async () => {
      await rm(errors, { force: true });
      await writeFile(rate, FAST);
      await resume(socket);
    },
  };
}

/** A shell script: slow, but what it was asked it does, whether anybody waits for it any more or not. */
export async function lateNode(site: Site, id: string, sizeBytes: number): Promise<TortureNode> {
  const image = site.path(`${id}.img`);
  const late = site.path(`${id}.late`);
  await blankImage(image, sizeBytes);
  const write = `dd of="${image}" seek=$4 oflag=seek_bytes conv=notrunc bs=1M status=none`;
  const node = await NbdkitNode.start(site, [
    '--threads=16',
    'eval',
    'thread_model=echo parallel',
    `get_size=echo ${sizeBytes}`,
    'can_write=exit 0',
    'can_flush=exit 0',
    'can_multi_conn=exit 0',
    'flush=exit 0',
    `pread=dd if="${image}" skip=$4 count=$3 iflag=skip_bytes,count_bytes,fullblock bs=1M status=none`,
    `pwrite=if [ -e "${late}" ]; then held=$(mktemp "${image}.XXXXXX"); cat >$held; sleep ${LINGER_S}; ${write} <$held; rm $held; else ${write}; fi`,
  ]);
  const relay = await CuttingRelay.start(site, node.port);
  return {
    ...STEADY,
    slow: true,
    id,
    config: { id, nbd: relay.uri, capacity: '1GiB', spares: [''], zombie: `${LINGER_S + 2}s` },
    get program() {
      return node.program;
    },
    relay,
    volatile: false,
    copyFile: () => image,
    kill: () => node.kill(),
    start: () => node.start(),
    linger: async () => {
      await writeFile(late, '');
      return true;
    },
    heal: () => rm(late, { force: true }),
  };
}

export async function volatileNode(site: Site, id: string, sizeBytes: number): Promise<TortureNode> {
  const node = await NbdkitNode.onFile(site, id, sizeBytes, VOLATILE_CACHE);
  const relay = await CuttingRelay.start(site, node.port);
  return {
    ...STEADY,
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
  };
}

export async function agentNode(site: Site, id: string): Promise<TortureNode> {
  const agent = await NodeAgentProcess.start(site, id);
  return {
    ...STEADY,
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
  };
}
