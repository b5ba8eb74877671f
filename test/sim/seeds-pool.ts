// Processes that run seeds: each gets the next task when it is done with one.
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SeedReport, SeedsTask } from './seed-report.js';

/** Of the sources. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Most of what a run makes is short-lived: a larger nursery spares a quarter of the time. */
const QUICK = ['--max-semi-space-size=32'];

/** One process, on the sources in `directory`, that works until there is nothing left. Rejects when it dies. */
export function employ(
  directory: string,
  draw: () => SeedsTask | null,
  take: (report: SeedReport, task: SeedsTask) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const path = join(directory, 'test/sim/seeds-worker.ts');
    const worker = fork(path, { execArgv: [...process.execArgv, ...QUICK], cwd: directory });
    let task: SeedsTask | null = null;
    const give = (): void => {
      task = draw();
      if (task === null) worker.disconnect();
      else worker.send(task);
    };
    worker.on('message', (reports: SeedReport[]) => {
      for (const report of reports) take(report, task!);
      give();
    });
    worker.on('error', reject);
    worker.on('exit', (code) => {
      if (task === null) resolve();
      else reject(new Error(`a process ended with code ${code} in seeds ${task.from} to ${task.from + task.count - 1}`));
    });
    give();
  });
}
