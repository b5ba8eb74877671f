// NBD servers that differ in what they can, each as a storage node of a gateway: with one blank export of the same size.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { blankImage } from './blank-image.js';
import { eventually } from './eventually.js';
import { untilListening } from './listening.js';
import { runPeer } from './nbd-testbed.js';
import { NbdkitNode } from './nbdkit-node.js';
import { NodeAgentProcess } from './node-agent-process.js';
import { freePort } from './peers.js';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

export interface UnlikeServer {
  /** What the configuration says of it. */
  config: Record<string, unknown>;
  export: string;
  /** Where a client attaches its copy. */
  uri(exportName: string): string;
}

type ServerName =
  | 'nbdkit file'
  | 'nbdkit memory'
  | 'nbdkit with large blocks'
  | 'nbdkit that can little'
  | 'qemu-nbd'
  | 'nbd-server'
  | 'agent';

export function unlikeServers(site: Site, sizeBytes: number): Record<ServerName, () => Promise<UnlikeServer>> {
  const image = async (name: string): Promise<string> => {
    const path = site.path(`${name}.img`);
    await blankImage(path, sizeBytes);
    return path;
  };
  const plain = (port: number, exportName: string): UnlikeServer => {
    const address = `nbd://127.0.0.1:${port}`;
    return {
      config: { nbd: address, capacity: '1GiB', spares: [exportName], zombie: '500ms' },
      export: exportName,
      uri: () => `${address}/${exportName}`,
    };
  };
  const nbdkit = async (args: string[]): Promise<UnlikeServer> => plain((await NbdkitNode.start(site, args)).port, '');
  return {
    /** Everything but extended headers and zeroes that are fast. */
    'nbdkit file': async () => nbdkit(['file', await image('nbdkit-file')]),
    /** The same, with holes where zeroes were written. */
    'nbdkit memory': async () => nbdkit(['memory', String(sizeBytes)]),
    /** Requests of at most 64 KiB and blocks of 4 KiB only. */
    'nbdkit with large blocks': async () => {
      const policy = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=64K', 'blocksize-error-policy=error'];
      return nbdkit(['--filter=blocksize-policy', 'file', await image('nbdkit-blocks'), ...policy]);
    },
    /** No structured replies, no trim, no zeroes, no FUA, one connection. */
    'nbdkit that can little': async () => {
      const little = ['--filter=nozero', '--filter=fua', '--filter=multi-conn', '--filter=noextents'];
      return nbdkit(['--no-sr', ...little, 'file', await image('nbdkit-little'), 'zeromode=none', 'multi-conn-mode=disable']);
    },
    /** Structured replies, zeroes fast and as holes. */
    'qemu-nbd': async () => {
      const port = await freePort();
      const args = ['-f', 'raw', '-x', 'disk', '-b', '127.0.0.1', '-p', `${port}`, '-t', '-e', '16', '--discard=unmap'];
      await untilListening(StartedProgram.start(site, 'qemu-nbd', [...args, await image('qemu')]), port);
      return plain(port, 'disk');
    },
    /** Simple replies and no block status. */
    'nbd-server': async () => {
      const port = await freePort();
      const file = site.path('nbd-server.conf');
      const config = [
        '[generic]',
        `port = ${port}`,
        'listenaddr = 127.0.0.1',
        '[disk]',
        `exportname = ${await image('nbd-server')}`,
        'flush = true',
        'fua = true',
        'trim = true',
      ];
      await writeFile(file, `${config.join('\n')}\n`);
      // It serves more than one client only as a daemon.
      const pidFile = site.path('nbd-server.pid');
      site.onClose(async () => {
        if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')));
      });
      const { status, stderr } = await runPeer('nbd-server', ['-C', file, '-p', pidFile]);
      assert.equal(status, 0, stderr);
      await eventually('nbd-server wrote its pid', async () => Number(readFileSync(pidFile, 'utf8')) > 0, Boolean);
      return plain(port, 'disk');
    },
    /** Extended headers. */
    agent: async () => {
      const agent = await NodeAgentProcess.start(site, 'agent');
      return { config: { agent: agent.url }, export: '', uri: (name) => agent.uri(name) };
    },
  };
}
