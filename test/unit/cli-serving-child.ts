// The child of cli-process.test.ts: `forestall serve` over a gateway that only says what it is told to do.
import { runProgram } from '../../gateway/cli/program.js';

let reloads = 0;
process.exitCode = await runProgram(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  async startGateway({ configFile, log }) {
    if (configFile.endsWith('.bad.yaml')) {
      throw new Error(`${configFile}:3:1 nodes: is wrong`);
    }
    log.info({ configFile }, 'started');
    const alive = setInterval(() => {}, 60_000);
    return {
      addresses: {
        nbd: { host: '0.0.0.0', port: 10809 },
        unix: '/run/forestall.sock',
        tls: 'off',
        api: { host: '::1', port: 8081 },
        volumes: ['vol0', 'a volume'],
      },
      async reload() {
        reloads++;
        return reloads === 1
          ? { ok: true, value: { changes: ['volume v was added'] } }
          : { ok: false, code: 'config-invalid', message: 'It is wrong.' };
      },
      async close() {
        clearInterval(alive);
        process.stdout.write('closed\n');
      },
    };
  },
});
