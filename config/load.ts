// A configuration file's text into the product's configuration, or everything that is wrong with it. Opens nothing and
// asks nobody: neither files (but for `readConfig`, the file itself) nor the network. Each entry is judged alone first,
// so that one that is wrong hides nothing about the others.
import { createReadStream } from 'node:fs';
import type { z } from 'zod';
import { checkAccess } from './access.js';
import type { Config, ServerConfig } from './config.js';
import { readYaml } from './document.js';
import { isName, nameRule } from './fields.js';
import { checkNodePlaces, checkServer } from './listeners.js';
import { checkAddress, nodeConfig, type Report } from './nodes.js';
import { policyConfig } from './policies.js';
import { formatPath, type KeyPath, type Problem, shown } from './problem.js';
import { nodeSchema, policySchema, type ServerInput, serverSchema, topLevelKeys, volumeSchema } from './schema.js';
import { serverTls } from './server-tls.js';
import { didYouMean } from './spelling.js';
import { formatBytes } from './units.js';
import { checkMirrors, checkReferences, checkTargets, volumeConfig } from './volumes.js';

export type Loaded = { ok: true; config: Config } | { ok: false; problems: Problem[] };

const fileBytesMax = 2 ** 22;
const entriesMax = { nodes: 1000, volumes: 10_000 };

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function reportUnknownKey(path: KeyPath, key: string, known: readonly string[], report: Report): void {
  report([...path, key], `is no key here${didYouMean(key, known) || `: there are ${known.join(', ')}`}`, 'key');
}

/** What `schema` makes of `value`, or null with everything wrong in it reported. */
function judged<Schema extends z.ZodType>(schema: Schema, value: unknown, path: KeyPath, report: Report): z.output<Schema> | null {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const at = [...path, ...issue.path.map((key) => (typeof key === 'number' ? key : String(key)))];
    // Sections put the keys they know into the message (see fields.ts).
    if (issue.code === 'unrecognized_keys') for (const key of issue.keys) reportUnknownKey(at, key, issue.message.split(' '), report);
    else report(at, issue.message, issue.code === 'invalid_key' ? 'key' : 'value');
  }
  return null;
}

function serverConfig({ nbd, api, data, log }: ServerInput, report: Report): ServerConfig {
  const { host, port, unix, tls, limits } = nbd;
  return {
    nbd: {
      host,
      port,
      unix: unix ?? null,
      tls: serverTls(tls, ['server', 'nbd', 'tls'], report),
      connectionsMax: limits.connections,
      connectionsPerClientMax: limits.perClient,
      handshakeMs: limits.handshake,
    },
    api,
    dataDirectory: data,
    logLevel: log.level,
  };
}

/** The entries of a list the file must have. */
function entriesOf(data: Record<string, unknown>, key: 'nodes' | 'volumes', report: Report): unknown[] {
  const value = data[key];
  if (value === undefined)
    report(
      [],
      `${key} is missing: ${key === 'nodes' ? 'name at least one storage node' : 'name the volumes to serve, or write volumes: []'}`,
    );
  else if (!Array.isArray(value)) report([key], `must be a list ([...], or lines that start with -), is ${shown(value)}`);
  else if (key === 'nodes' && value.length === 0) report([key], 'is empty: name at least one storage node');
  else if (value.length > entriesMax[key]) report([key], `has ${value.length} entries: at most ${entriesMax[key]} are possible`);
  else return value;
  return [];
}

/** The text under `key` of each entry that has one. What is there twice is reported. */
function namesOf(entries: unknown[], list: string, key: string, report: Report): string[] {
  const first = new Map<string, number>();
  entries.forEach((entry, at) => {
    const name = isMap(entry) ? entry[key] : undefined;
    if (typeof name !== 'string') return;
    const earlier = first.get(name);
    if (earlier === undefined) first.set(name, at);
    else report([list, at, key], `${shown(name)} is already the ${key} of ${list}[${earlier}]: give each its own`);
  });
  return [...first.keys()];
}

function policiesOf(data: Record<string, unknown>, report: Report): Record<string, unknown> {
  const value = data.policies;
  if (value === undefined) return {};
  if (isMap(value)) return value;
  report(['policies'], `must be a map (name: policy), is ${shown(value)}`);
  return {};
}

