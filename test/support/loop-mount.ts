// A volume of the gateway as a mounted file system of this machine: nbdfuse shows it as a file, a loop device as a disk. All of it is
// in mount namespaces of its own, and vanishes when its programs end, whatever state it is in: loop devices are freed, nothing is
// left for the next test. Needs root.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { eventually } from './eventually.js';
import type { Disk, FileSystem } from './file-system.js';
import { type Shell, ShellPort } from './shell.js';
import type { Site } from './site.js';
import { StartedProgram } from './started-program.js';

const NAMESPACE = ['--mount', '--propagation', 'private'];

/** Why this machine cannot mount these file systems so; null when it can. */
export function noLoopMount(fileSystems: FileSystem[]): string | null {
  for (const device of ['/dev/fuse', '/dev/loop-control']) if (!existsSync(device)) return `there is no ${device}`;
  if (spawnSync('unshare', [...NAMESPACE, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], { stdio: 'ignore' }).status !== 0)
    return 'run it as root';
  const known = (name: string) => readFileSync('/proc/filesystems', 'utf8').includes(`\t${name}\n`);
  const lacking = fileSystems.find(({ name }) => !known(name) && spawnSync('modprobe', [name], { stdio: 'ignore' }).status !== 0);
  return lacking === undefined ? null : `the kernel has no ${lacking.name}`;
}

export class LoopMount implements Disk {
  readonly shell: Shell;
  readonly #nbdfuse: StartedProgram;

  private constructor(nbdfuse: StartedProgram, shell: Shell) {
    this.#nbdfuse = nbdfuse;
    this.shell = shell;
  }

  /** Shows `uri` as a file, through a page cache that holds nothing yet. `pool` is what files are made of. */
  static async attach(site: Site, uri: string, fileSystem: FileSystem, pool: Buffer): Promise<LoopMount> {
    const [directory, tree] = [site.path(`${fileSystem.name}.nbdfuse`), site.path(`${fileSystem.name}.tree`)];
    const [ready, poolFile] = [site.path(`${fileSystem.name}.pid`), site.path(`${fileSystem.name}.pool`)];
    await mkdir(directory, { recursive: true });
    await mkdir(tree, { recursive: true });
    await writeFile(poolFile, pool);
    await writeFile(ready, '');
    // The program behind a mounted file must not be the last in the namespace that the mount on it is in: it would wait for itself.
    const nbdfuse = StartedProgram.start(site, 'unshare', [...NAMESPACE, 'nbdfuse', '-P', ready, `${directory}/`, uri]);
    await eventually(
      'nbdfuse serves',
      () => stat(ready),
      ({ size }) => size > 0 || !nbdfuse.running,
    );
    const port = await ShellPort.open(site);
    const inside = ['--target', String(nbdfuse.pid), '--mount', 'unshare', ...NAMESPACE, '--pid', '--fork', '--kill-child'];
    const dial = ['busybox', 'nc', '127.0.0.1', String(port.port), '-e', 'busybox', 'sh'];
    const shell = await port.shell(StartedProgram.start(site, 'nsenter', [...inside, ...dial]));
    // Not busybox's mount: that gives up when another takes the loop device that it has chosen.
    await shell.run(`disk=${directory}/nbd tree=${tree} pool=${poolFile} mount='/usr/bin/env mount'`);
    return new LoopMount(nbdfuse, shell);
  }

  async detach(): Promise<void> {
    await this.shell.program.kill();
    await this.#nbdfuse.kill();
  }

  async crash(): Promise<void> {
    await this.#nbdfuse.kill();
    await this.shell.program.kill();
  }
}
