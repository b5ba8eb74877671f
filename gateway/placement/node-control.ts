// Makes targets on nodes and gives their space back: an agent creates and deletes exports, a plain node lends one of its
// spares, which comes back once the volume layer has trimmed it. Guarantees: nothing is freed that a volume uses, and
// nothing that was made is forgotten, whatever crashes (rule 20). Freeing is tried until it is done; it never blocks.
import assert from 'node:assert/strict';
import { type Clock, type Log, RECORD_KEY_BYTES_MAX, type Records, type Timer } from '../../replication/world.js';
import { type EventSink, type Outcome, refuse, type TargetRef } from '../control.js';
import { oursKey } from '../volume/volume-record.js';
import { type Condemned, condemnedKey, readCondemned } from './condemned.js';

/** What placement needs of an agent; gateway/agent's client has it. */
export interface ExportMaker {
  createExport(wish: { name: string; sizeBytes: number; volume: string; epoch: number; role: 'mirror' }): Promise<Outcome<unknown>>;
  deleteExport(name: string, owner: { volume: string; epoch: number }): Promise<Outcome<unknown>>;
}

export type ControlledNode =
  | { id: string; kind: 'agent'; agent: ExportMaker }
  /** Exports that may take a mirror. */
  | { id: string; kind: 'plain'; spares: readonly string[] };

export interface NodeControlOptions {
  clock: Clock;
  log: Log;
  records: Records;
  events: EventSink;
  node(id: string): ControlledNode | undefined;
  /** The volume whose durable record names it as active target or mirror, also one that is not served now. A refusal: nobody can say. */
  usedBy(target: TargetRef): Outcome<string | null>;
  /** The volume's epoch now; null: it is not served here. */
  epochOf(volume: string): number | null;
  /** Gives a plain node's space back; the target is no volume's any more. */
  trim(target: TargetRef): Promise<Outcome<unknown>>;
}

interface Freeing {
  entry: Condemned;
  /** A volume is about to use it, or to forget it. */
  held: boolean;
  /** Its record is being written, or removed: whether that was done. */
  settling: Promise<boolean> | null;
  /** Its record may have been written, though that failed: nothing was made, and only the record is to go. */
  void: boolean;
  /** Its volume said that it has no use for it any more: it may only take a while to forget it. */
  given: boolean;
  refusals: number;
  timer: Timer | null;
  running: boolean;
}

const RETRY_MS = { first: 1_000, last: 300_000 };
const NAME_TRIES = 20;
const NAME_CHARS_MAX = 64;
/** Refusals that time does not heal: the export is somebody else's by now, or was never lent to us. */
const FINAL_CODES: ReadonlySet<string> = new Set(['owner-mismatch', 'stale-epoch', 'not-a-spare']);

export class NodeControl {
  readonly #options: NodeControlOptions;
  readonly #freeing = new Map<string, Freeing>();
  readonly #work = new Set<Promise<void>>();
  #stopped = false;

  constructor(options: NodeControlOptions) {
    this.#options = options;
    for (const entry of readCondemned(options.records, options.log)) this.#freeing.set(condemnedKey(entry), fresh(entry, false));
  }

