// The durable list of targets whose space is to be given back: `free/<node>/<export>`. A target stands here from before
// it is made until a volume's record names it, and again from before it is dropped until its space is free, so that no
// crash in between leaves an export that nobody knows.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Log, Records } from '../../replication/world.js';
import type { TargetRef } from '../control.js';

const PREFIX = 'free/';
/** Longer names of exports (NBD allows 4096 bytes) are told apart by their hash; the record holds the name. */
const NAME_BYTES_MAX = 200;

const schema = z.object({
  version: z.literal(1),
  node: z.string(),
  export: z.string(),
  volume: z.string(),
  epoch: z.number().int().nonnegative(),
  at: z.string(),
});

/** `volume` owned the target, at `epoch` when it was written down. */
export type Condemned = z.infer<typeof schema>;

export function condemnedKey({ node, export: name }: TargetRef): string {
  const short = Buffer.byteLength(name) <= NAME_BYTES_MAX;
  return `${PREFIX}${node}/${short ? name : `sha256:${createHash('sha256').update(name).digest('hex')}`}`;
}

/** Every target of the list. What cannot be read is left alone and logged: deleting on a guess would be worse. */
export function readCondemned(records: Records, log: Log): Condemned[] {
  const found: Condemned[] = [];
  for (const [key, value] of records.list(PREFIX)) {
    const parsed = schema.safeParse(value);
    if (parsed.success) found.push(parsed.data);
    else log.error({ key, reason: parsed.error.issues[0]?.message }, 'a target to be freed cannot be read and is left alone');
  }
  return found;
}
