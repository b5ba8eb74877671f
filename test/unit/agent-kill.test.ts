// An agent that is killed at any moment: what it acknowledged is there after a restart, what it had begun is whole or not
// there at all, and nothing else is left in the directory.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import { Rig } from './agent-rig.js';

export type KillStep =
  | { kind: 'create'; name: string; sizeBytes: number; volume: string; epoch: number }
  | { kind: 'claim'; name: string; epoch: number }
  | { kind: 'grow'; name: string; sizeBytes: number }
  | { kind: 'delete'; name: string };

interface Expected {
  sizeBytes: number;
  volume: string;
  epoch: number;
}
type State = ReadonlyMap<string, Expected>;

const KINDS = ['create', 'delete', 'grow', 'claim'];
const KILLS = 6;
const LINES_BEFORE_KILL = 40;

function after(state: State, step: KillStep): State {
  const next = new Map(state);
  const known = state.get(step.name)!;
  if (step.kind === 'create') next.set(step.name, { sizeBytes: step.sizeBytes, volume: step.volume, epoch: step.epoch });
  else if (step.kind === 'delete') next.delete(step.name);
  else if (step.kind === 'claim') next.set(step.name, { ...known, epoch: step.epoch });
  else next.set(step.name, { ...known, sizeBytes: step.sizeBytes });
  return next;
}

/** Runs the child, kills it within a step some lines after the first ones, and gives what it said. */
function runAndKill(dir: string, seed: number): Promise<string[]> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', fileURLToPath(new URL('agent-kill-child.ts', import.meta.url)), dir, `${seed}`, `${seed * 1000}`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  return new Promise((resolve, reject) => {
    let output = '';
    let dying = false;
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      const lines = output.split('\n');
      const due = lines.length > LINES_BEFORE_KILL && lines.at(-2)!.startsWith(`begin {"kind":"${KINDS[seed % KINDS.length]}"`);
      // Some time into the step: each run dies in another place of it.
      if (due && !dying) setTimeout(() => child.kill('SIGKILL'), seed % 7);
      dying ||= due;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(output.split('\n').slice(0, -1));
      else reject(new Error(`the child ended with ${code}`));
    });
  });
}

const kill = suite<{ rig: Rig }>('agent killed');
kill.before.each((context) => {
  context.rig = new Rig();
});
kill.after.each((context) => context.rig.remove());

kill(`keeps what it acknowledged over ${KILLS} kills`, async ({ rig }) => {
  let state: State = new Map();
  let acknowledged = 0;
  for (let seed = 1; seed <= KILLS; seed += 1) {
    let begun: KillStep | null = null;
    for (const line of await runAndKill(rig.dir, seed)) {
      const step = JSON.parse(line.slice(line.indexOf(' ') + 1)) as KillStep;
      begun = line.startsWith('begin') ? step : null;
      if (begun !== null) continue;
      state = after(state, step);
      acknowledged += 1;
    }
    const store = await rig.store();
    const found = new Map<string, Expected>();
    for (const name of store.names()) {
      const { record, problem } = store.get(name)!;
      assert.equal(problem, null, `${name}: ${problem}`);
      found.set(name, { sizeBytes: record.sizeBytes, volume: record.volume, epoch: record.epoch });
      assert(statSync(join(rig.dir, `${name}.img`)).size >= record.sizeBytes);
    }
    const possible = begun === null ? [state] : [state, after(state, begun)];
    const matching = possible.find((candidate) => sameState(candidate, found));
    assert(matching, `${JSON.stringify([...found])} is none of ${JSON.stringify(possible.map((one) => [...one]))}`);
    state = matching;
    const files = store.names().flatMap((name) => [`${name}.img`, `${name}.json`]);
    assert.deepEqual(readdirSync(rig.dir).sort(), ['agent.lock', ...files].sort());
    await rig.stop(store);
  }
  assert(acknowledged > KILLS * 10);
});

function sameState(left: State, right: State): boolean {
  const sorted = (state: State): string => JSON.stringify([...state].sort(([a], [b]) => (a < b ? -1 : 1)));
  return sorted(left) === sorted(right);
}

kill.run();
