// Volumes as the NBD server offers them: one stable set of features for a volume's life, whatever stands behind it, so
// that a flip between unlike nodes is invisible to the host. For a client that may not use a volume there is no such volume.
import type { Attachment, Client, Export, ExportFeatures, ExportTable } from '../nbd/export.js';
import { accessOf } from './access.js';
import type { ServedVolume } from './served-volume.js';

const FEATURES: ExportFeatures = {
  readOnly: false,
  flush: true,
  fua: true,
  trim: true,
  zeroes: true,
  fastZero: true,
  cache: true,
  // A flush on one connection covers the writes of all: they meet in the volume.
  multiConn: true,
  rotational: false,
};
const READ_ONLY_FEATURES: ExportFeatures = { ...FEATURES, readOnly: true };
const PREFERRED_BYTES = 4096;
const PAYLOAD_BYTES_MAX = 32 * 1024 * 1024;

export class VolumeExports implements ExportTable {
  readonly #volumes: ReadonlyMap<string, ServedVolume>;
  readonly #refused: (name: string, client: Client) => void;

  /** `refused` hears of each client that asks for a volume it may not use. */
  constructor(volumes: ReadonlyMap<string, ServedVolume>, refused: (name: string, client: Client) => void) {
    this.#volumes = volumes;
    this.#refused = refused;
  }

  names(client: Client): string[] {
    const names: string[] = [];
    for (const [name, { config }] of this.#volumes) if (accessOf(config, client) !== 'none') names.push(name);
    return names.sort();
  }

  find(name: string, client: Client): Export | undefined {
    const served = this.#allowed(name, client);
    return served === undefined ? undefined : this.#export(served, client);
  }

  async attach(name: string, session: { lane: number; client: string; who: Client }): Promise<Attachment | undefined> {
    const served = this.#allowed(name, session.who);
    if (served === undefined) return undefined;
    const found = this.#export(served, session.who);
    if (found === undefined) throw new Error(`volume ${name} cannot be served yet: ${served.problem ?? 'it is starting'}`);
    served.attached(session.lane, session.client);
    return { export: found, detach: () => served.detached(session.lane) };
  }

  /** May `client` go on with what it has attached? */
  mayStay(name: string, client: Client, readOnly: boolean): boolean {
    const served = this.#volumes.get(name);
    // A volume that is gone ends its sessions itself.
    if (served === undefined) return true;
    const access = accessOf(served.config, client);
    return access === 'read-write' || (access === 'read-only' && readOnly);
  }

  #allowed(name: string, client: Client): ServedVolume | undefined {
    const served = this.#volumes.get(name);
    if (served === undefined) return undefined;
    if (accessOf(served.config, client) !== 'none') return served;
    this.#refused(name, client);
    return undefined;
  }

  #export(served: ServedVolume, client: Client): Export | undefined {
    const { name, volume } = served;
    if (volume === null) return undefined;
    return {
      name,
      description: `Forestall volume ${name}`,
      sizeBytes: volume.sizeBytes,
      features: accessOf(served.config, client) === 'read-write' ? FEATURES : READ_ONLY_FEATURES,
      block: {
        minimum: volume.blockMinimum,
        preferred: Math.max(PREFERRED_BYTES, volume.blockMinimum),
        maximumPayload: PAYLOAD_BYTES_MAX,
      },
      device: volume,
      contexts: volume.contexts,
    };
  }
}
