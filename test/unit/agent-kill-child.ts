// The child of agent-kill.test.ts: creates, claims, grows and deletes exports for ever, saying on its output what it begins
// and what was acknowledged. It is killed at any moment.
import { writeSync } from 'node:fs';
import { ExportStore } from '../../gateway/agent/export-store.js';
import { IoCounters } from '../../gateway/agent/io-counters.js';
import { SystemClock } from '../../gateway/clock.js';
import type { Log } from '../../replication/world.js';
import type { KillStep } from './agent-kill.test.js';

const [dir, seedText, first] = process.argv.slice(2);
const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const opened = await ExportStore.open({ dir, libc: null, log: silent, clock: new SystemClock(), counters: new IoCounters() });
if (!opened.ok) throw new Error(opened.message);
const store = opened.value;

let seed = Number(seedText);
function random(below: number): number {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % below;
}

function say(word: 'begin' | 'end', step: KillStep): void {
  writeSync(1, `${word} ${JSON.stringify(step)}\n`);
}

function nextStep(number: number): KillStep {
  const name = `export-${random(4)}`;
  const record = store.get(name)?.record;
  if (!record) return { kind: 'create', name, sizeBytes: 4096 + random(1000), volume: `volume-${number}`, epoch: 1 };
  const kinds = ['delete', 'claim', 'grow'] as const;
  const kind = kinds[random(3)];
  if (kind === 'grow') return { kind, name, sizeBytes: record.sizeBytes + 4096 };
  return kind === 'claim' ? { kind, name, epoch: record.epoch + 1 } : { kind, name };
}

for (let number = Number(first); ; number += 1) {
  const step = nextStep(number);
  say('begin', step);
  const done =
    step.kind === 'create'
      ? await store.create({ name: step.name, sizeBytes: step.sizeBytes, volume: step.volume, epoch: step.epoch })
      : step.kind === 'delete'
        ? await store.delete(step.name, { epoch: 1_000_000 })
        : step.kind === 'claim'
          ? await store.update(step.name, { epoch: step.epoch })
          : await store.update(step.name, { sizeBytes: step.sizeBytes });
  if (!done.ok) throw new Error(done.message);
  say('end', step);
}
