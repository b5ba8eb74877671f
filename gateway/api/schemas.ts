// The JSON of the API as schemas, for validating what comes in and describing what goes out (OpenAPI).
// Each view's schema is checked against its type in gateway/control.ts: a field that is added there is missing here
// until it is described.
import { z } from 'zod';
import { volumeSize } from '../../config/schema.js';
import {
  type FlipCertificate,
  type ForestallEvent,
  JOURNAL_STATES,
  type JournalView,
  MIRROR_STATES,
  type MirrorView,
  type NodeView,
  PROTECTION_STATES,
  type ScrubReport,
  type TargetRef,
  type Verdict,
  type VolumeView,
} from '../control.js';
import type { EventPage } from '../events/event-log.js';
import type { Readiness, ReloadReport, RollbackReport, SamplesReceipt } from './backend.js';
import type { ErrorBody } from './status.js';

/** The named schemas of the document, `#/components/schemas/<id>`. */
export const components = z.registry<{ id: string; examples?: unknown[] }>();

/** Names `schema` for the document; the type argument is what it must describe, no more and no less. */
function component<T>() {
  return <S extends z.ZodType<T>>(id: string, schema: z.output<S> extends T ? (T extends z.output<S> ? S : never) : never): S => {
    components.add(schema, { id });
    return schema;
  };
}

const bytes = z.number().nonnegative();
const time = z.string().describe('ISO 8601, UTC');

export const Target = component<TargetRef>()('Target', z.strictObject({ node: z.string(), export: z.string() }));

export const Mirror = component<MirrorView>()(
  'Mirror',
  z.strictObject({
    node: z.string(),
    export: z.string(),
    state: z.enum(MIRROR_STATES),
    reverse: z.boolean().describe('True for the old target that is kept in sync after a flip'),
    copiedBytes: bytes,
    dirtyBytes: bytes,
    lagBytes: bytes.describe('Acknowledged writes in the replication queue'),
    lagSeconds: z.number(),
    copyBytesPerSecond: z.number(),
    etaSeconds: z.number().nullable(),
    reason: z.string().nullable(),
  }),
);

export const Certificate = component<FlipCertificate>()(
  'FlipCertificate',
  z.strictObject({
    volume: z.string(),
    epoch: z.number(),
    from: Target,
    to: Target,
    kind: z.enum(['flip', 'failover', 'rollback']),
    at: time,
    pauseMs: z.number().describe('How long hosts were held'),
    held: z.number().describe('Requests held meanwhile'),
    drained: z.strictObject({ inFlight: z.number(), queueBytes: bytes }),
    dirtyRegions: z.number(),
    roots: z.strictObject({
      from: z.string().nullable(),
      to: z.string().nullable(),
      verifiedRegions: z.number(),
      unverifiedRegions: z.number(),
      oldestVerification: z.string().nullable(),
    }),
    cause: z.string(),
    verdict: z.string().nullable().describe('Id of the verdict that caused it'),
  }),
);

export const Scrub = component<ScrubReport>()(
  'ScrubReport',
  z.strictObject({
    volume: z.string(),
    startedAt: time,
    finishedAt: z.string().nullable(),
    state: z.enum(['running', 'done', 'stopped']),
    comparedBytes: bytes,
    totalBytes: bytes,
    mismatches: z.array(
      z.strictObject({ offset: bytes, lengthBytes: bytes, wrong: z.string(), repaired: z.boolean(), reason: z.string() }),
    ),
    bytesPerSecond: z.number(),
  }),
);

const Journal = component<JournalView>()(
  'Journal',
  z.strictObject({
    state: z.enum(JOURNAL_STATES),
    reason: z.string().nullable(),
    usedBytes: bytes.describe('What some mirror does not have on stable storage yet'),
    sizeBytes: bytes,
    covers: z.array(z.string()).describe('Nodes whose mirrors it can make complete'),
  }),
);

export const Volume = component<VolumeView>()(
  'Volume',
  z.strictObject({
    name: z.string(),
    size: bytes,
    epoch: z.number().describe('Grows by one with each flip'),
    state: z.enum(PROTECTION_STATES),
    service: z.enum(['served', 'waiting', 'blocked']),
    reason: z.string().nullable(),
    priority: z.number(),
    policy: z.string(),
    labels: z.record(z.string(), z.string()),
    active: Target,
    mirrors: z.array(Mirror),
    journal: Journal.nullable().describe('Null unless the policy wants one'),
    clients: z.array(z.string()).describe('Attached hosts'),
    lostBytes: bytes.describe('What no copy can give: hosts cannot read it before they write it, at the latest after the next flip'),
    scrub: Scrub.nullable(),
    lastFlip: Certificate.nullable(),
  }),
);

export const VolumeList = component<{ volumes: VolumeView[] }>()('VolumeList', z.strictObject({ volumes: z.array(Volume) }));

const byPolicy = {
  probability: z.number().nullable().describe('That the node fails within the horizon, 0 to 1; null: no signal'),
  threshold: z.number(),
  firing: z.boolean(),
  horizonSeconds: z.number(),
};

export const VerdictSchema = component<Verdict>()(
  'Verdict',
  z.strictObject({
    id: z.string(),
    node: z.string(),
    at: time,
    ...byPolicy,
    reasons: z.array(z.strictObject({ source: z.string(), contribution: z.number(), text: z.string() })),
    origin: z.enum(['model', 'outside']),
    predictedFailureAt: z.string().nullable(),
    policies: z.record(z.string(), z.strictObject(byPolicy)).describe('By each policy in use; a volume acts on its own'),
  }),
);

