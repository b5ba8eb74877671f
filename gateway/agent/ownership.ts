// Who may change an export (rules 19 and 20): its owner is a volume, at an epoch that only grows. A gateway with an older
// epoch has lost a flip and is refused; another volume is refused unless it adopts; nothing is taken or deleted under an
// open connection. Pure: a record and a wish in, the new record or the reason out.
import { plural } from '../../config/plural.js';
import { type Outcome, refuse } from '../control.js';
import type { ExportRecord } from './export-record.js';

export interface Claim {
  volume?: string;
  epoch?: number;
  role?: 'active' | 'mirror';
  /** Take it over from another volume, or at an older epoch: what an operator orders when the store was lost. */
  adopt?: boolean;
}

/** `clients` are the peers connected now. Codes: `stale-epoch`, `owner-mismatch`, `export-in-use`. */
export function claim(record: ExportRecord, wish: Claim, clients: string[]): Outcome<ExportRecord> {
  const flaw = staleEpoch(record, wish.epoch) ?? foreignOwner(record, wish.volume);
  if (flaw !== null && !wish.adopt) return flaw;
  if (flaw !== null && clients.length > 0) return inUse(record, clients, 'adopted');
  const { volume = record.volume, epoch = record.epoch, role = record.role } = wish;
  return { ok: true, value: { ...record, volume, epoch, role } };
}

/** Codes: `epoch-required`, `stale-epoch`, `owner-mismatch`, `export-in-use`. */
export function mayDelete(record: ExportRecord, wish: { epoch?: number; volume?: string }, clients: string[]): Outcome<ExportRecord> {
  if (wish.epoch === undefined && record.epoch > 0) {
    return refuse('epoch-required', `export ${record.name} is at epoch ${record.epoch}: say epoch=N, at least that, to delete it`);
  }
  const flaw = staleEpoch(record, wish.epoch) ?? foreignOwner(record, wish.volume);
  if (flaw !== null) return flaw;
  return clients.length > 0 ? inUse(record, clients, 'deleted') : { ok: true, value: record };
}

function staleEpoch(record: ExportRecord, epoch: number | undefined): Outcome<never> | null {
  if (epoch === undefined || epoch >= record.epoch) return null;
  const message = `epoch ${epoch} is older than ${record.epoch}, which export ${record.name} has seen: another gateway or a later flip owns it`;
  return refuse('stale-epoch', message, { epoch, storedEpoch: record.epoch });
}

function foreignOwner(record: ExportRecord, volume: string | undefined): Outcome<never> | null {
  if (volume === undefined || record.volume === '' || volume === record.volume) return null;
  const message = `export ${record.name} belongs to volume ${record.volume}, not to ${volume || 'nobody'}`;
  return refuse('owner-mismatch', message, { volume, owner: record.volume });
}

function inUse(record: ExportRecord, clients: string[], what: string): Outcome<never> {
  return refuse('export-in-use', `export ${record.name} cannot be ${what} while it has ${plural(clients.length, 'open connection')}`, {
    clients,
  });
}
