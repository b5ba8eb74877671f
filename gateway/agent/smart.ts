// The health of a node's disks, for its /metrics: from smartctl where it is installed, or from the file `smart.json` in the
// agent's directory, which stands for all disks while it exists (tests and the demo let its counters climb).
// Asks no disk more often than every minute, wakes none that sleeps, and never makes a scrape wait for a slow one.
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Log } from '../../replication/world.js';
import { parseSimulated } from './simulated-disks.js';
import type { SmartDisk } from './smart-disk.js';
import { parseScan, parseSmartctl } from './smartctl-output.js';

export const SIMULATED_NAME = 'smart.json';
const SIMULATED_BYTES_MAX = 1024 * 1024;
const REFRESH_MS = 60_000;
const SMARTCTL_MS = 20_000;
const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;
const DISKS_MAX = 256;
/** A first scrape waits this long for smartctl; later ones get what is known. */
const SCRAPE_MS = 5_000;
/** Bit 1 of the exit status: the disk could not be opened, or it sleeps and was left alone. */
const EXIT_NOT_OPENED = 0b10;

export interface SmartOptions {
  dir: string;
  log: Log;
  clock: Clock;
  /** Default `smartctl`, found on the PATH and in the system's directories. */
  smartctl?: string;
}

export class Smart {
  #disks = new Map<string, SmartDisk>();
  #refresh: Promise<void> | null = null;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #missing = false;
  #stop = new AbortController();
  #simulated: { version: string; disks: SmartDisk[] } | null = null;

  constructor(private readonly options: SmartOptions) {}

  /** What is known of each disk now, by device. */
  async disks(): Promise<SmartDisk[]> {
    const simulated = await this.#readSimulated();
    if (simulated !== null) return simulated;
    const { clock } = this.options;
    if (!this.#missing && this.#refresh === null && clock.nowMs() - this.#refreshedMs >= REFRESH_MS) {
      this.#refresh = this.#askDisks().finally(() => {
        this.#refreshedMs = clock.nowMs();
        this.#refresh = null;
      });
    }
    if (this.#refresh !== null) await atMost(clock, SCRAPE_MS, this.#refresh);
    return [...this.#disks.values()];
  }

  /** Ends a smartctl that is running. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#refresh;
  }

  async #askDisks(): Promise<void> {
    const scanned = parseScan((await this.#smartctl(['--json', '--scan'])) ?? '{}');
    const devices = scanned.ok ? scanned.value.slice(0, DISKS_MAX) : [];
    const disks = new Map<string, SmartDisk>();
    for (const { name, type } of devices) {
      if (this.#stop.signal.aborted) return;
      const output = await this.#smartctl(['--json', '-a', '-n', 'standby', '-d', type, name]);
      const disk = output === null ? null : parseSmartctl(output);
      if (disk?.ok) disks.set(disk.value.device, this.#newest(disk.value));
      else if (disk) this.options.log.warn({ device: name, reason: disk.message }, 'the health of a disk cannot be read');
    }
    this.#disks = disks;
  }

  /** A disk that was left asleep keeps its last reading. */
  #newest(disk: SmartDisk): SmartDisk {
    const asleep = (disk.exitStatus & EXIT_NOT_OPENED) !== 0 && disk.attributes.length === 0;
    return asleep ? (this.#disks.get(disk.device) ?? disk) : disk;
  }

  /** Its output, whatever it found: a status other than 0 is a finding more often than a failure. Null: it did not run to its end. */
  #smartctl(args: string[]): Promise<string | null> {
    const { smartctl = 'smartctl', log } = this.options;
    const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
    const limits = { timeout: SMARTCTL_MS, maxBuffer: OUTPUT_BYTES_MAX, signal: this.#stop.signal, killSignal: 'SIGKILL' as const };
    return new Promise((resolve) => {
      execFile(smartctl, args, { ...limits, env }, (error, stdout) => {
        if (error?.code === 'ENOENT') {
          this.#missing = true;
          log.info({ program: smartctl }, "smartctl is not installed: the health of this node's disks is not known");
        } else if (error && typeof error.code !== 'number') {
          log.warn({ program: smartctl, args, error: error.message }, 'smartctl did not answer');
        }
        resolve(error && typeof error.code !== 'number' ? null : stdout);
      });
    });
  }

  /** Null: there is no such file. One that is not valid gives no disks: no signal, rather than an old one. */
  async #readSimulated(): Promise<SmartDisk[] | null> {
    const path = join(this.options.dir, SIMULATED_NAME);
    const stats = await stat(path, { bigint: true }).catch(() => null);
    if (stats === null) {
      this.#simulated = null;
      return null;
    }
    const version = `${stats.ino} ${stats.size} ${stats.mtimeNs}`;
    if (this.#simulated?.version === version) return this.#simulated.disks;
    const file = stats.size > SIMULATED_BYTES_MAX ? '' : await readFile(path, 'utf8').catch(() => '');
    const parsed = parseSimulated(file);
    if (!parsed.ok) this.options.log.warn({ path, reason: parsed.message }, 'the file of simulated disks is not valid: no disks');
    this.#simulated = { version, disks: parsed.ok ? parsed.value : [] };
    return this.#simulated.disks;
  }
}

function atMost(clock: Clock, delayMs: number, work: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.after(delayMs, resolve);
    work.finally(() => {
      timer.cancel();
      resolve();
    });
  });
}
