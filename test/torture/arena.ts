// Where the torture takes place: three storage nodes, a gateway and hosts that write without a pause. It knows what a fault
// needs to strike at the right moment, and when all is well again.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '../../gateway/control.js';
import { Random } from '../sim/random.js';
import { FioJob, type FioResult } from '../support/fio-job.js';
import { GatewayProcess } from '../support/gateway-process.js';
import { ModelWriter } from '../support/model-writer.js';
import { havePeer } from '../support/peers.js';
import type { Site } from '../support/site.js';
import { SmallDisk } from '../support/small-disk.js';
import { agentNode, failingNode, lateNode, type TortureNode, volatileNode } from './torture-node.js';

export const VOLUME = 'vol0';
const MIB = 1024 * 1024;
const SIZE = 24 * MIB;
/** The end of the volume is fio's. */
const FIO_SIZE = 4 * MIB;
/** So that it writes for about as long as a fault takes, and then reads. */
const FIO_LOAD = ['--bs=4k', '--rate_iops=,700'];
/** Hosts beside a node that is slow. */
const SLOW_FIO_LOAD = ['--bs=32k', '--rate_iops=,60'];
const SLOW_PAUSE_MS = 100;
const DURABILITIES = ['async', 'journal', 'sync'] as const;
/** A request that is older hangs. */
const HANG_AFTER_MS = 1000;
const SETTLE_MS = 120_000;
/** Room for a journal, and another that is made in its place. */
const DISK_SIZE = '320m';
/** How often the node that fails and crawls is one whose requests outlive their connection instead. */
const LATE_NODE = 0.3;
const POLL_MS = 10;

export class Arena {
  readonly site: Site;
  readonly random: Random;
  readonly gateway: GatewayProcess;
  readonly writer: ModelWriter;
  readonly durability: string;
  /** Where the gateway keeps its data; null: its disk cannot be filled. */
  readonly disk: SmallDisk | null;
  readonly #nodes: TortureNode[];

  private constructor(
    site: Site,
    random: Random,
    nodes: TortureNode[],
    gateway: GatewayProcess,
    durability: string,
    disk: SmallDisk | null,
  ) {
    this.site = site;
    this.random = random;
    this.gateway = gateway;
    this.durability = durability;
    this.disk = disk;
    this.#nodes = nodes;
    this.writer = new ModelWriter({
      uri: gateway.uri(VOLUME),
      offset: 0,
      length: SIZE - FIO_SIZE,
      random: random.fork('writer'),
      connections: 2,
      depth: 8,
      reconnects: true,
      pauseMs: this.#slow ? SLOW_PAUSE_MS : 0,
    });
    site.onClose(() => this.writer.abandon());
  }

  static async open(site: Site, seed: number): Promise<Arena> {
    const random = new Random(seed, 'torture');
    // A stream of its own: all else is the same whichever it is.
    const first = new Random(seed, 'first node').chance(LATE_NODE) ? lateNode : failingNode;
    const disk = SmallDisk.mount(site, site.path('gateway'), DISK_SIZE);
    const nodes = [await first(site, 'a', SIZE), await agentNode(site, 'b'), await volatileNode(site, 'c', SIZE)];
    const durability = random.pick(DURABILITIES);
    const gateway = await GatewayProcess.start(site, {
      nodes: nodes.map(({ config }, index) => ({ ...config, zone: `rack-${index + 1}` })),
      volumes: [{ name: VOLUME, size: `${SIZE / MIB}MiB`, node: 'a', export: '' }],
      policies: {
        default: {
          mirror: { standing: 1, durability, queue: '4MiB' },
          flip: { automatic: false },
          scrub: { afterMirror: false },
          copy: { bandwidth: '100MiB', hostLatencyGuard: 100 },
          failover: { hangAfter: `${HANG_AFTER_MS}ms` },
        },
      },
    });
    const arena = new Arena(site, random, nodes, gateway, durability, disk);
    await arena.writer.fill();
    arena.writer.start();
    return arena;
  }

  volume(): Promise<VolumeView> {
    return this.gateway.volume(VOLUME);
  }

  node(id: string): TortureNode {
    const node = this.#nodes.find((one) => one.id === id);
    assert(node !== undefined, `no node ${id}`);
    return node;
  }

