// The configuration as the product uses it: checked, complete, in bytes and milliseconds. Values only; made by load.ts.
import type { NbdAddress } from './address.js';
import type { ClientTls, ServerTls } from './tls.js';

export interface ServerConfig {
  /** `port` 0: the system chooses. `unix`: a socket to serve on besides TCP, or null. */
  nbd: {
    host: string;
    port: number;
    unix: string | null;
    tls: ServerTls;
    connectionsMax: number;
    connectionsPerClientMax: number;
    handshakeMs: number;
  };
  api: { host: string; port: number };
  /** Relative paths are relative to the working directory. */
  dataDirectory: string;
  logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

export interface HealthSource {
  type: 'smartctl_exporter' | 'node_exporter';
  url: string;
  everyMs: number;
}

interface AnyNode {
  id: string;
  zone: string;
  site: string;
  /** Null: not given. */
  capacityBytes: number | null;
  /** Without any, an agent is asked for its own metrics. */
  health: HealthSource[];
  /** NBD connections where the node allows several. */
  connectionsMax: number;
  /** How long a request of a lost connection may still land in the node; 0 where the node fences. */
  zombieMs: number;
  /** How NBD is spoken with it; null: in plain. */
  tls: ClientTls | null;
}

/** plain: any NBD server, with the exports that may take a mirror. agent: a storage-node agent. embedded: an agent within the gateway. */
export type NodeConfig =
  | (AnyNode & { kind: 'plain'; address: NbdAddress; spares: string[] })
  | (AnyNode & { kind: 'agent'; url: string })
  | (AnyNode & { kind: 'embedded'; directory: string });

export interface PolicyConfig {
  name: string;
  mirror: {
    standing: number;
    onPrediction: number;
    durability: 'async' | 'journal' | 'sync';
    queueBytes: number;
    whenFull: 'slow' | 'fall-back';
  };
  /** `minimum` bounds the adaptive threshold from below. */
  prediction: { threshold: 'adaptive' | number; minimum: number; horizonMs: number };
  flip: { automatic: boolean; deadlineMs: number; deadlineMaxMs: number; afterSyncedMs: number };
  rollback: { observeMs: number; onFalseAlarm: 'flip-back' | 'stay' };
  /** `everyMs` 0: only when asked. */
  scrub: { afterMirror: boolean; everyMs: number; bytesPerSecond: number };
  copy: { bytesPerSecond: number; minimumBytesPerSecond: number; hostLatencyGuard: number };
  /** A read that the active target has not answered for so long is asked of a mirror, too; null: never. */
  reads: { hedgeAfterMs: number | null };
  /** A request older than `hangAfterMs` hangs. Without a complete mirror hosts wait `giveUpAfterMs` before they get an error. */
  failover: { hangAfterMs: number; giveUpAfterMs: number };
}

/** Somebody who may attach a volume; all that is given must hold. */
export interface AccessRule {
  /** A name in the client's verified certificate. */
  certificate: string | null;
  /** The identity of its pre-shared key. */
  psk: string | null;
  /** The address or network it comes from. */
  address: string | null;
  /** True: it comes over the Unix socket. */
  unix: boolean;
  readOnly: boolean;
}

export interface VolumeConfig {
  name: string;
  sizeBytes: number;
  /** Node and export are the first placement only; afterwards the store knows where the volume is. */
  node: string;
  export: string;
  policy: PolicyConfig;
  priority: number;
  labels: Record<string, string>;
  /** True: nobody may write. */
  readOnly: boolean;
  /** Null: everyone who can connect may attach. */
  access: AccessRule[] | null;
}

export interface Config {
  server: ServerConfig;
  nodes: NodeConfig[];
  volumes: VolumeConfig[];
  /** `default` is always there. */
  policies: PolicyConfig[];
}
