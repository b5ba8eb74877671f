// What the doctor sees of the nodes, by the gateway's own connections and handshakes: are they there, may their exports hold
// the volumes, who else could write to them. Reads nothing but what a handshake says, and writes nothing.
import { isIP } from 'node:net';
import { accessSync, constants, existsSync } from 'node:fs';
import { request } from 'undici';
import type { Config, NodeConfig } from '../../config/config.js';
import { plainestTls } from '../../config/tls.js';
import { formatBytes, formatDuration } from '../../config/units.js';
import type { Clock } from '../../replication/world.js';
import { AgentClient } from '../agent/client.js';
import type { TargetRef } from '../control.js';
import { probeExport } from '../fleet/probe.js';
import { HttpSource } from '../health/http-source.js';
import { readPage } from '../health/page.js';
import type { Negotiated } from '../nbd/client-handshake.js';
import { NetDialer } from '../net-wire.js';
import type { NodeFacts } from '../placement/node-facts.js';
import { featuresOf, findMismatch } from '../upstream/features.js';
import { loadNodeSecurity } from '../tls/client-security.js';
import { Link } from '../upstream/link.js';
import { describeAddress, type WireAddress } from '../wire.js';
import { type DoctorFinding, ok, problem, warning } from './doctor-finding.js';

const HANDSHAKE_MS = 5_000;
const CLOCK_MS = 5_000;
const SKEW_WARNING_MS = 5_000;
/** Hosts may use any unit up to this before a node that insists on more is refused. */
const BLOCK_MINIMUM_MAX = 4096;

/** A copy of a volume, as the store or the configuration has it. */
export interface KnownCopy {
  volume: string;
  sizeBytes: number;
  target: TargetRef;
  role: 'active' | 'mirror';
  epoch: number;
}

export interface NodeFindings {
  findings: DoctorFinding[];
  facts: NodeFacts;
}

export interface DoctorWorld {
  config: Config;
  clock: Clock;
  /** A gateway uses the nodes at this moment. */
  serving: boolean;
  copies: KnownCopy[];
}

export async function lookAtNode(node: NodeConfig, world: DoctorWorld): Promise<NodeFindings> {
  const copies = world.copies.filter(({ target }) => target.node === node.id);
  const looked =
    node.kind === 'plain'
      ? await lookAtPlain(node, copies, world)
      : node.kind === 'agent'
        ? await lookAtAgent(node, copies, world)
        : lookAtEmbedded(node);
  const findings = [...looked.findings, ...(await lookAtHealth(node, world.clock))];
  return { findings, facts: factsOf(node, copies.length, looked) };
}

interface Looked {
  findings: DoctorFinding[];
  state: 'up' | 'down' | 'unknown';
  reason: string | null;
  capacityBytes: number | null;
  freeBytes: number | null;
  spares: { export: string; sizeBytes: number | null }[];
}

function factsOf(node: NodeConfig, copies: number, { state, reason, capacityBytes, freeBytes, spares }: Looked): NodeFacts {
  const { id, zone, site } = node;
  const idle = { verdict: null, latency: null, load: { iops: 0, bytesPerSecond: 0 }, utilisation: null };
  return {
    ...idle,
    id,
    zone,
    site,
    kind: node.kind === 'plain' ? 'plain' : 'agent',
    state,
    reason,
    capacityBytes: node.capacityBytes ?? capacityBytes,
    freeBytes,
    spares,
    copies,
  };
}