  /** Goes on freeing what an earlier process left. Once the volumes' records are readable. */
  start(): void {
    for (const freeing of this.#freeing.values()) this.#kick(freeing);
  }

  /** Resolves when no attempt is under way; what is not freed stays in the list. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const { timer } of this.#freeing.values()) timer?.cancel();
    await Promise.all(this.#work);
  }

  /** A plain node's exports that may take a mirror now. */
  freeSpares(id: string): string[] {
    const node = this.#options.node(id);
    if (node?.kind !== 'plain') return [];
    return node.spares.filter((name) => this.#isFree({ node: id, export: name }));
  }

  /**
   * A blank target for a mirror: a new export of an agent, or `spare` of a plain node. It is freed again unless `keep`
   * is called. Codes: `node-not-found`, `no-spare`, `store-unwritable`, and the agent's.
   */
  async make(id: string, spare: string | null, wish: { volume: string; epoch: number; sizeBytes: number }): Promise<Outcome<TargetRef>> {
    const node = this.#options.node(id);
    if (!node) return refuse('node-not-found', `there is no node ${id}`);
    return node.kind === 'agent' ? this.#create(id, node.agent, wish) : this.#lend(id, spare, wish);
  }

  /** A volume's durable record names the target now: it is not to be freed. */
  async keep(target: TargetRef): Promise<void> {
    const freeing = this.#freeing.get(condemnedKey(target));
    if (freeing) await this.#strike(freeing);
  }

  /** Writes down that the target will be freed, before its volume forgets it. `free` starts that. */
  async condemn(target: TargetRef, owner: { volume: string; epoch: number }): Promise<Outcome<TargetRef>> {
    const key = condemnedKey(target);
    let freeing = this.#freeing.get(key);
    // An entry that is just being struck off, or is not durable yet, says nothing.
    while (freeing?.settling) {
      await freeing.settling;
      freeing = this.#freeing.get(key);
    }
    if (!freeing || freeing.void) return this.#write(target, owner);
    // Lent again meanwhile: it is for that volume to say when it is free.
    if (freeing.entry.volume !== owner.volume) return { ok: true, value: target };
    // An attempt before `free` would find that a volume uses it, and forget it.
    freeing.held = true;
    return { ok: true, value: target };
  }

  /** `volume` does not use it any more, or will not in a moment; it must have been condemned or made for it. */
  free(target: TargetRef, volume: string): void {
    const freeing = this.#freeing.get(condemnedKey(target));
    if (freeing?.entry.volume !== volume) return;
    freeing.held = false;
    freeing.given = true;
    this.#kick(freeing);
  }

  #isFree(target: TargetRef): boolean {
    const used = this.#options.usedBy(target);
    return !this.#freeing.has(condemnedKey(target)) && used.ok && used.value === null;
  }

  async #create(id: string, agent: ExportMaker, wish: { volume: string; epoch: number; sizeBytes: number }): Promise<Outcome<TargetRef>> {
    for (let turn = 1; turn <= NAME_TRIES; turn++) {
      const target = { node: id, export: exportName(wish.volume, wish.epoch, turn) };
      if (!this.#isFree(target)) continue;
      const written = await this.#write(target, wish);
      if (!written.ok) return written;
      const made = await agent.createExport({ ...wish, name: target.export, role: 'mirror' });
      if (made.ok) return { ok: true, value: target };
      // Somebody else's: not ours to delete. Anything else may have created it all the same.
      if (made.code === 'export-exists') await this.keep(target);
      else this.free(target, wish.volume);
      if (made.code !== 'export-exists') return made;
    }
    return refuse('export-exists', `${id} has exports under all names that ${wish.volume} could use`);
  }

  async #lend(id: string, spare: string | null, wish: { volume: string; epoch: number }): Promise<Outcome<TargetRef>> {
    const name = spare ?? this.freeSpares(id)[0];
    const target = name === undefined ? null : { node: id, export: name };
    if (!target || !this.#isFree(target)) return refuse('no-spare', `${id} has no spare export that is free`);
    return this.#write(target, wish);
  }

  async #write(target: TargetRef, { volume, epoch }: { volume: string; epoch: number }): Promise<Outcome<TargetRef>> {
    const { records, clock, log } = this.#options;
    const entry: Condemned = { version: 1, ...target, volume, epoch, at: new Date(clock.wallMs()).toISOString() };
    const key = condemnedKey(target);
    const before = this.#freeing.get(key);
    assert(!before || before.void, `${key} is in the list already`);
    before?.timer?.cancel();
    // In the list before it is durable: nobody may take the same spare meanwhile.
    const freeing = fresh(entry, true);
    this.#freeing.set(key, freeing);
    let reason = '';
    freeing.settling = records.commit([{ put: key, value: entry }]).then(
      () => true,
      (error: Error) => {
        reason = error.message;
        log.error({ key, reason }, 'a target cannot be written down, so it is not touched');
        freeing.void = true;
        return false;
      },
    );
    const written = await freeing.settling;
    freeing.settling = null;
    if (written) return { ok: true, value: target };
    this.#again(freeing);
    return refuse('store-unwritable', `the records cannot be written: ${reason}`);
  }

