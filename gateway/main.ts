#!/usr/bin/env node
// The command `forestall`: hands its arguments to the program in gateway/cli and ends with the program's exit code.
import { runProgram } from './cli/program.js';
import type { StartGateway } from './cli/serve.js';

// A reader that has seen enough (`forestall events | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') {
    process.exit(0);
  }
  throw error;
});

const startGateway: StartGateway = async (options) => (await import('./gateway.js')).startGateway(options);

process.exitCode = await runProgram(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  startGateway,
});
