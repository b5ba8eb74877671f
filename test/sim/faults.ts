// The faults and an operator's wishes that a run meets, each a small play with its end: what breaks comes back by itself.
// Which, when and for how long is drawn from the seed. They prefer the node that is active and moments that matter.
import { ALARM_MOMENTS, ALARMS, type AlarmStage, playAlarm } from './alarms.js';
import type { SimDisk } from './disk.js';
import type { SimNode } from './node.js';
import type { Random } from './random.js';
import type { SimWorld } from './sim-world.js';
import { exportOn, type Policy, type Status } from './system.js';

export const FAULTS = [
  'reconnect',
  'zombie',
  'power-loss',
  'restart',
  'gateway-crash',
  'gateway-stop',
  'hang',
  'stall',
  'leave',
  'gone',
  'eio',
  'wear',
  'full',
  'contents',
  'rot',
  'slow',
  'stutter',
  'commit-failure',
  'disaster',
  'journal-failure',
  'journal-damage',
  'policy',
  'clock-jump',
  'add-mirror',
  'remove-mirror',
  'flip',
  'failover',
  'scrub',
  'rollback',
  ...ALARMS,
] as const;
export type Fault = (typeof FAULTS)[number];

/** How often each is drawn in a run without a theme. */
const USUAL: Record<Fault, number> = {
  reconnect: 10,
  zombie: 12,
  'power-loss': 12,
  restart: 5,
  'gateway-crash': 12,
  'gateway-stop': 4,
  hang: 6,
  stall: 5,
  leave: 4,
  gone: 1,
  eio: 5,
  wear: 2,
  full: 1,
  contents: 2,
  // Little is promised of what went bad, so that it would hide other flaws: in a theme of its own.
  rot: 0,
  slow: 3,
  stutter: 1,
  'commit-failure': 3,
  disaster: 0,
  'journal-failure': 0,
  'journal-damage': 0,
  policy: 2,
  'clock-jump': 1,
  'add-mirror': 8,
  'remove-mirror': 3,
  flip: 10,
  failover: 6,
  scrub: 4,
  // Only where there is protection.
  rollback: 0,
  verdict: 0,
  'false-alarm': 0,
  verdicts: 0,
  withdrawal: 0,
  'outside-verdict': 0,
};

/** Runs with a theme meet few kinds of fault, in the combinations that have undone others. */
const THEMES: Partial<Record<Fault, number>>[] = [
  { zombie: 6, reconnect: 1, 'gateway-crash': 1 },
  { 'power-loss': 3, 'gateway-crash': 3, restart: 1, reconnect: 1 },
  { flip: 4, 'gateway-crash': 2, 'add-mirror': 1, failover: 1 },
  { flip: 3, zombie: 2, stall: 1, hang: 1, 'power-loss': 1 },
  { failover: 3, 'gateway-crash': 1, 'power-loss': 1, 'add-mirror': 1 },
  { eio: 3, flip: 1, failover: 1, scrub: 1, full: 1, 'power-loss': 1 },
  { wear: 4, 'add-mirror': 2, flip: 2, 'gateway-crash': 2, scrub: 1, failover: 1 },
  { contents: 5, flip: 1, failover: 2, 'add-mirror': 1, reconnect: 1, scrub: 1 },
  { slow: 4, flip: 4, stall: 1, 'add-mirror': 1 },
  { 'journal-failure': 3, 'commit-failure': 3, policy: 3, 'gateway-crash': 1 },
  { rot: 5, scrub: 4, 'add-mirror': 2, flip: 1, 'gateway-crash': 1 },
  { 'commit-failure': 4, 'power-loss': 3, restart: 2, policy: 2 },
  { 'commit-failure': 3, flip: 2, 'gateway-crash': 2, 'add-mirror': 1, 'remove-mirror': 1 },
];

/** In addition where the volumes have a journal. */
export const JOURNAL_WEIGHTS: Partial<Record<Fault, number>> = { disaster: 8, 'journal-failure': 2, 'journal-damage': 1 };

/** The weights of one run: half of them have a theme. */
export function drawWeights(random: Random): Partial<Record<Fault, number>> {
  return random.chance(0.5) ? USUAL : random.pick(THEMES);
}

/** So many, and no other contents can answer right. */
const WITNESSES_MIN = 4;

/** Moments a fault may wait for: it then strikes right after. */
const MOMENTS = [
  'commit',
  'commit of volume',
  'commit of mark',
  'flush-executed',
  'host-flush',
  'host-write',
  'wish flip',
  'fact flipped flip',
  'fact flipped failover',
  'fact target-lost',
  'fact target-back',
  'fact mirror-state synced',
  'zombie-landed',
] as const;

