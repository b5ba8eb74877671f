// The configuration file's shape: every key, its default and its bounds, as zod schemas. What holds between keys
// (names used twice, references, ports) is in consistency.ts; the product's own form of it in config.ts.
import { z } from 'zod';
import { certificateNameProblem, networkProblem } from './access.js';
import { hostProblem, socketPathProblem } from './address.js';
import {
  bandwidth,
  checkedText,
  choice,
  decimal,
  duration,
  durationOrNever,
  flag,
  isName,
  list,
  name,
  nameRule,
  optionalSection,
  section,
  size,
  text,
  whole,
} from './fields.js';
import { shown } from './problem.js';

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;
const kib = 2 ** 10;
const mib = 2 ** 20;
const gib = 2 ** 30;
const tib = 2 ** 40;

const host = () => checkedText('must be a host name or IP address', hostProblem);
/** 0: the system chooses. */
const listenPort = () => whole(0, 65535);
const path = (what: string) =>
  checkedText(`must be ${what}`, (value) => (value === '' || value.includes('\0') ? `must be ${what}, is ${shown(value)}` : undefined));
/** NBD bounds every string at 4096 bytes; a name with a zero byte cannot be written on most command lines. */
const exportName = () =>
  checkedText('must be the name of an export ("" for the default one)', (value) => {
    if (Buffer.byteLength(value) > 4096) return 'is longer than the 4096 bytes NBD allows';
    return value.includes('\0') ? 'must not hold a zero byte' : undefined;
  });

const tlsFile = (what: string) => path(`the path of ${what}`).optional();

const serverTlsSchema = section({
  mode: choice(['off', 'optional', 'required']),
  certificate: tlsFile('a certificate (PEM)'),
  key: tlsFile("the certificate's key (PEM)"),
  clientAuthority: tlsFile("the certificate of the clients' authority (PEM)"),
  clientCertificates: choice(['none', 'optional', 'required']).optional(),
  psk: tlsFile('a PSK file (identity:key in each line)'),
  // Without quotes YAML makes a number of it.
  minimum: z.preprocess((value) => (typeof value === 'number' ? String(value) : value), choice(['1.2', '1.3'])).default('1.2'),
});

