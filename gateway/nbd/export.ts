// What an NBD server offers under a name, and the table it asks. The gateway's volumes and the agent's files
// implement these; the server and its sessions know nothing else of them.
import type { Device } from '../../replication/device.js';
import type { TlsPeer } from '../wire.js';
import type { KnownContext } from './meta-context.js';

export interface ExportFeatures {
  readOnly: boolean;
  flush: boolean;
  fua: boolean;
  trim: boolean;
  zeroes: boolean;
  fastZero: boolean;
  cache: boolean;
  multiConn: boolean;
  rotational: boolean;
}

export interface Export {
  readonly name: string;
  readonly description: string;
  /** Fixed for the life of a session that attached it. */
  readonly sizeBytes: number;
  readonly features: ExportFeatures;
  /** Powers of two; minimum 1 means any alignment. */
  readonly block: { minimum: number; preferred: number; maximumPayload: number };
  readonly device: Device;
  /** Beside base:allocation. */
  readonly contexts: readonly KnownContext[];
}

export interface Attachment {
  readonly export: Export;
  /**
   * The client's end of the wire is closed (its end of stream, or the wire's close): it sends nothing more, but requests
   * in flight may still take effect (rule 13). Called as soon as that is known, at most once, before `detach`.
   */
  ended?(): void;
  /** The session is over and every request of it is answered. */
  detach(): void;
}

/** Who asks. */
export interface Client {
  /** Its end of the wire: `127.0.0.1:43122`, `unix`. */
  peer: string;
  /** What it has proved to be; null: it speaks in plain. */
  tls: TlsPeer | null;
}

export interface ExportTable {
  /** Names this client may see, sorted. */
  names(client: Client): string[];
  /** INFO: looks without attaching. Undefined: no such export, or none for this client, which must not learn the difference. */
  find(name: string, client: Client): Export | undefined;
  /**
   * GO and EXPORT_NAME: resolves when the export can be used (an agent may have to wait for older requests to end).
   * `lane` is the session's number, `client` its peer's name, `who` who that is. Undefined: as with `find`.
   * Rejects with an Error whose message is the reason for the client when the export exists and cannot be used now.
   */
  attach(name: string, session: { lane: number; client: string; who: Client }): Promise<Attachment | undefined>;
}
