// qemu-io as a host that stays: commands come to it one by one, each checked by what it prints; patterns are read back at once.
import assert from 'node:assert/strict';
import type { Random } from '../sim/random.js';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

const BLOCK = 4096;
const PROMPT = 'qemu-io> ';

export class QemuIoHost {
  readonly #program: StartedProgram;
  readonly #offset: number;
  readonly #patterns: Uint8Array;
  readonly #random: Random;
  #running = true;
  steps = 0;
  #work: Promise<void> = Promise.resolve();
  #error: Error | null = null;

  private constructor(program: StartedProgram, offset: number, length: number, random: Random) {
    this.#program = program;
    this.#offset = offset;
    this.#patterns = new Uint8Array(length / BLOCK);
    this.#random = random;
  }

  static start(site: Site, uri: string, { offset, length, random }: { offset: number; length: number; random: Random }): QemuIoHost {
    // What it prints must not wait in its buffer for its end.
    const program = StartedProgram.start(site, 'stdbuf', ['-oL', 'qemu-io', '-f', 'raw', '-d', 'unmap', uri], { stdin: true });
    const host = new QemuIoHost(program, offset, length, random);
    host.#work = host.#run();
    return host;
  }

  async progress(count: number): Promise<void> {
    const goal = this.steps + count;
    while (this.steps < goal) {
      if (this.#error !== null) throw this.#error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Ends it; every block must hold its pattern. */
  async stop(): Promise<void> {
    this.#running = false;
    await this.#work;
    if (this.#error !== null) throw this.#error;
    for (let block = 0; block < this.#patterns.length; block += 1) await this.#read(block, 1);
    this.#program.type('quit\n');
    assert.deepEqual(await this.#program.ended, { code: 0, signal: null }, this.#program.tail);
  }

  async #run(): Promise<void> {
    try {
      await this.#program.until(({ stdout }) => stdout.endsWith(PROMPT));
      while (this.#running) {
        await this.#step();
        this.steps += 1;
      }
    } catch (error) {
      this.#error = error as Error;
    }
  }

  async #step(): Promise<void> {
    const block = this.#random.int(this.#patterns.length);
    const blocks = 1 + this.#random.int(Math.min(16, this.#patterns.length - block));
    const pattern = 1 + this.#random.int(255);
    const [verb, value] = (
      [
        [`write -P ${pattern}`, pattern],
        [`write -f -P ${pattern}`, pattern],
        ['write -z', 0],
        ['write -z -u', 0],
        ['discard', null],
        ['flush', null],
        ['read', null],
      ] as const
    )[this.#random.int(7)];
    if (verb === 'flush') {
      await this.#order('flush', /^/);
      return;
    }
    if (verb !== 'read') {
      await this.#order(`${verb} ${this.#offset + block * BLOCK} ${blocks * BLOCK}`, verb === 'discard' ? /^discard \d+/ : /^wrote \d+/);
      // What a discarded block reads as the volume says for all its nodes: zeroes.
      this.#patterns.fill(value ?? 0, block, block + blocks);
    }
    await this.#read(block, blocks);
  }

  async #read(from: number, blocks: number): Promise<void> {
    for (let block = from; block < from + blocks; block += 1)
      await this.#order(`read -P ${this.#patterns[block]} ${this.#offset + block * BLOCK} ${BLOCK}`, /^read \d+/);
  }

  /** Resolves when it asks for the next command: of two at once it would leave the second lying. Anything about a failure ends it. */
  async #order(command: string, done: RegExp): Promise<void> {
    const program = this.#program;
    program.stdout = '';
    program.type(`${command}\n`);
    await program.until(({ stdout }) => stdout.endsWith(PROMPT));
    const said = `${program.stdout}${program.stderr}`;
    assert(done.test(said) && !/fail|error|invalid/i.test(said), `${command}: ${said}`);
  }
}
