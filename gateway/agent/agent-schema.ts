// The JSON of an agent's API, as the agent gives it and as the gateway checks it. Fields may be added in later versions:
// a reader ignores those it does not know.
import { z } from 'zod';

export const exportView = z.object({
  name: z.string(),
  sizeBytes: z.int().min(0),
  kind: z.enum(['file', 'block']),
  /** found: the data was there before the agent, which never removes it. */
  origin: z.enum(['created', 'found']),
  /** The owner; "" while nobody claimed it. */
  volume: z.string(),
  /** The newest epoch an owner announced. */
  epoch: z.int().min(0),
  role: z.enum(['active', 'mirror']).nullable(),
  createdAt: z.string(),
  allocatedBytes: z.number().min(0),
  /** Nothing is allocated: every byte reads as zero. */
  blank: z.boolean(),
  /** Peers that are connected, or wait to be. */
  clients: z.array(z.string()),
  /** Why it cannot be used, or null. */
  problem: z.string().nullable(),
});
export type ExportView = z.infer<typeof exportView>;

export const exportList = z.object({ exports: z.array(exportView) });

export const agentInfo = z.object({
  /** Random, new with each start of the agent: rule 8's and 13's incarnation of every export it serves. */
  incarnation: z.string().min(1),
  version: z.string(),
  /** Of the file system below the agent's directory. */
  capacityBytes: z.number().min(0),
  freeBytes: z.number().min(0),
  exports: z.int().min(0),
  /** Where the exports are served; the host may be a wildcard (0.0.0.0, ::). */
  nbd: z.object({ host: z.string(), port: z.int().min(1).max(65535) }),
});
export type AgentInfo = z.infer<typeof agentInfo>;

export const deletion = z.object({ name: z.string(), removed: z.boolean() });
export type Deletion = z.infer<typeof deletion>;

export const agentError = z.object({ code: z.string(), message: z.string(), details: z.record(z.string(), z.unknown()).nullish() });
