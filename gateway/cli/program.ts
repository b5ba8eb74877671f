// The commands, their options and their help. What a command does is loaded only when it is run, so that asking the API
// starts fast. Ends with an exit code and never with a stack trace.
import type { Writable } from 'node:stream';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import type { DemoOptions } from '../demo/demo.js';
import type { ApiClient } from './api-client.js';
import { CliError, EXIT, type ExitCode } from './cli-error.js';
import type { ConformanceOptions } from './nbd-conformance.js';
import { Output } from './output.js';
import { packageVersion } from './package.js';
import type { ServeOptions, StartGateway } from './serve.js';

const DEFAULT_API = 'http://127.0.0.1:8080';

export interface ProgramWorld {
  stdout: Writable;
  stderr: Writable;
  env: NodeJS.ProcessEnv;
  /** Loads gateway/gateway.ts. */
  startGateway: StartGateway;
}

interface GlobalOptions {
  api: string;
  json?: boolean;
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It is a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

const port = wholeNumber(0, 65_535);
const eventId = wholeNumber(0, Number.MAX_SAFE_INTEGER);
const limit = wholeNumber(1, 1_000);

function probability(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError('It is a number from 0 to 1.');
  }
  return value;
}

const EXIT_HELP = `
Exit codes:
  0  done
  1  refused or failed; stderr says why
  2  the command was not understood
  3  the API cannot be reached
  4  there is no such volume, node or mirror`;

const START_HELP = `
First steps:
  $ forestall demo                       see what it does, in two minutes
  $ forestall serve                      three nodes and one volume, to try things out
  $ forestall volumes                    what it serves, from another terminal
  $ forestall mirror vol0 --wait         copy vol0 to another node while hosts write
  $ forestall flip vol0                  serve it from there
  $ forestall events --follow            watch what happens
  $ forestall verdict a --probability 0.99 --reason "smells of smoke"
                                         let its volumes leave node a by themselves`;

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ forestall ${line}`).join('\n')}`;
}