/** What faults act on. */
export interface Stage {
  world: SimWorld;
  random: Random;
  /** The time of faults is over. */
  over(): boolean;
  volumes: readonly string[];
  /** After so long hosts may get an error for what waits for its target. */
  giveUpMs: number;
  status(volume: string): Status;
  /** Of the volume: a copy may be larger. */
  blocks(volume: string): number;
  /** Volumes get another policy while they are served. */
  setPolicy(policy: Policy): void;
  /** Samples of a copy's contents that the gateway could hold against it. */
  witnesses(volume: string, node: string): number;
  crashGateway(downMs: number): void;
  /** It is told to end. */
  stopGateway(downMs: number): void;
  /** A node lost its power; must be told when it happens. */
  powerLost(node: SimNode): void;
  wish(what: Wish, volume: string, node: string): void;
  /** Null: nothing predicts. */
  alarms: AlarmStage | null;
}

export type Wish = 'add-mirror' | 'remove-mirror' | 'flip' | 'scrub' | 'rollback';

/** Plays `fault`: at once, or when a moment of the seed's choice has come. */
export function strike(fault: Fault, stage: Stage): void {
  const { world, random } = stage;
  const begin = (): void => {
    if (stage.over()) return;
    world.moment(`fault ${fault}`);
    play(fault, stage);
  };
  const isWish = fault === 'add-mirror' || fault === 'flip' || fault === 'remove-mirror' || fault === 'scrub';
  const moments = stage.alarms === null || random.chance(0.4) ? MOMENTS : ALARM_MOMENTS;
  if ((isWish && stage.alarms === null) || random.chance(0.5)) begin();
  else
    world.onNext(random.pick(moments), random.range(1, 300), () =>
      world.scheduler.after(random.chance(0.4) ? 0 : random.range(0, random.pick([3, 3, 30])), begin),
    );
}

function play(fault: Fault, stage: Stage): void {
  const { world, random } = stage;
  const { scheduler } = world;
  const volume = random.pick(stage.volumes);
  const node = drawNode(stage, volume);
  const outageMs = random.chance(0.3) ? random.range(500, 8000) : random.range(1, 400);
  world.trace(() => `FAULT ${fault} (volume ${volume}, node ${node.name}, ${outageMs.toFixed(1)} ms)`);
  const later = (run: () => void): void => {
    scheduler.after(outageMs, () => {
      world.trace(() => `fault ${fault} on ${node.name} is over`);
      run();
    });
  };
  switch (fault) {
    case 'reconnect':
      cutSome(stage, node);
      break;
    case 'zombie':
      node.trapWrites(random.between(1, 4));
      world.onNext('write-trapped', 300, () =>
        scheduler.after(random.range(0, 3), () => {
          if (stage.over()) return;
          if (random.chance(0.2)) stage.crashGateway(random.range(0, 50));
          else cutAll(stage, node);
        }),
      );
      break;
    case 'power-loss':
      losePower(stage, node);
      later(() => node.start());
      break;
    case 'restart':
      node.kill(false);
      later(() => node.start());
      break;
    case 'gateway-crash':
      stage.crashGateway(random.chance(0.8) ? random.range(0, 100) : outageMs);
      break;
    case 'gateway-stop':
      stage.stopGateway(random.range(0, 100));
      break;
    case 'hang':
      node.hang();
      later(() => node.resume());
      break;
    case 'stall':
      for (const connection of world.network.standing(node.address)) connection.stall(outageMs, random.chance(0.5));
      break;
    case 'leave':
      node.leave();
      later(() => node.start());
      break;
    case 'gone':
      goAway(stage, node);
      break;
    case 'eio':
      breakRange(stage, node, volume, later);
      break;
    case 'wear':
      wear(stage, node, volume);
      break;
    case 'full':
      node.refused = true;
      for (const disk of node.disks.values()) disk.full = true;
      later(() => {
        for (const disk of node.disks.values()) disk.full = false;
      });
      break;
    case 'contents':
      if (mayReplaceDisk(stage, node, volume)) replaceDisk(stage, node, volume, later);
      break;
    case 'rot':
      rot(stage, volume);
      break;
    case 'journal-damage':
      world.journals.damage = true;
      if (random.chance(0.7)) stage.crashGateway(random.range(0, 50));
      break;
    case 'policy':
      stage.setPolicy({ durability: random.pick(['async', 'journal', 'sync']), whenFull: random.pick(['slow', 'fall-back']) });
      break;
    case 'slow':
      slowDown(stage, random.chance(0.5) ? nodeFor('flip', stage, volume) : node);
      break;
    case 'stutter':
      node.stutters = random.between(1, 4);
      break;
    case 'commit-failure': {
      // A commit that came to nothing, or a store that cannot be written for some seconds.
      const failures = random.between(1, 3);
      world.store.failures += failures < 3 ? failures : 15;
      world.store.failing = random.pick([null, 'volume', 'mark', 'doubt']);
      break;
    }
    case 'disaster':
      disaster(stage, volume);
      break;
    case 'journal-failure':
      world.journals.failures += random.between(1, 3);
      world.journals.spared = random.pick([0, 0, random.int(8)]);
      // Then it is its recovery that meets them.
      if (random.chance(0.4)) stage.crashGateway(random.range(0, 50));
      break;
    case 'clock-jump':
      world.jumpClock(random.range(-1, 1) * 1e8);
      break;
    case 'failover':
      failover(stage, volume);
      break;
    case 'verdict':
    case 'false-alarm':
    case 'verdicts':
    case 'withdrawal':
    case 'outside-verdict':
      if (stage.alarms !== null) playAlarm(fault, stage, stage.alarms);
      break;
    default:
      stage.wish(fault, volume, nodeFor(fault, stage, volume).name);
  }
}

