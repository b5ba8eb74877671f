// What must hold between records: between a volume, its copies, what they may lack, and whose targets are. Takes sound
// records by key, one after the other, and keeps of each no more than it needs. Pure.
import { EXTENT_BYTES } from '../volume/granularity.js';
import type { CheckedVolume, Flaw } from './record-kinds.js';

const SEGMENT_EXTENTS = 4096;

export interface VolumeSummary {
  name: string;
  sizeBytes: number;
  epoch: number;
  active: { node: string; export: string };
  mirrors: { node: string; export: string; synced: boolean; reverse: boolean; dirtyExtents: number }[];
  markedExtents: number;
}

interface Dirty {
  count: number;
  /** Its last dirty extent. */
  last: number;
}

type Say = (key: string | null, flaw: Flaw) => void;

export class CrossCheck {
  readonly #volumes = new Map<string, CheckedVolume>();
  readonly #marks = new Map<string, Set<number>>();
  readonly #dirty = new Map<string, Map<string, Dirty>>();
  readonly #ours = new Map<string, string>();
  readonly #free = new Map<string, string>();
  /** Last extent with checksums, and how many are also marked. */
  readonly #sums = new Map<string, { last: number; marked: number }>();
  readonly #doubts = new Map<string, Set<string>>();
  readonly #damaged = new Set<string>();
  /** Last extent in which something is lost. */
  readonly #lost = new Map<string, number>();
  readonly #scrubbed = new Set<string>();
  readonly #protected = new Map<string, { active: { node: string; export: string }; epoch: number }>();

