// Where a command writes: results to stdout, all that is said beside them to stderr. `--json` prints what the API
// answered; without it a command gives a text made for people.
import type { Writable } from 'node:stream';

export class Output {
  constructor(
    readonly stdout: Writable,
    readonly stderr: Writable,
    readonly json: boolean,
  ) {}

  /** `human` is made only when it is wanted. */
  result(value: unknown, human: () => string): void {
    this.stdout.write(this.json ? `${JSON.stringify(value, null, 2)}\n` : human());
  }

  /** One of many values, as they come: with `--json` each is one line. */
  item(value: unknown, human: () => string): void {
    this.stdout.write(this.json ? `${JSON.stringify(value)}\n` : human());
  }

  note(sentence: string): void {
    this.stderr.write(`${sentence}\n`);
  }
}