export const VerdictList = component<{ verdicts: Verdict[] }>()('VerdictList', z.strictObject({ verdicts: z.array(VerdictSchema) }));

export const Node = component<NodeView>()(
  'Node',
  z.strictObject({
    id: z.string(),
    kind: z.enum(['plain', 'agent']),
    zone: z.string(),
    site: z.string(),
    state: z.enum(['up', 'down', 'unknown']),
    reason: z.string().nullable(),
    capacityBytes: z.number().nullable(),
    freeBytes: z.number().nullable(),
    freeSpares: z.array(z.string()),
    volumes: z.array(z.strictObject({ name: z.string(), role: z.enum(['active', 'mirror']) })),
    verdict: VerdictSchema.nullable(),
    io: z.strictObject({
      reads: z.number(),
      writes: z.number(),
      errors: z.number(),
      p50Us: z.number().nullable(),
      p99Us: z.number().nullable(),
    }),
  }),
);

export const NodeList = component<{ nodes: NodeView[] }>()('NodeList', z.strictObject({ nodes: z.array(Node) }));

export const Event = component<ForestallEvent>()(
  'Event',
  z.strictObject({
    id: z.number().describe('Grows by one'),
    at: time,
    type: z.string().describe('Dotted: volume.flipped, node.verdict'),
    level: z.enum(['info', 'warning', 'alert']),
    message: z.string(),
    volume: z.string().nullable(),
    node: z.string().nullable(),
    labels: z.record(z.string(), z.string()),
    clients: z.array(z.string()),
    details: z.record(z.string(), z.unknown()),
  }),
);

export const EventList = component<EventPage>()(
  'EventList',
  z.strictObject({ events: z.array(Event), oldest: z.number().nullable(), latest: z.number().nullable() }),
);

export const Rollback = component<RollbackReport>()(
  'RollbackReport',
  z.strictObject({
    volume: z.string(),
    kind: z.enum(['mirrors-dropped', 'flipped-back']),
    dropped: z.array(Target),
    certificate: Certificate.nullable(),
  }),
);

export const Samples = component<SamplesReceipt>()(
  'SamplesReceipt',
  z.strictObject({ accepted: z.number(), ignored: z.array(z.string()) }),
);
export const Reload = component<ReloadReport>()('ReloadReport', z.strictObject({ changes: z.array(z.string()) }));
export const Ready = component<Readiness>()('Readiness', z.strictObject({ ready: z.boolean(), reasons: z.array(z.string()) }));
export const Health = component<{ status: 'ok' }>()('Health', z.strictObject({ status: z.literal('ok') }));

export const Document = component<Record<string, unknown>>()('Document', z.record(z.string(), z.unknown()));

export const Failure = component<ErrorBody>()(
  'Error',
  z.strictObject({
    code: z.string().describe('For programs; stable'),
    message: z.string().describe('For people: what is wrong and what would be right'),
    details: z.record(z.string(), z.unknown()),
  }),
);

// What comes in.

const name = z.string().min(1).max(200);

export const NodeChoice = z.strictObject({ node: name.nullish().describe('Left out: the gateway chooses') });
export const TakeoverChoice = z.strictObject({
  node: name.nullish().describe('Left out: the mirror that lacks the least'),
  acceptLoss: z.boolean().default(false).describe('What the mirror lacks may be older there than what hosts wrote: that is agreed to'),
});
export const NewSize = z.strictObject({ size: volumeSize.describe('"20GiB", or bytes; not smaller than it is') });
export const Nothing = z.strictObject({});
export const AnySamples = z
  .unknown()
  .describe('{samples: [{disk?, metric, value, at?, labels?}, ...]}; `at` is ISO 8601 or epoch milliseconds, now if it is left out');
export const GivenVerdict = z.strictObject({
  probability: z.number().min(0).max(1).describe('That the node fails within the horizon'),
  reason: z.string().min(1).max(1_000).describe('For people; it appears in events and certificates'),
});

components.add(NodeChoice, { id: 'NodeChoice' });
components.add(TakeoverChoice, { id: 'TakeoverChoice' });
components.add(NewSize, { id: 'NewSize', examples: [{ size: '20GiB' }, { size: 21474836480 }] });
components.add(Nothing, { id: 'Nothing' });
components.add(AnySamples, {
  id: 'AnySamples',
  examples: [{ samples: [{ disk: 'sda', metric: 'smart_5_raw', value: 12, at: '2026-01-02T03:04:05Z' }] }],
});
components.add(GivenVerdict, { id: 'GivenVerdict' });

export const VolumeParams = z.object({ name });
export const MirrorParams = z.object({ name, node: name });
export const NodeParams = z.object({ id: name });

/** Whole numbers as a query carries them. */
const count = (min: number, max: number) => z.coerce.number().int().min(min).max(max);
const flag = z.enum(['true', 'false']).transform((text) => text === 'true');

export const EventParams = z.strictObject({
  since: count(0, Number.MAX_SAFE_INTEGER).optional().describe('Only events with a greater id'),
  limit: count(1, 1_000).default(100),
  type: name.optional().describe('volume.flipped, or volume for all of its kind'),
  volume: name.optional(),
  node: name.optional(),
});
export const VerdictParams = z.strictObject({ node: name.optional(), firing: flag.optional(), limit: count(1, 1_000).default(100) });
export const ScrubParams = z.strictObject({ wait: flag.default(false).describe('Answer when the scrub has ended') });
