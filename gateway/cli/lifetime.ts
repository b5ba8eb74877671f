// How a program that serves ends: at SIGTERM or SIGINT it closes in good order; a second signal ends it at once.
import { EXIT, type ExitCode } from './cli-error.js';

export interface Lifetime {
  close(): Promise<void>;
  /** At SIGHUP; without it SIGHUP ends the program like SIGTERM. */
  reload?(): Promise<void>;
}

/** Resolves with the exit code once everything is closed. */
export async function untilSignal({ close, reload }: Lifetime): Promise<ExitCode> {
  const ending: NodeJS.Signals[] = reload === undefined ? ['SIGTERM', 'SIGINT', 'SIGHUP'] : ['SIGTERM', 'SIGINT'];
  let reloading = Promise.resolve();
  const onReload = () => {
    reloading = reloading.then(reload);
  };
  if (reload !== undefined) {
    process.on('SIGHUP', onReload);
  }
  await new Promise<void>((resolve) => {
    for (const signal of ending) {
      process.on(signal, () => resolve());
    }
  });
  const impatient = () => process.exit(EXIT.REFUSED);
  for (const signal of ending) {
    process.removeAllListeners(signal);
    process.on(signal, impatient);
  }
  await close();
  for (const signal of ending) {
    process.off(signal, impatient);
  }
  process.off('SIGHUP', onReload);
  return EXIT.OK;
}
