// Exports for tests: an export over any device with every feature unless a test says otherwise, and a table of them that
// remembers who attached and detached.
import type { Device } from '../../replication/device.js';
import type { KnownContext } from '../../gateway/nbd/meta-context.js';
import type { Attachment, Export, ExportFeatures, ExportTable } from '../../gateway/nbd/export.js';

export const ALL_FEATURES: ExportFeatures = {
  readOnly: false,
  flush: true,
  fua: true,
  trim: true,
  zeroes: true,
  fastZero: true,
  cache: true,
  multiConn: true,
  rotational: false,
};

export interface ExportWish {
  features?: Partial<ExportFeatures>;
  block?: Partial<Export['block']>;
  description?: string;
  sizeBytes?: number;
  contexts?: KnownContext[];
}

export function memoryExport(name: string, device: Device, wish: ExportWish = {}): Export {
  return {
    name,
    description: wish.description ?? '',
    sizeBytes: wish.sizeBytes ?? device.sizeBytes,
    features: { ...ALL_FEATURES, ...wish.features },
    block: { minimum: 1, preferred: 4096, maximumPayload: 32 * 1024 * 1024, ...wish.block },
    device,
    contexts: wish.contexts ?? [],
  };
}

export class MemoryExports implements ExportTable {
  /** `attach vol0 1`, `ended vol0 1`, `detach vol0 1`, in order; the number is the lane. */
  readonly log: string[] = [];
  /** Awaited by `attach` before it answers; a rejection is a refusal. */
  gate: Promise<void> = Promise.resolve();
  #exports = new Map<string, Export>();

  constructor(...exports: Export[]) {
    for (const one of exports) this.#exports.set(one.name, one);
  }

  names(): string[] {
    return [...this.#exports.keys()].sort();
  }

  find(name: string): Export | undefined {
    return this.#exports.get(name);
  }

  async attach(name: string, session: { lane: number; client: string }): Promise<Attachment | undefined> {
    await this.gate;
    const found = this.#exports.get(name);
    if (found === undefined) return undefined;
    this.log.push(`attach ${name} ${session.lane}`);
    return {
      export: found,
      ended: () => this.log.push(`ended ${name} ${session.lane}`),
      detach: () => this.log.push(`detach ${name} ${session.lane}`),
    };
  }
}
