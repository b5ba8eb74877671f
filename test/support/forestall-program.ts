// The built command `forestall`, as tests start it. FORESTALL_PROGRAM names another build's main.js.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ran, runPeer } from './nbd-testbed.js';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = process.env.FORESTALL_PROGRAM ?? join(ROOT, 'dist', 'gateway', 'main.js');

/** Starts a command that goes on running. */
export function startForestall(site: Site, args: string[]): StartedProgram {
  return StartedProgram.start(site, process.execPath, [MAIN, ...args]);
}

/** Runs a command to its end. */
export function runForestall(args: string[]): Promise<Ran> {
  return runPeer(process.execPath, [MAIN, ...args], { timeoutMs: 60_000 });
}
