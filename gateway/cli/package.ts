// The package this program is part of: its version, and the files that come with it, from the sources as from dist/.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function packageRoot(): string {
  for (let directory = dirname(fileURLToPath(import.meta.url)); ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'package.json')) || directory === dirname(directory)) {
      return directory;
    }
  }
}

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
  return version;
}

/** The commented configuration that `serve` uses when it is given none. */
export function defaultConfigFile(): string {
  return join(packageRoot(), 'config', 'gateway.yaml');
}