export const serverSchema = optionalSection({
  nbd: optionalSection({
    host: host().default('127.0.0.1'),
    port: listenPort().default(10809),
    unix: checkedText('must be the path of a socket', socketPathProblem).optional(),
    tls: serverTlsSchema.optional(),
    limits: optionalSection({
      connections: whole(1, 65_536).default(1024),
      perClient: whole(1, 65_536).default(256),
      handshake: duration(100, 10 * minute).prefault('10s'),
      inFlight: whole(1, 65_536).default(1024),
      memory: size(64 * mib, tib).prefault('256MiB'),
      stall: durationOrNever(second, day).prefault('2m'),
    }),
  }),
  api: optionalSection({
    host: host().default('127.0.0.1'),
    port: listenPort().default(8080),
  }),
  data: path('the path of a directory').default('./var/gateway'),
  log: optionalSection({
    level: choice(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
  }),
});

const healthSchema = section({
  type: choice(['smartctl_exporter', 'node_exporter']),
  url: text('must be the URL of its metrics'),
  every: duration(second, hour).prefault('15s'),
});

const clientTlsSchema = section({
  authority: tlsFile("the certificate of the node's authority (PEM)"),
  certificate: tlsFile('our certificate as a client (PEM)'),
  key: tlsFile("our certificate's key (PEM)"),
  serverName: host().optional(),
  psk: tlsFile('a PSK file (identity:key in each line)'),
  identity: text('must be an identity of the PSK file').optional(),
});

export const nodeSchema = section({
  id: name("the node's own name"),
  nbd: text('must be an NBD URI such as nbd://127.0.0.1:10911').optional(),
  agent: text('must be the URL of a storage-node agent such as http://127.0.0.1:8091').optional(),
  embedded: section({ dir: path('the path of a directory') }).optional(),
  tls: clientTlsSchema.optional(),
  zone: name('a zone').default('default'),
  site: name('a site').default('default'),
  capacity: size(mib, 8192 * tib - 1).optional(),
  spares: list(exportName()).optional(),
  health: list(healthSchema).default([]),
  connections: whole(1, 16).default(4),
  zombie: duration(0, hour).optional(),
});

const labelSchema = z.record(
  checkedText('must be a name', (value) => (isName(value) ? undefined : `a label's name must be ${nameRule}`)),
  checkedText('must be text', (value) => (value.length > 256 ? `is ${value.length} characters long: a label has at most 256` : undefined)),
  {
    error: (issue) =>
      issue.code === 'invalid_key' ? `a label's name must be ${nameRule}` : 'must be a map (name: value), such as { program: billing-db }',
  },
);

const accessSchema = section({
  certificate: checkedText("must be a name in the client's certificate", certificateNameProblem).optional(),
  psk: checkedText('must be the identity of a pre-shared key', (value) => (value === '' ? 'must not be empty' : undefined)).optional(),
  address: checkedText('must be an address or network such as 10.0.0.0/24', networkProblem).optional(),
  unix: z.literal(true, { error: 'must be true: it stands for the Unix socket' }).optional(),
  readOnly: flag().default(false),
});

/** Of a volume, in bytes. */
export const volumeSize = size(512, 1024 * tib);

export const volumeSchema = section({
  name: name("the volume's own name"),
  size: volumeSize,
  node: text('must be the id of a node'),
  export: exportName().default(''),
  policy: text('must be the name of a policy').default('default'),
  priority: whole(0, 1000).default(100),
  labels: labelSchema.default({}),
  readOnly: flag().default(false),
  access: list(accessSchema).optional(),
});

function thresholdError({ input }: { input?: unknown }): string {
  return `must be adaptive, or a probability above 0 and at most 1, is ${shown(input)}`;
}

const thresholdSchema = z
  .union([z.literal('adaptive'), z.number()], { error: thresholdError })
  .refine((value) => value === 'adaptive' || (value > 0 && value <= 1), {
    error: thresholdError,
  });

export const policySchema = optionalSection({
  mirror: optionalSection({
    standing: whole(0, 4).default(0),
    onPrediction: whole(0, 4).default(1),
    durability: choice(['async', 'journal', 'sync']).default('async'),
    queue: size(mib, 16 * gib).prefault('64MiB'),
    whenFull: choice(['slow', 'fall-back']).default('slow'),
  }),
  prediction: optionalSection({
    threshold: thresholdSchema.default('adaptive'),
    minimum: decimal(0, 1).default(0.5),
    horizon: duration(hour, 365 * day).prefault('30d'),
  }),
  flip: optionalSection({
    automatic: flag().default(true),
    deadline: duration(10, minute).optional(),
    deadlineMax: duration(10, minute).optional(),
    afterSynced: duration(0, 30 * day).prefault('0s'),
  }),
  rollback: optionalSection({
    observe: duration(0, 365 * day).prefault('24h'),
    onFalseAlarm: choice(['flip-back', 'stay']).default('flip-back'),
  }),
  scrub: optionalSection({
    afterMirror: flag().default(true),
    every: duration(0, 365 * day).prefault('7d'),
    bandwidth: bandwidth(64 * kib, tib).prefault('100MiB'),
  }),
  copy: optionalSection({
    bandwidth: bandwidth(64 * kib, tib).prefault('500MiB'),
    minimum: bandwidth(64 * kib, tib).optional(),
    hostLatencyGuard: decimal(1, 1000).default(2),
  }),
  reads: optionalSection({
    hedgeAfter: durationOrNever(1, minute).prefault('never'),
  }),
  failover: optionalSection({
    hangAfter: duration(100, 10 * minute).prefault('5s'),
    giveUpAfter: duration(100, 7 * day).prefault('5m'),
  }),
});

const fileSchema = z.strictObject({
  server: serverSchema,
  nodes: list(nodeSchema),
  volumes: list(volumeSchema),
  policies: z.record(z.string(), policySchema).default({}),
});

export const topLevelKeys = Object.keys(fileSchema.shape);

export type ServerInput = z.output<typeof serverSchema>;
export type ServerTlsInput = z.output<typeof serverTlsSchema>;
export type ClientTlsInput = z.output<typeof clientTlsSchema>;
export type NodeInput = z.output<typeof nodeSchema>;
export type VolumeInput = z.output<typeof volumeSchema>;
export type PolicyInput = z.output<typeof policySchema>;

/** The shape as a JSON Schema, for editors. Units, names and what holds between keys are checked by `loadConfig` alone. */
export function jsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(fileSchema, { io: 'input', unrepresentable: 'any' });
}