/** Every step reports what it finds; the result is only good when nothing was reported. */
function assemble(data: Record<string, unknown>, report: Report): Config | null {
  for (const key of Object.keys(data)) if (!topLevelKeys.includes(key)) reportUnknownKey([], key, topLevelKeys, report);
  const serverInput = judged(serverSchema, data.server, ['server'], report);
  const server = serverInput === null ? null : serverConfig(serverInput, report);
  if (server !== null) checkServer(server, report);

  const nodeEntries = entriesOf(data, 'nodes', report);
  const nodeIds = namesOf(nodeEntries, 'nodes', 'id', report);
  const nodes = nodeEntries.flatMap((entry, at) => {
    const path = ['nodes', at];
    const input = judged(nodeSchema, entry, path, report);
    if (input === null && isMap(entry)) checkAddress(entry, path, report);
    const node = input === null ? null : nodeConfig(input, path, report);
    return node === null ? [] : [{ node, path }];
  });
  checkNodePlaces(nodes, server, report);

  const policyEntries = new Map<string, unknown>([['default', {}], ...Object.entries(policiesOf(data, report))]);
  const policies = [...policyEntries].flatMap(([name, entry]) => {
    const path = ['policies', name];
    if (!isName(name)) report(path, `a policy's name must be ${nameRule}`, 'key');
    const input = judged(policySchema, entry, path, report);
    return (input === null ? null : policyConfig(name, input, path, report)) ?? [];
  });

  const volumeEntries = entriesOf(data, 'volumes', report);
  namesOf(volumeEntries, 'volumes', 'name', report);
  const references = {
    nodeIds,
    nodes: new Map(nodes.map(({ node }) => [node.id, node])),
    policyNames: [...policyEntries.keys()],
    policies: new Map(policies.map((policy) => [policy.name, policy])),
  };
  const volumes = volumeEntries.flatMap((entry, at) => {
    const path = ['volumes', at];
    if (isMap(entry)) checkReferences(entry, path, references, report);
    const input = judged(volumeSchema, entry, path, report);
    const volume = input === null ? null : volumeConfig(input, path, references, report);
    if (volume !== null && server !== null) checkAccess(volume.access, server, path, report);
    return volume === null ? [] : [{ volume, path }];
  });
  const taken = checkTargets(volumes, report);
  const known = nodes.map(({ node }) => node);
  // A node that could not be made out might have been the one to take the mirror.
  if (nodeIds.length === nodeEntries.length && nodes.length === nodeEntries.length) checkMirrors(volumes, known, taken, report);
  return server === null ? null : { server, nodes: known, volumes: volumes.map(({ volume }) => volume), policies };
}

/** Judges `text`; `file` is its name in the problems. Problems come in the order of the file. */
export function loadConfig(text: string, file: string): Loaded {
  const { data, faults, locate } = readYaml(text);
  const problems: Problem[] = faults.map(({ line, column, message }) => ({ file, line, column, path: 'yaml', message }));
  const report: Report = (path, message, part = 'value') => {
    problems.push({ file, ...locate(path, part), path: formatPath(path), message });
  };
  let config: Config | null = null;
  if (isMap(data)) config = assemble(data, report);
  else if (!faults.some(({ fatal }) => fatal)) {
    report(
      [],
      data === null || data === undefined
        ? 'the file is empty: it needs nodes and volumes'
        : 'must be a map with the keys nodes and volumes',
    );
  }
  if (problems.length === 0 && config !== null) return { ok: true, config };
  return { ok: false, problems: problems.sort((a, b) => a.line - b.line || a.column - b.column) };
}

/** Reads and judges a file. A file that cannot be read is a problem like any other. */
export async function readConfig(file: string): Promise<Loaded> {
  const unreadable = (message: string): Loaded => ({ ok: false, problems: [{ file, line: 1, column: 1, path: 'document', message }] });
  try {
    const chunks: Buffer[] = [];
    let lengthBytes = 0;
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      lengthBytes += chunk.length;
      if (lengthBytes > fileBytesMax) return unreadable(`is longer than ${formatBytes(fileBytesMax)}: a configuration is shorter`);
    }
    return loadConfig(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)), file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return unreadable('there is no such file');
    if (code === 'EISDIR') return unreadable('is a directory: name the file in it');
    if (code === 'EACCES') return unreadable('may not be read by this user: check its permissions');
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return unreadable('is not UTF-8 text: save it as UTF-8');
    return unreadable(`cannot be read: ${message}`);
  }
}