function drawNode(stage: Stage, volume: string): SimNode {
  const { world, random } = stage;
  return random.chance(0.6) ? world.node(stage.status(volume).active) : random.pick(world.nodes);
}

/** Wishes that mostly make sense. */
function nodeFor(fault: Fault, stage: Stage, volume: string): SimNode {
  const { world, random } = stage;
  const { active, mirrors } = stage.status(volume);
  const mirrored = mirrors.map((mirror) => mirror.node);
  const fit = world.nodes.filter(({ name }) =>
    fault === 'add-mirror' ? name !== active && !mirrored.includes(name) : mirrored.includes(name),
  );
  return fit.length > 0 && random.chance(0.95) ? random.pick(fit) : random.pick(world.nodes);
}

/** The disk of the volume's copy there, or where one could be. */
function diskOn(stage: Stage, { name, disks }: SimNode, volume: string): SimDisk | undefined {
  return disks.get(exportOn(stage.status(volume), name, volume));
}

function slowDown({ world, random }: Stage, node: SimNode): void {
  node.slowness = random.range(3, 40);
  world.scheduler.after(random.range(1, 3000), () => {
    node.slowness = 1;
  });
}

function losePower(stage: Stage, node: SimNode): void {
  stage.powerLost(node);
  const lost = node.kill(true);
  stage.world.trace(() => `${node.name} lost its power, ${lost} blocks went back`);
}

function cutSome(stage: Stage, node: SimNode): void {
  const connections = stage.world.network.standing(node.address);
  if (connections.length > 1 && stage.random.chance(0.5)) stage.random.pick(connections).cut();
  else for (const connection of connections) connection.cut();
}

function cutAll(stage: Stage, node: SimNode): void {
  for (const connection of stage.world.network.standing(node.address)) connection.cut();
}

/** One at a time, or the last right copy could go; and only where the gateway knows enough to notice. */
function mayReplaceDisk(stage: Stage, node: SimNode, volume: string): boolean {
  return (
    mayNotice(stage, node, volume) && !stage.world.nodes.some(({ disks }) => [...disks.values()].some(({ putBack }) => putBack !== null))
  );
}

function mayNotice(stage: Stage, node: SimNode, volume: string): boolean {
  return stage.witnesses(volume, node.name) >= WITNESSES_MIN;
}

/** Those of regions whose checksum is stored; null: there are none. */
function knownBlocks({ world, blocks: blocksOf }: Stage, volume: string): number[] | null {
  const blocks: number[] = [];
  for (const [key, value] of world.store.list(`sum/${volume}/`)) {
    // A bit for each of its 8 regions of 8 blocks, then the checksums.
    const [known] = value as Uint8Array;
    const first = Number.parseInt(key.slice(key.lastIndexOf('/') + 1), 16) * 64;
    for (let block = 0; block < 64; block += 1) if ((known & (1 << (block >>> 3))) !== 0) blocks.push(first + block);
  }
  const inside = blocks.filter((block) => block < blocksOf(volume));
  return inside.length > 0 ? inside : null;
}

/** A byte of one copy changes by itself. */
function rot(stage: Stage, volume: string): void {
  const { world, random, status } = stage;
  const { active, export: name, mirrors } = status(volume);
  const copies = [{ node: active, export: name }, ...mirrors.filter(({ state }) => state === 'synced')];
  const copy = random.pick(copies);
  const disk = world.node(copy.node).disks.get(copy.export);
  if (disk === undefined || copies.length < 2) return;
  const block = random.pick(knownBlocks(stage, volume) ?? [random.int(stage.blocks(volume))]);
  world.trace(() => `a byte of block ${block} goes bad on ${copy.node}`);
  world.rotten.add(volume, block);
  disk.corrupt(block);
}

