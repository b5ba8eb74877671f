// Fault after fault on real processes while hosts write, all from one seed; what is promised is looked at again and again.
import type { Random } from '../sim/random.js';
import { Site } from '../support/site.js';
import { Arena } from './arena.js';
import { FAULTS, type Fault } from './faults.js';

/** Faults in one arena, and after how many all is looked at. */
const FAULTS_PER_ARENA = 25;
const FAULTS_PER_LOOK = 5;

export interface TortureOptions {
  seed: number;
  faults: number;
  /** Told what happens, a line each. */
  say(line: string): void;
}

/** How often each fault struck, and the longest time in ms in which no write was answered because of it. */
export interface Toll {
  strikes: Map<string, { count: number; stallMs: number }>;
  counts: Record<Fault['counts'], number>;
  writes: number;
  /** Blocks that fio wrote and read back. */
  fioBlocks: number;
}

/** Rejects with what was not as promised. */
export async function torture({ seed, faults, say }: TortureOptions): Promise<Toll> {
  const toll: Toll = {
    strikes: new Map(),
    counts: { flip: 0, 'gateway kill': 0, 'node kill or hang': 0, other: 0 },
    writes: 0,
    fioBlocks: 0,
  };
  let struck = 0;
  for (let round = 0; struck < faults; round += 1) {
    const site = await Site.open();
    try {
      const arena = await Arena.open(site, seed + round);
      say(`seed ${seed + round}: durability ${arena.durability}`);
      const order = arena.random.fork('order');
      for (let fault = 0; fault < FAULTS_PER_ARENA && struck < faults; fault += 1) {
        struck += 1;
        await strike(arena, draw(order), toll, say);
        if (fault % FAULTS_PER_LOOK === FAULTS_PER_LOOK - 1 || struck === faults) await arena.verify();
      }
      toll.writes += arena.writer.writes;
      await arena.close();
    } catch (error) {
      throw new Error(`seed ${seed + round}: ${(error as Error).message}`, { cause: error });
    } finally {
      await site.close();
    }
  }
  return toll;
}

/** Each kind as often as the others, however many faults it has. */
function draw(order: Random): Fault {
  const kind = order.pick([...new Set(FAULTS.map(({ counts }) => counts))]);
  return order.pick(FAULTS.filter(({ counts }) => counts === kind));
}

async function strike(arena: Arena, fault: Fault, toll: Toll, say: (line: string) => void): Promise<void> {
  await arena.settled();
  const { epoch, active, mirrors } = await arena.volume();
  const before = `${active.node} > ${mirrors.map(({ node }) => node).join(' ')}, epoch ${epoch}`;
  let applied = false;
  let stallMs = 0;
  const work = async (): Promise<void> => {
    stallMs = await arena.stallDuring(async () => {
      applied = await fault.strike(arena);
    });
  };
  try {
    // fio does not attach again.
    if (fault.counts === 'gateway kill' || fault.hostsRest) await work();
    else toll.fioBlocks += (await arena.fioDuring(work))?.reads ?? 0;
  } catch (error) {
    throw new Error(`${fault.name} (${before}): ${(error as Error).message}`, { cause: error });
  }
  if (!applied) return;
  say(`  ${fault.name.padEnd(44)} ${before}: ${Math.round(stallMs)} ms`);
  const seen = toll.strikes.get(fault.name) ?? { count: 0, stallMs: 0 };
  toll.strikes.set(fault.name, { count: seen.count + 1, stallMs: Math.max(seen.stallMs, stallMs) });
  toll.counts[fault.counts] += 1;
}
