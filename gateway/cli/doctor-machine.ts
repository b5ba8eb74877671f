// What the doctor sees on the gateway's own machine: the data directory and the store in it, limits of the system, what
// is installed. Writes nothing, not even a lock.
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Config } from '../../config/config.js';
import { formatBytes } from '../../config/units.js';
import { loadFlock } from '../store/file-lock.js';
import { isAlive, type ProcessIdentity, parseIdentity } from '../store/process-identity.js';
import { checkStore, type StoreReport } from '../store/store-check.js';
import { RECORDS_NAME } from '../store/store-format.js';
import { missingStore } from '../store/store-verification.js';
import { type DoctorFinding, ok, problem, warning } from './doctor-finding.js';

const SPACE_PROBLEM_BYTES = 64 * 1024 * 1024;
const SPACE_WARNING_BYTES = 1024 * 1024 * 1024;
/** Files the gateway opens besides connections. */
const FILES_BESIDES = 64;
const BACKLOG_MIN = 512;

export interface DataFindings {
  findings: DoctorFinding[];
  /** The process that uses the directory now; null: nobody. */
  user: ProcessIdentity | null;
  /** Null: there is none, it cannot be read, or a gateway uses it. */
  store: StoreReport | null;
}

export function lookAtData(directory: string): DataFindings {
  const path = resolve(directory);
  const subject = 'data directory';
  const findings: DoctorFinding[] = [];
  let existing = path;
  while (!existsSync(existing)) existing = dirname(existing);
  try {
    accessSync(existing, constants.W_OK);
    findings.push(...space(subject, existing));
  } catch {
    findings.push(
      problem(subject, `${existing} cannot be written`, 'let the user that the gateway runs as own it, on a writable file system'),
    );
  }
  if (existing !== path)
    return { findings: [...findings, ok('store', `${path} does not exist yet: the first start makes it`)], user: null, store: null };
  const user = userOf(path);
  if (user !== null) {
    return { findings: [...findings, ok('store', `process ${user.pid} uses it, so its records are not read here`)], user, store: null };
  }
  const { finding, store } = lookAtStore(path);
  return { findings: [...findings, finding], user, store };
}

function space(subject: string, path: string): DoctorFinding[] {
  const { bavail, bsize } = statfsSync(path);
  const freeBytes = bavail * bsize;
  const message = `${formatBytes(freeBytes)} are free in ${path}`;
  const advice = 'make room: when it is full, writes to mirrored volumes wait and nothing can be mirrored or flipped';
  if (freeBytes < SPACE_PROBLEM_BYTES) return [problem(subject, message, advice)];
  return [freeBytes < SPACE_WARNING_BYTES ? warning(subject, message, advice) : ok(subject, message)];
}

function userOf(path: string): ProcessIdentity | null {
  try {
    const identity = parseIdentity(readFileSync(join(path, 'lock'), 'utf8'));
    return identity !== null && isAlive(identity) ? identity : null;
  } catch {
    return null;
  }
}

function lookAtStore(path: string): { finding: DoctorFinding; store: StoreReport | null } {
  const advice = 'docs/store.md says what to do; "forestall store check" names all of it';
  try {
    if (!existsSync(join(path, RECORDS_NAME))) {
      const missing = missingStore(path);
      if (missing === null) return { finding: ok('store', 'there is none yet: the first start makes it'), store: null };
      return { finding: problem('store', missing.ok ? '' : missing.message, advice), store: null };
    }
    const checked = checkStore(path);
    if (!checked.ok) return { finding: problem('store', checked.message, advice), store: null };
    const store = checked.value;
    if (!store.sound) return { finding: problem('store', `it is damaged: ${store.findings[0].message}`, advice), store };
    const what = `sound, ${store.volumes.length} volumes, ${formatBytes(store.sizeBytes)}`;
    return {
      finding: store.findings.length > 0 ? warning('store', `${what}, ${store.findings.length} remarks`, advice) : ok('store', what),
      store,
    };
  } catch (error) {
    return { finding: problem('store', `it cannot be read: ${(error as Error).message}`, advice), store: null };
  }
}

function firstNumber(path: string, pattern: RegExp): number | null {
  try {
    const found = pattern.exec(readFileSync(path, 'utf8'));
    return found === null ? null : Number(found[1]);
  } catch {
    return null;
  }
}

export async function lookAtSystem(config: Config, wallMs: number): Promise<DoctorFinding[]> {
  const findings: DoctorFinding[] = [];
  const { connectionsMax } = config.server.nbd;
  const wanted =
    connectionsMax + config.nodes.reduce((sum, node) => sum + node.connectionsMax * Math.max(1, config.volumes.length), 0) + FILES_BESIDES;
  // The gateway's limit may be another than this shell's: a unit file sets it.
  const files = firstNumber('/proc/self/limits', /^Max open files\s+\d+\s+(\d+)/m);
  if (files !== null) {
    const message = `${files} files may be open, ${wanted} may be needed`;
    findings.push(
      files < wanted
        ? warning('open files', message, 'raise it (LimitNOFILE= in a unit file), or lower server.nbd.limits.connections')
        : ok('open files', message),
    );
  }
  const backlog = firstNumber('/proc/sys/net/core/somaxconn', /(\d+)/);
  if (backlog !== null) {
    const message = `net.core.somaxconn is ${backlog}`;
    findings.push(
      backlog < BACKLOG_MIN
        ? warning('kernel', message, `set it to ${BACKLOG_MIN} or more, or hosts that attach all at once are kept waiting`)
        : ok('kernel', message),
    );
  }
  const locks = await loadFlock();
  findings.push(
    locks !== null
      ? ok('koffi', "installed: locks are the kernel's, agents can punch holes")
      : warning(
          'koffi',
          'not installed: the data directory is locked by process number, agents cannot punch holes',
          'npm install (it is an optional dependency)',
        ),
  );
  const year = new Date(wallMs).getUTCFullYear();
  if (year < 2025)
    findings.push(problem('clock', `this machine's clock says ${year}`, 'set it: events, certificates and predictions carry its time'));
  return findings;
}