/**
 * It restarts with another disk: blank, or somebody else's. At the end, and when the gateway ends (what it knows of contents it forgets
 * then), the right one is back, unless the other was taken into use.
 */
function replaceDisk(stage: Stage, node: SimNode, volume: string, later: (run: () => void) => void): void {
  const { world, random } = stage;
  const fill = random.chance(0.5) ? 0 : 0xee;
  node.kill(false);
  diskOn(stage, node, volume)!.replace(fill);
  world.moment(`disk replaced ${fill === 0 ? 'blank' : 'foreign'}`);
  world.scheduler.after(random.range(0, 500), () => {
    // What was on its way when it ended may have been where the gateway knew something: nobody could notice then.
    if (!mayNotice(stage, node, volume)) node.putDisksBack();
    node.start();
  });
  later(() => node.putDisksBack());
}

/** Some blocks that lie together, or not, cannot be read any more. */
function wear(stage: Stage, node: SimNode, volume: string): void {
  const { world, random, status } = stage;
  const { active, mirrors } = status(volume);
  const disk = diskOn(stage, node, volume);
  // Of what a spare cannot read nobody is told before it is a copy.
  if (disk === undefined || ![active, ...mirrors.map((mirror) => mirror.node)].includes(node.name)) return;
  for (let places = random.between(1, 3); places > 0; places -= 1) {
    const first = random.int(stage.blocks(volume));
    const end = Math.min(stage.blocks(volume), first + random.pick([1, 1, 2, 5, 12]));
    world.trace(() => `blocks ${first} to ${end - 1} cannot be read any more on ${node.name}`);
    for (let block = first; block < end; block += 1) {
      disk.worn.add(block);
      world.worn.add(volume, block, world.scheduler.nowMs);
    }
  }
}

function breakRange(stage: Stage, node: SimNode, volume: string, later: (run: () => void) => void): void {
  const { random } = stage;
  const disk = diskOn(stage, node, volume);
  if (disk === undefined) return;
  node.refused = true;
  const fromBlock = random.int(disk.blocks);
  const kinds = random.int(3);
  const range = {
    fromBlock,
    toBlock: fromBlock + random.between(1, random.chance(0.3) ? disk.blocks : 64),
    reads: kinds !== 1,
    writes: kinds !== 0,
  };
  disk.bad.push(range);
  later(() => disk.bad.splice(disk.bad.indexOf(range), 1));
}

/** It does not come back before hosts have been given up on. */
function goAway(stage: Stage, node: SimNode): void {
  const { world, random } = stage;
  const way = random.int(3);
  if (way === 0) node.hang();
  else if (way === 1) losePower(stage, node);
  else node.kill(false);
  world.scheduler.after(random.range(2, 4) * stage.giveUpMs, () => {
    node.resume();
    if (!node.up) node.start();
  });
}

/** The active node goes away for long while a mirror stands ready. */
function failover(stage: Stage, volume: string): void {
  const { world, random } = stage;
  const { active } = stage.status(volume);
  const node = world.node(active);
  const forMs = random.range(1000, 10_000);
  const way = random.int(4);
  if (way === 0) node.hang();
  else if (way === 1) losePower(stage, node);
  else if (way === 2) node.kill(false);
  else for (const connection of world.network.standing(node.address)) connection.stall(forMs, true);
  world.scheduler.after(forMs, () => {
    node.resume();
    if (!node.up) node.start();
  });
}

/** The active node and the gateway fail together; the node stays away for long, perhaps until hosts were given up on. */
function disaster(stage: Stage, volume: string): void {
  const { world, random } = stage;
  const node = world.node(stage.status(volume).active);
  const others = world.nodes.filter((each) => each !== node);
  const crash = (): void => stage.crashGateway(random.range(0, 200));
  const fall = (): void => {
    if (random.chance(0.6)) losePower(stage, node);
    else node.kill(false);
  };
  if (random.chance(0.5)) {
    fall();
    world.scheduler.after(random.range(0, 5), crash);
  } else {
    crash();
    world.scheduler.after(random.range(0, 5), fall);
  }
  // A mirror may go with them, for a moment.
  if (random.chance(0.4)) {
    const other = random.pick(others);
    losePower(stage, other);
    world.scheduler.after(random.range(1, 3000), () => {
      if (!other.up) other.start();
    });
  }
  world.scheduler.after(random.range(2000, random.pick([6000, 30_000])), () => {
    if (!node.up) node.start();
  });
}