  get #slow(): boolean {
    return this.#nodes.some(({ slow }) => slow);
  }

  /** The node that hosts' requests go to. */
  async active(): Promise<TortureNode> {
    return this.node((await this.volume()).active.node);
  }

  /** A node that holds a complete mirror. */
  async mirror(): Promise<TortureNode> {
    const { mirrors } = await this.volume();
    const synced = mirrors.find(({ state }) => state === 'synced');
    assert(synced !== undefined, 'a mirror is complete');
    return this.node(synced.node);
  }

  /** Resolves when the volume is served, has a complete mirror, and no mirror is on its way to anything else. One that is latched is dropped. */
  async settled(): Promise<void> {
    const { mirrors } = await this.gateway.untilVolume(
      VOLUME,
      'a mirror is complete',
      ({ mirrors }) => mirrors.some(({ state }) => state === 'synced'),
      SETTLE_MS,
    );
    for (const { node, state } of mirrors) {
      if (state === 'failed') await this.gateway.ask('DELETE', `/v1/volumes/${VOLUME}/mirrors/${node}`);
    }
    await this.gateway.untilVolume(
      VOLUME,
      'is mirrored again',
      ({ service, mirrors }) => service === 'served' && mirrors.length > 0 && mirrors.every(({ state }) => state === 'synced'),
      SETTLE_MS,
    );
  }

  /**
   * fio writes every block of its part of the volume while `work` goes on, and reads all of it back; rejects when it saw an error or a
   * wrong block. Null: it is not installed.
   */
  async fioDuring(work: () => Promise<void>): Promise<FioResult | null> {
    if (!havePeer('fio')) {
      await work();
      return null;
    }
    const place = [`--offset=${SIZE - FIO_SIZE}`, `--size=${FIO_SIZE}`, '--rw=randwrite', '--iodepth=8'];
    const checks = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1'];
    const load = this.#slow ? SLOW_FIO_LOAD : FIO_LOAD;
    const job = FioJob.start(this.site, this.gateway.uri(VOLUME), [...place, ...checks, ...load]);
    await work();
    const result = await job.result(SETTLE_MS);
    assert.equal(result.errors, 0, 'fio saw an error or a wrong block');
    return result;
  }

  /** Longer than a node may hang. */
  async hangTime(): Promise<void> {
    await delay(HANG_AFTER_MS * 2 + this.random.range(0, 1000));
  }

  async moment(msMax: number): Promise<void> {
    await delay(this.random.range(0, msMax));
  }

  /** Runs `work` while the hosts write on; gives the longest time in ms in which none of their writes was answered. */
  async stallDuring(work: () => Promise<void>): Promise<number> {
    let ended = false;
    let longestMs = 0;
    const watch = async (): Promise<void> => {
      let { writes } = this.writer;
      let sinceMs = performance.now();
      while (!ended) {
        await delay(POLL_MS);
        const nowMs = performance.now();
        if (this.writer.writes > writes) {
          writes = this.writer.writes;
          sinceMs = nowMs;
        } else longestMs = Math.max(longestMs, nowMs - sinceMs);
      }
    };
    const watching = watch();
    try {
      await work();
      await this.writer.progress(50, SETTLE_MS);
    } finally {
      ended = true;
      await watching;
    }
    return longestMs;
  }

  /** Everything that was acknowledged is there, and what the copies show in their files is the same. Hosts write on afterwards. */
  async verify(): Promise<void> {
    await this.writer.stop();
    assert.deepEqual(this.writer.errors, [], 'hosts see no errors');
    assert.deepEqual(await this.writer.check(), [], 'all that was acknowledged is there');
    await this.settled();
    const { active, mirrors } = await this.gateway.untilVolume(
      VOLUME,
      'mirrors lack nothing',
      (volume) => volume.mirrors.every(({ lagBytes, dirtyBytes }) => lagBytes + dirtyBytes === 0),
      SETTLE_MS,
    );
    const files = [active, ...mirrors].map(({ node }) => this.node(node).copyFile()).filter((file) => file !== null);
    const [first, ...others] = await Promise.all(files.map((file) => readFile(file)));
    for (const [index, other] of others.entries()) assert(first.equals(other), `${files[index + 1]} differs from ${files[0]}`);
    this.writer.start();
  }

  async close(): Promise<void> {
    await this.writer.stop();
    await this.gateway.stop();
  }
}
