// What the agent's NBD server asks: which exports there are, and may this client use one now. Here is the agent's half of
// rule 13: a connection is admitted only once every request of connections that are already gone has ended, so that no
// older write can land after what the newcomer writes. Connections that live do not hold up others (multi-conn: they
// share one device, and a flush on one covers all).
import assert from 'node:assert/strict';
import type { Device } from '../../replication/device.js';
import type { Clock, Log } from '../../replication/world.js';
import type { Attachment, Export, ExportTable } from '../nbd/export.js';
import { peerKey } from './established-peers.js';
import type { ExportStore } from './export-store.js';
import type { Hold, StoredExport } from './stored-export.js';

const FENCE_MS = 30_000;
const MAXIMUM_PAYLOAD_BYTES = 32 * 1024 * 1024;

export interface AgentExportTableOptions {
  store: ExportStore;
  clock: Clock;
  log: Log;
  /** How long a new connection waits for the requests of gone ones before it is refused. Default 30,000. */
  fenceMs?: number;
  /** Keys of the peers whose connection stands (established-peers.ts); null: the system does not say. */
  established: () => Promise<Set<string> | null>;
}

/** One connection that uses an export. */
interface User {
  client: string;
  /** Its key if the kernel's table had it when it came: only then does its absence mean that it has gone. */
  key: string | null;
  ended: boolean;
}

export class AgentExportTable implements ExportTable {
  #users = new Map<StoredExport, Set<User>>();
  /** Woken when a connection has detached. */
  #waiting = new Set<() => void>();

  constructor(private readonly options: AgentExportTableOptions) {}

  names(): string[] {
    const { store } = this.options;
    return store.names().filter((name) => store.get(name)?.problem === null);
  }

  find(name: string): Export | undefined {
    const stored = this.options.store.get(name);
    return stored && stored.problem === null && !stored.retired
      ? this.#export(stored, new UnopenedDevice(stored.record.sizeBytes))
      : undefined;
  }

  async attach(name: string, session: { lane: number; client: string }): Promise<Attachment | undefined> {
    const stored = this.options.store.get(name);
    if (!stored) return undefined;
    const hold = stored.hold(session.client);
    if (!hold.ok) throw new Error(hold.message);
    try {
      const device = await this.options.store.device(stored);
      if (!device.ok) throw new Error(device.message);
      const key = await this.#fence(stored, session.client);
      return this.#admit(stored, { client: session.client, key, ended: false }, this.#export(stored, device.value), hold.value);
    } catch (error) {
      hold.value.release();
      throw error;
    }
  }

  #admit(stored: StoredExport, user: User, offered: Export, hold: Hold): Attachment {
    const users = this.#users.get(stored) ?? new Set();
    this.#users.set(stored, users.add(user));
    return {
      export: offered,
      ended: () => {
        user.ended = true;
      },
      detach: () => {
        users.delete(user);
        if (users.size === 0) this.#users.delete(stored);
        hold.release();
        for (const wake of this.#waiting) wake();
      },
    };
  }

  /** Resolves when nothing of a gone connection is left; gives the newcomer's key. Rejects with the reason at the deadline. */
  async #fence(stored: StoredExport, client: string): Promise<string | null> {
    const { clock, log, fenceMs = FENCE_MS, established } = this.options;
    const deadlineMs = clock.nowMs() + fenceMs;
    for (let round = 0; ; round += 1) {
      const standing = await established();
      const gone = [...(this.#users.get(stored) ?? [])].filter((user) => isGone(user, standing));
      if (gone.length === 0) {
        const key = peerKey(client);
        return key !== null && standing?.has(key) ? key : null;
      }
      const clients = gone.map((user) => user.client);
      if (round === 0)
        log.warn({ export: stored.record.name, client, gone: clients }, 'waiting for the requests of connections that are gone');
      const leftMs = deadlineMs - clock.nowMs();
      if (leftMs <= 0) throw new Error(`requests of earlier connections (${clients.join(', ')}) have not ended within ${fenceMs} ms`);
      await this.#nextDetach(leftMs);
    }
  }

  #nextDetach(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = this.options.clock.after(timeoutMs, wake);
      this.#waiting.add(wake);
    });
  }

  #export({ record, place }: StoredExport, device: Device): Export {
    const { punch, zeroRange } = this.options.store.features;
    const file = place?.kind === 'file';
    return {
      name: record.name,
      description: record.volume === '' ? 'unclaimed' : `volume ${record.volume} at epoch ${record.epoch}`,
      sizeBytes: record.sizeBytes,
      features: {
        readOnly: false,
        flush: true,
        fua: true,
        trim: punch,
        zeroes: true,
        fastZero: file && zeroRange,
        cache: true,
        multiConn: true,
        rotational: false,
      },
      block: { minimum: 1, preferred: 4096, maximumPayload: MAXIMUM_PAYLOAD_BYTES },
      device,
      contexts: [],
    };
  }
}

function isGone(user: User, standing: Set<string> | null): boolean {
  return user.ended || (user.key !== null && standing !== null && !standing.has(user.key));
}

/** The device of an export that is only looked at. */
class UnopenedDevice implements Device {
  constructor(readonly sizeBytes: number) {}

  submit(): void {
    assert.fail('an export that is not attached takes no requests');
  }
}
