// Where our own modules are that run as processes: beside this file, built (.js) or as sources (.ts), whichever this is.
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

const ending = extname(fileURLToPath(import.meta.url));

/** `name` is relative to this directory and has no ending, e.g. `./relay` or `../gateway/main`. */
export function modulePath(name: string): string {
  return fileURLToPath(new URL(name + ending, import.meta.url));
}