async function lookAtPlain(node: NodeConfig & { kind: 'plain' }, copies: KnownCopy[], world: DoctorWorld): Promise<Looked> {
  const findings: DoctorFinding[] = [];
  const looked: Looked = { findings, state: 'unknown', reason: null, capacityBytes: null, freeBytes: null, spares: [] };
  const security = await loadNodeSecurity(node);
  if (!security.ok) {
    Object.assign(looked, { state: 'down', reason: security.message });
    findings.push(problem(`node ${node.id}, TLS`, security.message, "correct the node's tls section, or restore the file"));
    return looked;
  }
  const address: WireAddress = { ...node.address, security: security.value ?? undefined };
  const used = new Map(copies.map((copy) => [copy.target.export, copy]));
  for (const name of new Set([...used.keys(), ...node.spares])) {
    const copy = used.get(name) ?? null;
    const found = await probeExport(new NetDialer(), world.clock, address, name);
    if (found.ok) {
      looked.state = 'up';
      if (copy === null) looked.spares.push({ export: name, sizeBytes: found.value.sizeBytes });
      findings.push(...judgeExport(node.id, name, found.value, copy));
      if (copy !== null && !(await refusesAnother(address, name, world.clock))) {
        const strangers = node.tls === null || (await takesStrangers(node, name, world.clock));
        findings.push(strangers ? openToOthers(node, name) : closedToStrangers(node, name));
      }
    } else if (copy !== null && world.serving) {
      findings.push(ok(subjectOf(node.id, name), `it takes no connection besides the gateway's (${found.message})`));
    } else {
      if (looked.state === 'unknown') [looked.state, looked.reason] = ['down', found.message];
      const advice = `start its server at ${describeAddress(node.address)} with an export "${name}", or correct the configuration`;
      findings.push(problem(subjectOf(node.id, name), `it cannot be attached: ${found.message}`, advice));
    }
  }
  if (used.size + node.spares.length === 0)
    findings.push(
      warning(`node ${node.id}`, 'no volume is on it and it has no spares: nothing can be asked', 'list its exports for mirrors in spares'),
    );
  if (node.zombieMs === 0) {
    findings.push(
      warning(
        `node ${node.id}`,
        'zombie is 0s: requests of a lost connection that land late are not guarded against',
        'leave zombie at 30s, unless its server ends requests with their connection',
      ),
    );
  } else findings.push(ok(`node ${node.id}`, `late requests are guarded against for ${formatDuration(node.zombieMs)}`));
  return looked;
}

function subjectOf(node: string, name: string): string {
  return `node ${node}, export "${name}"`;
}

function judgeExport(node: string, name: string, negotiated: Negotiated, copy: KnownCopy | null): DoctorFinding[] {
  const subject = subjectOf(node, name);
  const features = featuresOf(negotiated);
  const needs = { sizeBytes: copy?.sizeBytes ?? 0, blockMinimum: BLOCK_MINIMUM_MAX };
  const mismatch = findMismatch(negotiated, needs);
  if (mismatch !== null) {
    const what = copy === null ? 'it cannot take a mirror' : `it cannot hold volume ${copy.volume}`;
    return [problem(subject, `${what}: ${mismatch}`, 'serve it writable and large enough')];
  }
  const findings: DoctorFinding[] = [];
  const can = [
    features.fua && 'FUA',
    features.zeroes && 'zeroes',
    features.fastZero && 'fast zero',
    features.multiConn && 'several connections',
    features.status && 'block status',
  ];
  findings.push(
    ok(
      subject,
      `${formatBytes(features.sizeBytes)}, ${copy === null ? 'a spare' : `${copy.role} of ${copy.volume}`}; has ${can.filter(Boolean).join(', ') || 'none of the optional features'}`,
    ),
  );
  if (!features.flush) {
    findings.push(
      warning(
        subject,
        'it has no FLUSH: what it answers must be on stable storage already, and nothing shows whether it is',
        'use a server that has FLUSH, or one that writes through',
      ),
    );
  }
  if (!features.multiConn)
    findings.push(
      warning(
        subject,
        'it allows one connection',
        'let it announce CAN_MULTI_CONN if its cache is shared (nbdkit: most plugins do; qemu-nbd: --shared)',
      ),
    );
  return findings;
}

