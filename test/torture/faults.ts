// What is done to a volume under load: each fault strikes when a mirror is complete, and heals what it broke. Hosts may be
// held up by each; no policy lets them see an error of any.
import { open, stat } from 'node:fs/promises';
import { type Arena, VOLUME } from './arena.js';
import type { TortureNode } from './torture-node.js';

export interface Fault {
  name: string;
  /** What it counts as. */
  counts: 'flip' | 'gateway kill' | 'node kill or hang' | 'other';
  /** Nobody may write meanwhile. */
  hostsRest?: true;
  /** Returns when what it broke is whole again; false: it does not apply to what is there now. */
  strike(arena: Arena): Promise<boolean>;
}

type Who = 'active' | 'mirror';

const FLIP_TURNS = 5;

/** A mirror may have fallen behind the hosts since it was seen to be in step: then it is waited for again. */
async function flip(arena: Arena): Promise<boolean> {
  for (let turn = 1; ; turn += 1) {
    try {
      await arena.gateway.flip(VOLUME);
      return true;
    } catch (error) {
      if (turn === FLIP_TURNS || !(error as Error).message.includes('"code":"mirror-not-synced"')) throw error;
      await arena.settled();
    }
  }
}

async function killGateway(arena: Arena): Promise<void> {
  await arena.gateway.kill();
  await arena.moment(300);
  await arena.gateway.start();
}

async function killNode(arena: Arena, who: Who): Promise<boolean> {
  const node = await arena[who]();
  await node.kill();
  await arena.moment(3000);
  await node.start();
  return true;
}

async function hangNode(arena: Arena, who: Who): Promise<boolean> {
  const node = await arena[who]();
  const { program } = node;
  program.signal('SIGSTOP');
  await arena.hangTime();
  program.signal('SIGCONT');
  return true;
}

/** For the time in which a hang is noticed; true if the node could be made to. */
async function ail(arena: Arena, who: Who, begin: (node: TortureNode) => Promise<boolean>): Promise<boolean> {
  const node = await arena[who]();
  if (!(await begin(node))) return false;
  await arena.hangTime();
  await node.heal();
  return true;
}

async function disturbLine(arena: Arena, who: Who, begin: (relay: NonNullable<TortureNode['relay']>) => Promise<void>): Promise<boolean> {
  const { relay } = await arena[who]();
  if (relay === null) return false;
  await begin(relay);
  return true;
}

/** A byte of the mirror's copy goes bad; a scrub finds and mends it. Hosts rest, since what they write has no checksum before it is read back. */
async function rot(arena: Arena): Promise<boolean> {
  const file = (await arena.mirror()).copyFile();
  if (file === null) return false;
  await arena.writer.stop();
  await arena.gateway.scrub(VOLUME);
  const { size } = await stat(file);
  const handle = await open(file, 'r+');
  try {
    await handle.write(Buffer.from([arena.random.int(256)]), 0, 1, arena.random.int(size));
  } finally {
    await handle.close();
  }
  const report = await arena.gateway.scrub(VOLUME);
  const left = report.mismatches.filter(({ repaired }) => !repaired);
  if (left.length > 0) throw new Error(`not repaired: ${JSON.stringify(left)}`);
  arena.writer.start();
  return true;
}

/** The gateway's disk has no room for a while; hosts go on. */
async function fillDisk(arena: Arena, meanwhile: () => Promise<void> = async () => {}): Promise<boolean> {
  const { disk } = arena;
  if (disk === null) return false;
  disk.fill();
  try {
    await arena.hangTime();
    await meanwhile();
  } finally {
    disk.free();
  }
  return true;
}

function onBoth(name: string, counts: Fault['counts'], strike: (arena: Arena, who: Who) => Promise<boolean>): Fault[] {
  return (['active', 'mirror'] as const).map((who) => ({ name: `${name}, ${who}`, counts, strike: (arena) => strike(arena, who) }));
}

const CRAWL_BITS_PER_SECOND = 4_000_000;

export const FAULTS: Fault[] = [
  { name: 'flip', counts: 'flip', strike: flip },
  {
    name: 'gateway killed',
    counts: 'gateway kill',
    strike: async (arena) => {
      await arena.moment(300);
      await killGateway(arena);
      return true;
    },
  },
  {
    name: 'gateway killed in a flip',
    counts: 'gateway kill',
    strike: async (arena) => {
      const flipping = arena.gateway.ask('POST', `/v1/volumes/${VOLUME}/flip`).catch(() => null);
      await arena.moment(60);
      await killGateway(arena);
      await flipping;
      return true;
    },
  },
  ...onBoth('node killed', 'node kill or hang', killNode),
  ...onBoth('node stopped', 'node kill or hang', hangNode),
  ...onBoth('node killed while the gateway is away', 'gateway kill', async (arena, who) => {
    const node = await arena[who]();
    // What it had answered and not flushed was in its memory and the gateway's, and nobody promises that.
    if (who === 'active' && node.volatile) return false;
    await arena.gateway.kill();
    await node.kill();
    await node.start();
    await arena.gateway.start();
    return true;
  }),
  ...onBoth('requests fail', 'other', (arena, who) => ail(arena, who, (node) => node.fail())),
  ...onBoth('node pauses', 'node kill or hang', (arena, who) => ail(arena, who, (node) => node.pause())),
  ...onBoth('line cut over writes that land late', 'other', (arena, who) =>
    ail(arena, who, async (node) => {
      if (node.relay === null || !(await node.linger())) return false;
      await arena.moment(500);
      node.relay.cut();
      await arena.moment(1000);
      return true;
    }),
  ),
  ...onBoth('node crawls', 'other', (arena, who) => ail(arena, who, (node) => node.crawl(CRAWL_BITS_PER_SECOND))),
  ...onBoth('line cut', 'other', (arena, who) => disturbLine(arena, who, async (relay) => relay.cut())),
  ...onBoth('line stalls', 'node kill or hang', (arena, who) =>
    disturbLine(arena, who, async (relay) => {
      relay.stall();
      await arena.hangTime();
      relay.resume();
    }),
  ),
  ...onBoth('line is slow', 'other', (arena, who) =>
    disturbLine(arena, who, async (relay) => {
      relay.delayMs = 20;
      await arena.moment(1500);
      relay.delayMs = 0;
    }),
  ),
  {
    name: 'flip over a slow line',
    counts: 'flip',
    strike: (arena) =>
      disturbLine(arena, 'active', async (relay) => {
        relay.delayMs = 400;
        try {
          await flip(arena);
        } finally {
          relay.delayMs = 0;
        }
      }),
  },
  { name: 'data directory full', counts: 'other', strike: fillDisk },
  {
    name: 'gateway killed while its data directory is full',
    counts: 'gateway kill',
    strike: (arena) => fillDisk(arena, () => killGateway(arena)),
  },
  { name: 'mirror rots', counts: 'other', hostsRest: true, strike: rot },
];