/** Builds the program; `finish` takes the exit code of the command that ran. */
function buildProgram(world: ProgramWorld, finish: (code: ExitCode) => void): Command {
  const program = new Command('forestall')
    .description('A block gateway that predicts storage-node failures and moves volumes before they happen.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .option('--api <url>', 'address of the gateway (environment: FORESTALL_API)', world.env.FORESTALL_API ?? DEFAULT_API)
    .option('--json', 'print JSON for programs')
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .configureOutput({ writeOut: (text) => void world.stdout.write(text), writeErr: (text) => void world.stderr.write(text) })
    .showHelpAfterError('Add --help to see how it is used.')
    .addHelpText('after', `${START_HELP}\n${EXIT_HELP}`)
    .exitOverride();

  const output = () => new Output(world.stdout, world.stderr, program.opts<GlobalOptions>().json === true);
  const command = (usage: string, description: string) => program.command(usage).description(description);
  /** An action that needs nothing but files and sockets of its own. */
  const local = <A extends unknown[]>(run: (output: Output, ...args: A) => Promise<ExitCode>) => {
    return async (...args: A) => finish(await run(output(), ...args));
  };
  /** An action that asks the API. */
  const remote = <A extends unknown[]>(run: (api: ApiClient, output: Output, ...args: A) => Promise<ExitCode>) => {
    return async (...args: A) => {
      const { ApiClient } = await import('./api-client.js');
      finish(await run(new ApiClient(program.opts<GlobalOptions>().api), output(), ...args));
    };
  };

  command('serve', 'run the gateway until SIGTERM or SIGINT; SIGHUP takes up a changed configuration')
    .option('--config <file>', 'configuration (default: the commented example that comes with Forestall)')
    .option('--adopt', 'take over targets that another, lost data directory served before')
    .addHelpText('after', examples('serve', 'serve --config /etc/forestall/gateway.yaml'))
    .action(local(async (out, options: ServeOptions) => (await import('./serve.js')).serve(world.startGateway, out, options)));
  command('node', 'run a storage-node agent: exports on sparse files in a directory')
    .requiredOption('--dir <directory>', 'where the exports are kept; made if it is missing')
    .requiredOption('--port <port>', 'NBD port; 0 chooses a free one', port)
    .requiredOption('--api-port <port>', 'port of its API; 0 chooses a free one', port)
    .option('--host <host>', 'address to listen on', '127.0.0.1')
    .option('--api-host <host>', 'address of its API (default: that of --host)')
    .option('--tls-certificate <file>', 'NBD over TLS alone, with this certificate (PEM)')
    .option('--tls-key <file>', "the certificate's key (PEM)")
    .option('--tls-client-authority <file>', 'only for clients with a certificate of this authority (PEM), or a pre-shared key')
    .option('--tls-psk <file>', 'NBD over TLS alone, with the pre-shared keys of this file (identity:key in each line)')
    .addHelpText(
      'after',
      examples(
        'node --dir /srv/forestall --port 10811 --api-port 8091',
        'node --dir /srv/forestall --port 10811 --api-port 8091 --host 10.0.0.2',
      ),
    )
    .action(local(async (out, options) => (await import('./node-agent.js')).runNode(out, options)));
  command('demo', 'see a failure predicted, a volume moved and a false alarm undone, in about two minutes')
    .option('--fast', 'the same story in half a minute')
    .addHelpText('after', examples('demo'))
    .action(local(async (out, options: DemoOptions) => (await import('../demo/demo.js')).runDemo(out, options)));
  command('check-config <file>', 'say everything that is wrong with a configuration, without opening anything')
    .addHelpText('after', examples('check-config gateway.yaml'))
    .action(local(async (out, file: string) => (await import('./check-config.js')).checkConfig(out, file)));
  command('doctor', 'look at nodes, data directory and machine, and say what is wrong and what to do; changes nothing')
    .requiredOption('--config <file>', 'the configuration to look at')
    .addHelpText('after', `${examples('doctor --config gateway.yaml')}\n\nExit codes: 0 all is right, 1 warnings, 2 problems.`)
    .action(local(async (out, options: { config: string }) => (await import('./doctor.js')).runDoctor(out, options)));
  command('nbd-conformance [uri...]', 'check an NBD server, any one, against the rules of the protocol')
    .option('--write', 'check writing, too: DESTROYS the contents of the export')
    .option('--only <pattern>', 'only rules whose id contains this; * stands for any characters')
    .option('--list', 'print the rules instead')
    .option('--all', 'print every rule with its outcome, not only those that failed')
    .option('--markdown', 'print the scorecard as Markdown')
    .option('--timeout <seconds>', 'for each rule', wholeNumber(1, 3600), 10)
    .option('--restart-command <command>', 'starts the server again when a rule has ended it')
    .option('--restart-timeout <seconds>', 'how long a server that is gone is waited for', wholeNumber(0, 3600), 5)
    .addHelpText(
      'after',
      `${examples(
        'nbd-conformance nbd://127.0.0.1:10809/disk',
        'nbd-conformance --write "nbd+unix:///scratch?socket=/tmp/nbd.sock"',
        'nbd-conformance --list --only "status.*"',
      )}

Several URIs are one server with different exports: a rule is checked wherever it applies.

Exit codes: 0 every rule that applies passed, 1 some failed, 2 nothing could be checked.`,
    )
    .action(
      local(async (out, uris: string[], options: ConformanceOptions) => {
        const { runConformance } = await import('./nbd-conformance.js');
        return runConformance(out, uris, options);
      }),
    );
  const store = command('store', 'check, write out or take in the records of a data directory that no gateway uses').addHelpText(
    'after',
    examples('store check --data /var/lib/forestall', 'store export --data /var/lib/forestall store.jsonl'),
  );
  const storeCommand = (usage: string, description: string) =>
    store
      .command(usage)
      .description(description)
      .option('--data <directory>', 'the data directory (server.data of the configuration)')
      .option('--config <file>', 'the configuration that names it');
  storeCommand('check', 'read every record and say what is damaged; exit code 1 if something is')
    .addHelpText('after', examples('store check --data /var/lib/forestall'))
    .action(local(async (out, options) => (await import('./store.js')).checkStoreAt(out, options)));
  storeCommand('export <file>', 'write all records to one portable, checksummed file')
    .option('--salvage', 'leave out what is damaged')
    .addHelpText('after', examples('store export --data /var/lib/forestall store.jsonl'))
    .action(local(async (out, file: string, options) => (await import('./store.js')).exportStoreAt(out, file, options)));
  storeCommand('import <file>', 'make the records of a new directory from such a file')
    .option('--replace', 'the directory has records; keep them beside')
    .option('--outdated', 'the gateway ran since the export: copy every mirror again')
    .addHelpText('after', examples('store import --data /var/lib/forestall store.jsonl'))
    .action(local(async (out, file: string, options) => (await import('./store.js')).importStoreAt(out, file, options)));

  command('volumes [name]', 'show all volumes, or one with its mirrors')
    .addHelpText('after', examples('volumes', 'volumes vol0', 'volumes vol0 --json'))
    .action(remote(async (api, out, name?: string) => (await import('./volume-commands.js')).showVolumes(api, out, name)));
  command('grow <volume> <size>', 'make a volume larger, while hosts go on; they see it when they attach again')
    .addHelpText('after', examples('grow vol0 20GiB', 'grow vol0 21474836480'))
    .action(
      remote(async (api, out, volume: string, size: string) => (await import('./volume-commands.js')).growVolume(api, out, volume, size)),
    );
  command('nodes [id]', 'show all nodes, or one with its verdict')
    .addHelpText('after', examples('nodes', 'nodes a'))
    .action(remote(async (api, out, id?: string) => (await import('./node-commands.js')).showNodes(api, out, id)));
  command('mirror <volume>', 'start a mirror of a volume, or drop one')
    .option('--node <id>', 'the node to mirror to (default: the best one)')
    .option('--wait', 'wait until the mirror is complete')
    .option('--drop', 'drop the mirror and free its space')
    .addHelpText('after', examples('mirror vol0', 'mirror vol0 --node b --wait', 'mirror vol0 --node b --drop'))
    .action(
      remote(async (api, out, volume: string, options: { node?: string; wait?: boolean; drop?: boolean }) => {
        const { addMirror, dropMirror } = await import('./volume-commands.js');
        if (options.drop === true && options.wait === true) {
          throw new CliError(EXIT.USAGE, 'Choose one of --wait and --drop.');
        }
        return options.drop === true ? dropMirror(api, out, volume, options.node) : addMirror(api, out, volume, options);
      }),
    );
  command('flip <volume>', 'serve a volume from its mirror, while hosts go on; prints the certificate')
    .option('--node <id>', 'the mirror to flip to (default: the best one)')
    .addHelpText('after', examples('flip vol0', 'flip vol0 --node b'))
    .action(
      remote(async (api, out, volume: string, options: { node?: string }) =>
        (await import('./volume-commands.js')).flipVolume(api, out, volume, options.node),
      ),
    );
  command('takeover <volume>', 'give up a node that will not come back, for a mirror that may be older here and there')
    .option('--node <id>', 'the mirror that takes over (default: the one that lacks the least)')
    .option('--accept-loss', 'what the mirror lacks is lost, and that is agreed to')
    .addHelpText('after', examples('takeover vol0', 'takeover vol0 --node b --accept-loss'))
    .action(
      remote(async (api, out, volume: string, options: { node?: string; acceptLoss?: boolean }) =>
        (await import('./volume-commands.js')).takeOver(api, out, volume, options),
      ),
    );
  command('rollback <volume>', 'undo: before a flip the mirror is dropped, after it the volume flips back')
    .addHelpText('after', examples('rollback vol0'))
    .action(remote(async (api, out, volume: string) => (await import('./volume-commands.js')).rollBack(api, out, volume)));
  command('scrub <volume>', 'compare every copy of a volume and repair what is wrong')
    .option('--wait', 'wait for the report; exit code 1 if something could not be repaired')
    .addHelpText('after', examples('scrub vol0', 'scrub vol0 --wait'))
    .action(
      remote(async (api, out, volume: string, options: { wait?: boolean }) =>
        (await import('./volume-commands.js')).scrubVolume(api, out, volume, options.wait === true),
      ),
    );

  command('verdicts', 'show the latest verdicts over nodes')
    .option('--node <id>', 'only those over this node')
    .option('--firing', 'only those that make volumes leave')
    .option('--limit <count>', 'the newest so many', limit)
    .addHelpText('after', examples('verdicts', 'verdicts --node a --firing'))
    .action(remote(async (api, out, options) => (await import('./node-commands.js')).showVerdicts(api, out, options)));
  command('verdict <node>', 'give a verdict over a node; its volumes leave if it is above the threshold')
    .requiredOption('--probability <0..1>', 'that the node fails', probability)
    .requiredOption('--reason <text>', 'why; it appears in events and certificates')
    .addHelpText('after', examples('verdict a --probability 0.99 --reason "fan broken"'))
    .action(
      remote(async (api, out, node: string, options: { probability: number; reason: string }) =>
        (await import('./node-commands.js')).giveVerdict(api, out, node, options),
      ),
    );
  command('events', 'show what happened, or watch it happen')
    .option('--follow', 'go on with what happens; with --json one event a line')
    .option('--since <id>', 'only events after this one', eventId)
    .option('--limit <count>', 'at most so many of the history', limit)
    .option('--type <type>', 'volume.flipped, or volume for all of its kind')
    .option('--volume <name>', 'only events of this volume')
    .option('--node <id>', 'only events of this node')
    .addHelpText('after', examples('events', 'events --follow', 'events --since 120 --type volume --json'))
    .action(remote(async (api, out, options) => (await import('./event-commands.js')).showEvents(api, out, options)));
  return program;
}

/** `args` without the program's own name. Resolves with the exit code when the command has ended. */
export async function runProgram(args: string[], world: ProgramWorld): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.OK;
  const program = buildProgram(world, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? EXIT.OK : EXIT.USAGE;
    }
    if (error instanceof CliError) {
      world.stderr.write(`forestall: ${error.message}\n`);
      return error.exitCode;
    }
    const { message, stack } = error as Error;
    world.stderr.write(`forestall: this is a defect of Forestall: ${world.env.FORESTALL_DEBUG === undefined ? message : stack}\n`);
    return EXIT.REFUSED;
  }
}