/** Rule 19: two connections at once, as two gateways would have them. */
function refusesAnother(address: WireAddress, exportName: string, clock: Clock): Promise<boolean> {
  const dialer = new NetDialer();
  return new Promise((resolve) => {
    let refused = true;
    new Link(
      { dialer, clock, address, exportName, handshakeMs: HANDSHAKE_MS },
      {
        ready: (link) => {
          void probeExport(dialer, clock, address, exportName).then((second) => {
            refused = !second.ok;
            link.disconnect();
          });
        },
        answered: () => {},
        closed: () => resolve(refused),
      },
    );
  });
}

/** Is an export served over TLS to clients without a certificate or key? */
async function takesStrangers(node: NodeConfig & { kind: 'plain' }, name: string, clock: Clock): Promise<boolean> {
  const security = await loadNodeSecurity({ ...node, tls: { ...plainestTls, verifyPeer: false } });
  return (
    security.ok &&
    security.value !== null &&
    (await probeExport(new NetDialer(), clock, { ...node.address, security: security.value }, name)).ok
  );
}

function closedToStrangers(node: NodeConfig & { kind: 'plain' }, name: string): DoctorFinding {
  const message =
    'it is writable for every client with a certificate or key that its server takes, over TLS; a plain NBD server cannot fence';
  return ok(subjectOf(node.id, name), `${message}, so let only this gateway have one`);
}

function isLocal(address: WireAddress): boolean {
  return (
    'path' in address ||
    address.host === 'localhost' ||
    address.host === '::1' ||
    (isIP(address.host) === 4 && address.host.startsWith('127.'))
  );
}

function openToOthers(node: NodeConfig & { kind: 'plain' }, name: string): DoctorFinding {
  const subject = subjectOf(node.id, name);
  const message =
    'it is writable for everyone who reaches it: a plain NBD server cannot fence, so that only one gateway writes there rests on access control';
  if (isLocal(node.address)) return ok(subject, `${message}; only programs of this machine reach ${describeAddress(node.address)}`);
  return warning(
    subject,
    message,
    `let only the gateway's machine reach ${describeAddress(node.address)} (firewall, own network), or use a storage-node agent`,
  );
}

async function lookAtAgent(node: NodeConfig & { kind: 'agent' }, copies: KnownCopy[], world: DoctorWorld): Promise<Looked> {
  const subject = `node ${node.id}`;
  const findings: DoctorFinding[] = [];
  const looked: Looked = { findings, state: 'down', reason: null, capacityBytes: null, freeBytes: null, spares: [] };
  const agent = new AgentClient(node.url);
  try {
    const info = await agent.info();
    if (!info.ok) {
      looked.reason = info.message;
      findings.push(problem(subject, `its agent does not answer: ${info.message}`, `start it ("forestall node"), or correct ${node.url}`));
      return looked;
    }
    const { freeBytes, capacityBytes } = info.value;
    Object.assign(looked, { state: 'up', freeBytes, capacityBytes });
    findings.push(
      ok(subject, `its agent answers, version ${info.value.version}, ${formatBytes(freeBytes)} of ${formatBytes(capacityBytes)} free`),
    );
    findings.push(...(await lookAtClock(node, world.clock)));
    const security = await loadNodeSecurity(node);
    if (!security.ok) {
      Object.assign(looked, { state: 'down', reason: security.message });
      findings.push(problem(`${subject}, TLS`, security.message, "correct the node's tls section, or restore the file"));
      return looked;
    }
    const address: WireAddress = { ...agent.nbdAddress(info.value), security: security.value ?? undefined };
    for (const copy of copies) findings.push(...(await lookAtOwned(agent, address, node.id, copy, world)));
    return looked;
  } finally {
    await agent.close();
  }
}

