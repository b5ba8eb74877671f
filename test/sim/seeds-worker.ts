// A process that runs the seeds it is told to and reports each: the violations in words, and what happened how often.
// One simulation at a time; where the processes are as many as the cores, the seeds go as fast as they can.
import { findSystem } from './systems.js';
import { coverSeed, type SeedReport, runSeed, type SeedsTask } from './seed-report.js';

process.on('message', (task: SeedsTask) => void work(task));

async function work(task: SeedsTask): Promise<void> {
  const { crashAt } = task;
  const system = findSystem(task.system);
  const reports: SeedReport[] = [];
  for (let seed = task.from; seed < task.from + task.count; seed += 1) {
    const options = { ...task.options, seed };
    reports.push(await (crashAt === undefined ? runSeed(system, options) : coverSeed(system, options, crashAt)));
  }
  process.send!(reports);
}
