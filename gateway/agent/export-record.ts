// What an agent durably knows of an export, one JSON file `<name>.json` next to the data. Format 1:
//   {"format":1,"name":"vol0","sizeBytes":1073741824,"volume":"vol0","epoch":3,"createdAt":"2026-01-01T00:00:00.000Z",
//    "origin":"created","state":"kept","role":"mirror"}
// `volume` is the owner ("" while nobody claimed it) and `epoch` the newest it announced; `origin` is "found" for data
// that was there before us and is never removed by us; `state` "deleting" makes the next start finish a deletion.
import { z } from 'zod';
import { type Outcome, refuse } from '../control.js';

/** 1 PiB: beyond any file system we serve from, within what a number and the protocol hold. */
export const EXPORT_BYTES_MAX = 2 ** 50;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** `smart.json` is the file of simulated disks. */
const RESERVED = new Set(['smart']);

export const exportRole = z.enum(['active', 'mirror']);
export const volumeName = z.string().max(255);
export const epochNumber = z.int().min(0);
export const exportSize = z.int().min(1).max(EXPORT_BYTES_MAX);

const recordSchema = z.strictObject({
  format: z.literal(1),
  name: z.string(),
  sizeBytes: exportSize,
  volume: volumeName,
  epoch: epochNumber,
  createdAt: z.string(),
  origin: z.enum(['created', 'found']),
  state: z.enum(['kept', 'deleting']),
  role: exportRole.optional(),
});

export type ExportRecord = z.infer<typeof recordSchema>;

/** True for a name that is safe as a file's and that no other file of the directory has. */
export function isExportName(name: string): boolean {
  return NAME.test(name) && !RESERVED.has(name);
}

export function checkExportName(name: string): Outcome<string> {
  if (isExportName(name)) return { ok: true, value: name };
  const reserved = RESERVED.has(name) ? ', and not "smart"' : '';
  return refuse('invalid-name', `an export's name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit${reserved}`, { name });
}

export function encodeRecord(record: ExportRecord): string {
  return `${JSON.stringify(recordSchema.parse(record))}\n`;
}

/** Refused with code `bad-metadata` and what is wrong; `name` is the one the file's name says. */
export function parseRecord(text: string, name: string): Outcome<ExportRecord> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return refuse('bad-metadata', `its metadata is no JSON: ${(error as Error).message}`);
  }
  const format = (json as { format?: unknown } | null)?.format;
  if (typeof format === 'number' && format > 1)
    return refuse('bad-metadata', `its metadata has format ${format}; this agent knows format 1`);
  const parsed = recordSchema.safeParse(json);
  if (!parsed.success) return refuse('bad-metadata', `its metadata is not valid: ${z.prettifyError(parsed.error).replaceAll('\n', ' ')}`);
  if (parsed.data.name !== name) return refuse('bad-metadata', `its metadata is that of ${JSON.stringify(parsed.data.name)}`);
  return { ok: true, value: parsed.data };
}