/** Whose an agent's export is, and whether it can be attached. */
async function lookAtOwned(
  agent: AgentClient,
  address: WireAddress,
  node: string,
  copy: KnownCopy,
  { clock }: DoctorWorld,
): Promise<DoctorFinding[]> {
  const { export: name } = copy.target;
  const subject = subjectOf(node, name);
  const found = await agent.getExport(name);
  if (!found.ok) {
    const unborn = found.code === 'export-unknown' && copy.epoch === 0;
    return [
      unborn
        ? ok(subject, 'it is not there yet: the first start makes it')
        : problem(subject, found.message, 'restore it, or bring the node back that has it'),
    ];
  }
  const { volume, epoch, problem: flaw } = found.value;
  if (flaw !== null) return [problem(subject, flaw, "look at the agent's directory and log")];
  if (volume !== '' && volume !== copy.volume)
    return [problem(subject, `it belongs to volume ${volume}`, 'correct the configuration, or adopt it: serve --adopt')];
  if (epoch > copy.epoch) {
    const message = `its owner announced epoch ${epoch}, what is known here is ${copy.epoch}: another gateway serves it, or this data directory is older than the last flip`;
    return [problem(subject, message, 'find the data directory that was used last; docs/store.md says how')];
  }
  const probed = await probeExport(new NetDialer(), clock, address, name);
  if (!probed.ok)
    return [problem(subject, `it cannot be attached: ${probed.message}`, `let the gateway reach ${describeAddress(address)}`)];
  return judgeExport(node, name, probed.value, copy);
}

function lookAtEmbedded(node: NodeConfig & { kind: 'embedded' }): Looked {
  const subject = `node ${node.id}`;
  const looked: Looked = {
    findings: [],
    state: 'unknown',
    reason: 'it runs within the gateway',
    capacityBytes: null,
    freeBytes: Number.MAX_SAFE_INTEGER,
    spares: [],
  };
  try {
    if (existsSync(node.directory)) accessSync(node.directory, constants.W_OK);
    looked.findings.push(ok(subject, `embedded in the gateway, on ${node.directory}: to try things out, for it fails with the gateway`));
  } catch {
    looked.findings.push(problem(subject, `${node.directory} cannot be written`, 'let the user that the gateway runs as own it'));
  }
  return looked;
}

/** The agent's clock against ours, by the date of its answers; its resolution is a second. */
async function lookAtClock(node: NodeConfig & { kind: 'agent' }, clock: Clock): Promise<DoctorFinding[]> {
  try {
    const answer = await request(new URL('/v1/info', node.url), { signal: AbortSignal.timeout(CLOCK_MS) });
    await answer.body.dump();
    const theirs = Date.parse(String(answer.headers.date));
    const skewMs = Math.abs(theirs - clock.wallMs());
    if (Number.isNaN(theirs)) return [];
    const subject = `node ${node.id}, clock`;
    if (skewMs <= SKEW_WARNING_MS) return [ok(subject, 'it agrees with ours to within some seconds')];
    return [
      warning(
        subject,
        `it is ${formatDuration(Math.round(skewMs / 1000) * 1000)} away from ours`,
        'let both machines keep time by NTP: samples and events are compared by time',
      ),
    ];
  } catch {
    return [];
  }
}

async function lookAtHealth(node: NodeConfig, clock: Clock): Promise<DoctorFinding[]> {
  const subject = `node ${node.id}, health`;
  if (node.health.length === 0 && node.kind === 'plain') {
    return [
      warning(
        subject,
        'it has no health source: failures are predicted from its I/O alone',
        'run smartctl_exporter on it and list it under health',
      ),
    ];
  }
  const findings: DoctorFinding[] = [];
  for (const { type, url, everyMs } of node.health) {
    const source = new HttpSource({ node: node.id, type, url, everyMs });
    const page = await source.fetch();
    await source.close();
    const read = page.ok ? readPage(type, page.value, node.id, clock.wallMs()) : page;
    findings.push(
      read.ok
        ? ok(subject, `${url} gives ${read.value.length} samples`)
        : warning(subject, `${url}: ${read.message}`, `start ${type} there, or correct the URL`),
    );
  }
  return findings;
}
