// fio over NBD, started with the options a test gives and read at its end: how much it did and what went wrong.
import assert from 'node:assert/strict';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

export interface FioResult {
  reads: number;
  writes: number;
  /** I/O errors and blocks whose contents were wrong. */
  errors: number;
  writeIops: number;
  /** Of the slowest write. */
  writeMsMax: number;
}

interface FioSide {
  total_ios: number;
  iops: number;
  clat_ns: { max: number };
}

export class FioJob {
  readonly program: StartedProgram;
  readonly #started = Date.now();

  private constructor(program: StartedProgram) {
    this.program = program;
  }

  static start(site: Site, uri: string, options: string[]): FioJob {
    const args = ['--name=job', '--ioengine=nbd', `--uri=${uri}`, '--output-format=json', '--verify_state_save=0', ...options];
    return new FioJob(StartedProgram.start(site, 'fio', args));
  }

  get running(): boolean {
    return this.program.running;
  }

  /** Resolves at its end, which must come within `timeoutMs`; an exit code other than 0 fails the test. */
  async result(timeoutMs = 120_000): Promise<FioResult> {
    const late = setTimeout(() => this.program.signal('SIGKILL'), timeoutMs);
    const ending = await this.program.ended;
    clearTimeout(late);
    const { stdout, stderr } = this.program;
    assert.deepEqual(ending, { code: 0, signal: null }, `fio after ${Date.now() - this.#started} ms: ${stderr}${stdout.slice(0, 2000)}`);
    const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
      jobs: { error: number; total_err?: number; read: FioSide; write: FioSide }[];
    };
    const sum = (count: (job: (typeof jobs)[number]) => number) => jobs.reduce((total, job) => total + count(job), 0);
    return {
      reads: sum(({ read }) => read.total_ios),
      writes: sum(({ write }) => write.total_ios),
      errors: sum(({ error, total_err }) => Number(error !== 0) + (total_err ?? 0)),
      writeIops: Math.round(sum(({ write }) => write.iops)),
      writeMsMax: Math.max(...jobs.map(({ write }) => write.clat_ns.max / 1e6)),
    };
  }
}