  /** Marks come before checksums, as their keys do. */
  add(kind: string, rest: string, value: unknown): void {
    const [volume, ...parts] = rest.split('/');
    switch (kind) {
      case 'volume':
        this.#volumes.set(rest, value as CheckedVolume);
        break;
      case 'ours':
        this.#ours.set(rest, (value as { volume: string }).volume);
        break;
      case 'free': {
        const { node, export: name, volume: owner } = value as { node: string; export: string; volume: string };
        this.#free.set(`${node}/${name}`, owner);
        break;
      }
      case 'mark':
        this.#marks.set(volume, (this.#marks.get(volume) ?? new Set()).add(Number.parseInt(parts[0], 16)));
        break;
      case 'dirty':
        this.#addDirty(volume, parts[0], Number.parseInt(parts[1], 16), value as Uint8Array);
        break;
      case 'sum': {
        const extent = Number.parseInt(parts[0], 16);
        const marked = (this.#sums.get(volume)?.marked ?? 0) + (this.#marks.get(volume)?.has(extent) ? 1 : 0);
        this.#sums.set(volume, { last: extent, marked });
        break;
      }
      case 'doubt':
        this.#doubts.set(volume, (this.#doubts.get(volume) ?? new Set()).add(parts.slice(0, -1).join('/')));
        break;
      case 'damage':
        this.#damaged.add(rest);
        break;
      case 'lost':
        this.#lost.set(volume, Number.parseInt(parts[0], 16));
        break;
      case 'scrub':
        this.#scrubbed.add(rest);
        break;
      case 'protection':
        this.#protected.set(rest, value as { active: { node: string; export: string }; epoch: number });
        break;
    }
  }

  summaries(): VolumeSummary[] {
    return [...this.#volumes].map(([name, { sizeBytes, epoch, active, mirrors }]) => ({
      name,
      sizeBytes,
      epoch,
      active,
      mirrors: mirrors.map(({ id, target, synced, reverse }) => ({
        ...target,
        synced,
        reverse,
        dirtyExtents: this.#dirty.get(name)?.get(id)?.count ?? 0,
      })),
      markedExtents: this.#marks.get(name)?.size ?? 0,
    }));
  }

  finish(say: Say): void {
    const users = new Map<string, string>();
    for (const [name, volume] of this.#volumes) {
      this.#checkVolume(name, volume, say);
      for (const { node, export: exportName } of [volume.active, ...volume.mirrors.map((mirror) => mirror.target)]) {
        this.#checkTarget(name, `${node}/${exportName}`, users, say);
      }
    }
    this.#checkStrangers(say);
  }

  #addDirty(volume: string, mirror: string, segment: number, bits: Uint8Array): void {
    const mirrors = this.#dirty.get(volume) ?? new Map<string, Dirty>();
    const dirty = mirrors.get(mirror) ?? { count: 0, last: -1 };
    for (let bit = 0; bit < SEGMENT_EXTENTS; bit += 1) {
      if ((bits[bit >>> 3] & (1 << (bit & 7))) === 0) continue;
      dirty.count += 1;
      dirty.last = segment * SEGMENT_EXTENTS + bit;
    }
    this.#dirty.set(volume, mirrors.set(mirror, dirty));
  }

  #checkVolume(name: string, { sizeBytes, epoch, mirrors, lastFlip, active }: CheckedVolume, say: Say): void {
    const key = `volume/${name}`;
    const extents = Math.ceil(sizeBytes / EXTENT_BYTES);
    const beyond = (what: string, last: number, all: string): void => {
      if (last >= extents) say(all, warning(`${what} beyond the end of the volume; it counts for nothing`));
    };
    let lastMark = -1;
    for (const extent of this.#marks.get(name) ?? []) lastMark = Math.max(lastMark, extent);
    beyond('a mark', lastMark, `mark/${name}/`);
    beyond('checksums', this.#sums.get(name)?.last ?? -1, `sum/${name}/`);
    beyond('a lost range', this.#lost.get(name) ?? -1, `lost/${name}/`);
    const both = this.#sums.get(name)?.marked ?? 0;
    if (both > 0) say(`sum/${name}/`, warning(`${both} extents have both a mark and checksums; these count for nothing`));
    const ids = mirrors.map(({ id }) => id);
    if (new Set(ids).size < ids.length) say(key, damage('two of its mirrors have one id, so one dirty record'));
    for (const [mirror, { last }] of this.#dirty.get(name) ?? []) {
      beyond('a dirty extent', last, `dirty/${name}/${mirror}/`);
      if (!ids.includes(mirror))
        say(`dirty/${name}/${mirror}/`, warning('it is of a mirror that the volume does not have; it counts for nothing'));
    }
    if (lastFlip !== null && lastFlip.epoch > epoch)
      say(key, damage(`its last flip led to epoch ${lastFlip.epoch}, but it is at ${epoch}`));
    const seen = this.#protected.get(name);
    if (seen !== undefined && seen.epoch > epoch) {
      say(key, damage(`protection saw it at epoch ${seen.epoch}, but it is at ${epoch}: the record may be older than the others`));
    } else if (seen?.epoch === epoch && (seen.active.node !== active.node || seen.active.export !== active.export)) {
      say(key, damage(`protection saw it active on ${seen.active.node}/${seen.active.export} at the same epoch`));
    }
  }

  #checkTarget(name: string, target: string, users: Map<string, string>, say: Say): void {
    const other = users.get(target);
    if (other !== undefined) say(`volume/${name}`, damage(`its copy on ${target} is also one of ${other === name ? 'its own' : other}`));
    users.set(target, name);
    const owner = this.#ours.get(target);
    if (owner === undefined)
      say(`volume/${name}`, warning(`nothing says that the copy on ${target} is ours; it would not be overwritten again`));
    else if (owner !== name) say(`ours/${target}`, damage(`it names ${owner}, but ${name} has its copy there`));
  }

  /** Records of volumes that there are not. */
  #checkStrangers(say: Say): void {
    const kinds: [string, Iterable<string>][] = [
      ['mark', this.#marks.keys()],
      ['dirty', this.#dirty.keys()],
      ['sum', this.#sums.keys()],
      ['doubt', this.#doubts.keys()],
      ['damage', this.#damaged],
      ['lost', this.#lost.keys()],
      ['scrub', this.#scrubbed],
      ['protection', this.#protected.keys()],
    ];
    for (const [kind, names] of kinds) {
      for (const name of names) {
        if (!this.#volumes.has(name)) say(`${kind}/${name}`, damage(`it is of volume ${name}, which has no record: was that lost?`));
      }
    }
    for (const [target, name] of this.#ours) {
      if (!this.#volumes.has(name)) say(`ours/${target}`, damage(`it is of volume ${name}, which has no record: was that lost?`));
    }
    for (const [target, name] of this.#free) {
      const volume = this.#volumes.get(name);
      if (volume !== undefined && target === `${volume.active.node}/${volume.active.export}`) {
        say(`free/${target}`, warning(`volume ${name} is active there, but its space is to be given back; it is not while it is used`));
      }
    }
  }
}

function damage(message: string): Flaw {
  return { severity: 'damage', message };
}

function warning(message: string): Flaw {
  return { severity: 'warning', message };
}
