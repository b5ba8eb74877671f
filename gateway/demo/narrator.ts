// What the demo says: a line with the time since the beginning for each thing that happens, wrapped to the width of a
// terminal; and the list of what had to hold. Colours only on a terminal.
import type { Writable } from 'node:stream';
import type { Clock } from '../../replication/world.js';

const WIDTH = 100;
const MARGIN = 9;

export interface Check {
  what: string;
  held: boolean;
  /** What was seen instead; empty when it held. */
  seen: string;
}

export class Narrator {
  readonly checks: Check[] = [];
  readonly #out: Writable & { isTTY?: boolean };
  readonly #clock: Clock;
  readonly #startedMs: number;

  constructor(out: Writable & { isTTY?: boolean }, clock: Clock) {
    this.#out = out;
    this.#clock = clock;
    this.#startedMs = clock.nowMs();
  }

  heading(text: string): void {
    this.raw(`\n${this.#bold(`== ${text}`)}\n`);
  }

  say(text: string): void {
    for (const [at, line] of wrapped(text).entries()) this.raw(`${at === 0 ? `${this.#seconds()}  ` : ' '.repeat(MARGIN)}${line}\n`);
  }

  /** Said by the gateway, not by the demo. */
  quote(text: string): void {
    for (const [at, line] of wrapped(text, 2).entries()) this.raw(`${at === 0 ? `${this.#seconds()}  ` : ' '.repeat(MARGIN)}| ${line}\n`);
  }

  /** Belongs to the line before. */
  detail(text: string): void {
    for (const line of wrapped(text, 2)) this.raw(`${' '.repeat(MARGIN + 2)}${line}\n`);
  }

  raw(text: string): void {
    this.#out.write(text);
  }

  /** Notes whether something that must hold did, and says so at once if it did not. */
  check(what: string, held: boolean, seen: string): void {
    this.checks.push({ what, held, seen: held ? '' : seen });
    if (!held) this.say(this.#bold(`DID NOT HOLD: ${what}: ${seen}`));
  }

  #seconds(): string {
    return `${((this.#clock.nowMs() - this.#startedMs) / 1000).toFixed(1).padStart(6)}s`;
  }

  #bold(text: string): string {
    return this.#out.isTTY === true ? `\u001b[1m${text}\u001b[0m` : text;
  }
}

function wrapped(text: string, indent = 0): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > WIDTH - MARGIN - indent) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