  #kick(freeing: Freeing): void {
    if (this.#stopped || (freeing.held && !freeing.void) || freeing.running) return;
    freeing.timer?.cancel();
    freeing.timer = null;
    freeing.running = true;
    const work = this.#attempt(freeing).finally(() => {
      freeing.running = false;
      this.#work.delete(work);
    });
    this.#work.add(work);
  }

  async #attempt(freeing: Freeing): Promise<void> {
    const { entry } = freeing;
    if (freeing.void) {
      await this.#strike(freeing);
      return;
    }
    const owner = this.#options.usedBy(entry);
    const user = owner.ok ? owner.value : null;
    if (user === entry.volume && freeing.given) {
      this.#delay(freeing, `${user} has not forgotten it yet`);
      return;
    }
    const freed = !owner.ok ? owner : user !== null ? ({ ok: true, value: null } as const) : await this.#release(entry);
    if (this.#freeing.get(condemnedKey(entry)) !== freeing) return;
    if (!freed.ok && !FINAL_CODES.has(freed.code)) {
      this.#delay(freeing, freed.message);
      return;
    }
    if (!(await this.#strike(freeing))) return;
    if (user !== null) return;
    const where = entry.export === '' ? entry.node : `${entry.node}/${entry.export}`;
    this.#options.events.publish({
      type: freed.ok ? 'target.freed' : 'target.left',
      level: freed.ok ? 'info' : 'warning',
      message: freed.ok ? `The space of ${where} is free again.` : `${where} is left as it is: ${freed.message}`,
      volume: entry.volume,
      node: entry.node,
      details: { export: entry.export },
    });
  }

  async #release(entry: Condemned): Promise<Outcome<unknown>> {
    const node = this.#options.node(entry.node);
    if (!node) return refuse('node-not-found', `${entry.node} is not in the configuration any more`);
    if (node.kind === 'plain') {
      // A first placement, or a spare that was taken back: only spares are said to be ours to overwrite.
      if (!node.spares.includes(entry.export))
        return refuse('not-a-spare', `it is not one of the spares of ${entry.node}, and keeps what it holds`);
      // Lent, and given back because it holds something else: nothing was written there.
      if (!this.#isOurs(entry)) return { ok: true, value: null };
      return this.#options.trim({ node: entry.node, export: entry.export });
    }
    // The target may have seen a later epoch than that of its entry, from the same volume.
    const epoch = Math.max(entry.epoch, this.#options.epochOf(entry.volume) ?? 0);
    const deleted = await node.agent.deleteExport(entry.export, { volume: entry.volume, epoch });
    return !deleted.ok && deleted.code === 'export-unknown' ? { ok: true, value: null } : deleted;
  }

  /** A volume's copy was begun there (rule 20). What would have too long a key was never written down. */
  #isOurs(target: TargetRef): boolean {
    const key = oursKey(target);
    return Buffer.byteLength(key) <= RECORD_KEY_BYTES_MAX && this.#options.records.get(key) !== undefined;
  }

  #delay(freeing: Freeing, reason: string): void {
    const { entry } = freeing;
    this.#again(freeing);
    if (freeing.refusals > 1) return;
    this.#options.events.publish({
      type: 'target.free-delayed',
      level: 'warning',
      message: `The space of ${entry.export === '' ? entry.node : `${entry.node}/${entry.export}`} cannot be given back yet: ${reason}. It is tried until it is.`,
      volume: entry.volume,
      node: entry.node,
      details: { export: entry.export },
    });
  }

  #again(freeing: Freeing): void {
    freeing.refusals += 1;
    const delayMs = Math.min(RETRY_MS.last, RETRY_MS.first * 2 ** Math.min(freeing.refusals - 1, 20));
    if (!this.#stopped) freeing.timer = this.#options.clock.after(delayMs, () => this.#kick(freeing));
  }

  /** Takes it off the list; false: the records could not be written and it is tried again. */
  async #strike(freeing: Freeing): Promise<boolean> {
    const key = condemnedKey(freeing.entry);
    freeing.settling ??= this.#options.records.commit([{ remove: key }]).then(
      () => {
        freeing.timer?.cancel();
        this.#freeing.delete(key);
        return true;
      },
      (error: Error) => {
        // It stays in the list; whoever looks next sees whether a volume uses it.
        freeing.held = false;
        if (freeing.void) this.#again(freeing);
        else this.#delay(freeing, error.message);
        return false;
      },
    );
    const struck = await freeing.settling;
    freeing.settling = null;
    return struck;
  }
}

function fresh(entry: Condemned, held: boolean): Freeing {
  return { entry, held, settling: null, void: false, given: false, refusals: 0, timer: null, running: false };
}

/** `<volume>.<epoch>`, then with a number; as many characters as an agent takes. */
function exportName(volume: string, epoch: number, turn: number): string {
  const suffix = `.${epoch}${turn > 1 ? `-${turn}` : ''}`;
  return volume.slice(0, NAME_CHARS_MAX - suffix.length) + suffix;
}
