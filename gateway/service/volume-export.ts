// Volumes as the NBD server offers them: one stable set of features for a volume's life, whatever stands behind it, so
// that a flip between unlike nodes is invisible to the host.
import type { Attachment, Export, ExportFeatures, ExportTable } from '../nbd/export.js';
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
const PREFERRED_BYTES = 4096;
const PAYLOAD_BYTES_MAX = 32 * 1024 * 1024;

export class VolumeExports implements ExportTable {
  readonly #volumes: ReadonlyMap<string, ServedVolume>;

  constructor(volumes: ReadonlyMap<string, ServedVolume>) {
    this.#volumes = volumes;
  }

  names(): string[] {
    return [...this.#volumes.keys()].sort();
  }

  find(name: string): Export | undefined {
    const served = this.#volumes.get(name);
    if (served === undefined || served.volume === null) return undefined;
    return {
      name,
      description: `Forestall volume ${name}`,
      sizeBytes: served.volume.sizeBytes,
      features: FEATURES,
      block: {
        minimum: served.volume.blockMinimum,
        preferred: Math.max(PREFERRED_BYTES, served.volume.blockMinimum),
        maximumPayload: PAYLOAD_BYTES_MAX,
      },
      device: served.volume,
      contexts: served.volume.contexts,
    };
  }

  async attach(name: string, session: { lane: number; client: string }): Promise<Attachment | undefined> {
    const served = this.#volumes.get(name);
    if (served === undefined) return undefined;
    const found = this.find(name);
    if (found === undefined) throw new Error(`volume ${name} cannot be served yet: ${served.problem ?? 'it is starting'}`);
    served.attached(session.lane, session.client);
    return { export: found, detach: () => served.detached(session.lane) };
  }
}
