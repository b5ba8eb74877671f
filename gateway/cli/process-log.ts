// The log of a running gateway or agent: JSON lines by pino on stderr, or lines for people when that is a terminal.
// stdout stays free for what a command answers.
import type { Writable } from 'node:stream';
import pino from 'pino';
import type { Log } from '../../replication/world.js';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

export interface ProcessLog extends Log {
  /** Until the configuration is read it is `info`. */
  setLevel(level: LogLevel): void;
}

const LEVEL_NAMES: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };

/** One pino line as people read it: `12:00:01.234 warn  message  key=value`. */
export function lineForPeople(json: string): string {
  const { level, time, msg, ...fields } = JSON.parse(json) as { level: number; time: number; msg?: string };
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${[new Date(time).toISOString().slice(11, 23), (LEVEL_NAMES[level] ?? String(level)).padEnd(5), msg ?? '', ...rest].join(' ')}\n`;
}

export function createLog(stderr: Writable & { isTTY?: boolean }): ProcessLog {
  const forPeople = stderr.isTTY === true;
  const destination = { write: (line: string) => void stderr.write(forPeople ? lineForPeople(line) : line) };
  const logger = pino({ base: null }, destination);
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    setLevel(level) {
      logger.level = level;
    },
  };
}
