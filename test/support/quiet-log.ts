// A log that keeps what it is told instead of printing it.
import type { Log } from '../../replication/world.js';

export class QuietLog implements Log {
  /** `warn: message`, in order. */
  readonly lines: string[] = [];
  /** What was told besides, at the same places. */
  readonly fields: object[] = [];

  debug(fields: object, message: string): void {
    this.fields.push(fields);
    this.lines.push(`debug: ${message}`);
  }

  info(fields: object, message: string): void {
    this.fields.push(fields);
    this.lines.push(`info: ${message}`);
  }

  warn(fields: object, message: string): void {
    this.fields.push(fields);
    this.lines.push(`warn: ${message}`);
  }

  error(fields: object, message: string): void {
    this.fields.push(fields);
    this.lines.push(`error: ${message}`);
  }
}
