// The composition root: one gateway from a configuration file. Opens what is durable first, then the nodes, then the
// volumes, then lets hosts and people in; closes in the opposite order. All wiring is here and nothing else.
import { readFileSync } from 'node:fs';
import type { Config, PolicyConfig, VolumeConfig } from '../config/config.js';
import { readConfig } from '../config/load.js';
import { formatProblem } from '../config/problem.js';
import { plural } from '../config/plural.js';
import { diffConfig } from '../config/reload.js';
import type { Clock, Log, Records } from '../replication/world.js';
import type { ReloadReport } from './api/backend.js';
import { ApiServer } from './api/server.js';
import { SystemClock } from './clock.js';
import { type Outcome, refuse, type VolumeFact } from './control.js';
import { EventLog } from './events/event-log.js';
import { Fleet } from './fleet/fleet.js';
import { HashPool } from './hashing/hash-pool.js';
import { Collectors } from './health/collectors.js';
import { Judge, type Resident } from './health/judge.js';
import { Exposition } from './metrics/exposition.js';
import type { Client } from './nbd/export.js';
import { NbdServer } from './nbd/server.js';
import { type Listener, listen, NetDialer } from './net-wire.js';
import { NodeControl } from './placement/node-control.js';
import { Protection } from './protection/protection.js';
import { EpochKeeper } from './service/epoch-keeper.js';
import { tellFact } from './service/fact-events.js';
import { GatewayBackend } from './service/gateway-backend.js';
import { GatewayMetricsSource } from './service/gateway-metrics.js';
import { PredictorOracle } from './service/predictor-oracle.js';
import { sayChange, sayRemark } from './service/reload-words.js';
import { sourcesOf } from './service/health-sources.js';
import { SampleIntake } from './service/sample-intake.js';
import { ServedVolume, type ServiceWorld } from './service/served-volume.js';
import { trimTarget } from './service/target-trim.js';
import { UsedTargets } from './service/used-targets.js';
import { VolumeExports } from './service/volume-export.js';
import { DataDirectory } from './store/data-directory.js';
import { JournalDirectory } from './store/journal-directory.js';
import { LatchDirectory } from './store/latch-file.js';
import { LmdbRecords } from './store/lmdb-records.js';
import { loadNodeSecurities } from './tls/client-security.js';
import { loadServerCredentials, type ServerCredentials } from './tls/server-credentials.js';

const CLOSE_GRACE_MS = 5000;

/** A log whose level the configuration sets. */
export interface GatewayLog extends Log {
  setLevel(level: Config['server']['logLevel']): void;
}

export interface GatewayOptions {
  configFile: string;
  log: GatewayLog;
  /** Take over targets that an unknown data directory's epochs claim (rule 19). */
  adopt?: boolean;
}

export interface RunningGateway {
  /** Where hosts attach and where the API answers (ports that the system chose are named), and the volumes there are. */
  readonly addresses: {
    nbd: { host: string; port: number };
    unix: string | null;
    /** As in the configuration. */
    tls: 'off' | 'optional' | 'required';
    api: { host: string; port: number };
    volumes: string[];
  };
  reload(): Promise<Outcome<ReloadReport>>;
  /** Answers what is in flight, then ends; resolves when the data directory is free again. */
  close(): Promise<void>;
}

/** Rejects with an Error that says what is wrong with the configuration, the data directory or the addresses; nothing stays open then. */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const loaded = await readConfig(options.configFile);
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
  options.log.setLevel(loaded.config.server.logLevel);
  const directory = await DataDirectory.open(loaded.config.server.dataDirectory);
  if (!directory.ok) throw new Error(directory.message);
  const records = await LmdbRecords.open(directory.value.path);
  if (!records.ok) {
    directory.value.release();
    throw new Error(records.message);
  }
  const hasher = await HashPool.create({ clock: new SystemClock(), log: options.log });
  const gateway = new Gateway(loaded.config, directory.value, records.value, options, hasher);
  try {
    await gateway.start();
    return gateway;
  } catch (error) {
    await gateway.close();
    throw error;
  }
}

class Gateway implements RunningGateway {
  addresses: RunningGateway['addresses'] = { nbd: { host: '', port: 0 }, unix: null, tls: 'off', api: { host: '', port: 0 }, volumes: [] };
  readonly #options: GatewayOptions;
  readonly #directory: DataDirectory;
  readonly #records: LmdbRecords;
  readonly #hasher: HashPool;
  readonly #clock: Clock = new SystemClock();
  readonly #log: Log;
  readonly #events: EventLog;
  readonly #fleet: Fleet;
  readonly #nodeControl: NodeControl;
  readonly #epochs: EpochKeeper;
  readonly #predictor: PredictorOracle;
  readonly #judge: Judge;
  readonly #collectors: Collectors;
  readonly #intake: SampleIntake;
  readonly #protection: Protection;
  readonly #volumes = new Map<string, ServedVolume>();
  readonly #used: UsedTargets;
  readonly #world: ServiceWorld;
  readonly #exports: VolumeExports;
  readonly #nbd: NbdServer;
  readonly #backend: GatewayBackend;
  #config: Config;
  #api: ApiServer | null = null;
  #metrics: Exposition | null = null;
  #listeners: Listener[] = [];
  #credentials: ServerCredentials | null = null;
  #started = false;
  #closing: Promise<void> | null = null;
  #reloading: Promise<unknown> = Promise.resolve();

  constructor(config: Config, directory: DataDirectory, records: LmdbRecords, options: GatewayOptions, hasher: HashPool) {
    this.#config = config;
    this.#directory = directory;
    this.#records = records;
    this.#options = options;
    this.#hasher = hasher;
    this.#log = options.log;
    const world = { clock: this.#clock, log: this.#log, records: records as Records };
    this.#used = new UsedTargets(world, this.#volumes);
    this.#events = new EventLog(records, this.#clock, this.#log);
    this.#fleet = new Fleet({ clock: this.#clock, log: this.#log, dialer: new NetDialer() });
    this.#nodeControl = new NodeControl({
      ...world,
      events: this.#events,
      node: (id) => this.#fleet.controlled(id),
      usedBy: (target) => this.#used.usedBy(target),
      epochOf: (name) => this.#volumes.get(name)?.volume?.epoch ?? null,
      trim: (target) => trimTarget(this.#fleet, this.#clock, target),
    });
    this.#epochs = new EpochKeeper({ ...world, fleet: this.#fleet });
    const predictor = new PredictorOracle({ ...world, events: this.#events }, policiesInUse(config));
    this.#predictor = predictor;
    this.#judge = new Judge({
      ...world,
      events: this.#events,
      oracle: predictor,
      nodes: () => this.#config.nodes.map((node) => node.id),
      residents: (node) => this.#residents(node),
      judged: (verdict, sinceMs) => this.#protection.judged(verdict, sinceMs),
    });
    this.#collectors = new Collectors({
      clock: this.#clock,
      events: this.#events,
      oracle: predictor,
      meters: () => this.#fleet.all(),
      fresh: (node) => this.#judge.fresh(node),
    });
    this.#intake = new SampleIntake({ clock: this.#clock, oracle: predictor, fresh: (node) => this.#judge.fresh(node) });
    this.#protection = new Protection({
      ...world,
      events: this.#events,
      targets: this.#nodeControl,
      lessons: this.#judge,
      candidates: () =>
        this.#fleet.facts(
          (id) => this.#nodeControl.freeSpares(id),
          (id) => this.#judge.latest(id),
          (id) => this.#copiesOn(id),
        ),
    });
    this.#world = {
      ...world,
      fleet: this.#fleet,
      hasher,
      journals: new JournalDirectory(directory.path, hasher.sum),
      latches: new LatchDirectory(directory.path, this.#log),
      adopt: options.adopt ?? false,
      usedBy: (target, except) => this.#used.usedBy(target, except),
      fact: (name, fact) => this.#fact(name, fact),
      opened: (served) => this.#opened(served),
    };
    this.#exports = new VolumeExports(this.#volumes, (name, client) => this.#refused(name, client));
    const { connectionsMax, connectionsPerClientMax, handshakeMs } = config.server.nbd;
    this.#nbd = new NbdServer({
      exports: this.#exports,
      clock: this.#clock,
      log: this.#log,
      connectionsMax,
      connectionsPerClientMax,
      handshakeMs,
    });
    this.#backend = new GatewayBackend({
      events: this.#events,
      volumes: this.#volumes,
      fleet: this.#fleet,
      protection: this.#protection,
      judge: this.#judge,
      intake: this.#intake,
      nodeControl: this.#nodeControl,
      started: () => this.#started,
      reload: () => this.reload(),
    });
  }

  async start(): Promise<void> {
    const { server } = this.#config;
    const credentials = await loadServerCredentials(server.nbd.tls, this.#clock.wallMs());
    if (!credentials.ok) throw new Error(`server.nbd.tls: ${credentials.message}`);
    this.#useTls(credentials.value);
    await this.#fleet.configure(this.#config, await loadNodeSecurities(this.#config.nodes));
    await this.#collectors.use(sourcesOf(this.#config, this.#fleet));
    // Verdicts in force come before the volumes they concern.
    this.#judge.start();
    this.#lookForOthers();
    for (const volume of this.#config.volumes) this.#serve(volume);
    this.#nodeControl.start();
    const accept = { accept: (wire: Parameters<NbdServer['accept']>[0]) => this.#nbd.accept(wire) };
    const tcp = await listen({ host: server.nbd.host, port: server.nbd.port }, accept);
    this.#listeners.push(tcp);
    if (server.nbd.unix !== null) this.#listeners.push(await listen({ path: server.nbd.unix }, accept));
    const version = packageVersion();
    this.#metrics = new Exposition(
      new GatewayMetricsSource({
        version,
        backend: this.#backend,
        volumes: this.#volumes,
        fleet: this.#fleet,
        nbd: this.#nbd,
        events: this.#events,
      }),
    );
    this.#api = await ApiServer.create({ backend: this.#backend, metrics: this.#metrics, log: this.#log, version });
    const api = await this.#api.listen(server.api);
    this.addresses = {
      nbd: 'port' in tcp.address ? tcp.address : { host: '', port: 0 },
      unix: server.nbd.unix,
      tls: server.nbd.tls.mode,
      api,
      volumes: this.#config.volumes.map((volume) => volume.name),
    };
    this.#predictor.start();
    this.#collectors.start();
    this.#started = true;
    this.#events.publish({
      type: 'gateway.started',
      level: 'info',
      message: `The gateway serves ${plural(this.#volumes.size, 'volume')} of ${plural(this.#config.nodes.length, 'node')}.`,
    });
  }

  /** Takes up the changed file; one that is wrong changes nothing. One at a time. */
  reload(): Promise<Outcome<ReloadReport>> {
    const turn = this.#reloading.then(() => this.#reload());
    this.#reloading = turn.catch(() => {});
    return turn;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const listener of this.#listeners) listener.close();
    await this.#collectors.stop();
    await this.#judge.stop();
    await this.#predictor.stop();
    await this.#protection.stop();
    await this.#nbd.close({ graceMs: CLOSE_GRACE_MS });
    await this.#nodeControl.stop();
    this.#epochs.stop();
    for (const served of this.#volumes.values()) await served.close();
    await this.#fleet.stop();
    await this.#events.close();
    await this.#api?.close();
    this.#metrics?.stop();
    await this.#hasher.close();
    await this.#records.close();
    this.#directory.release();
  }

  async #reload(): Promise<Outcome<ReloadReport>> {
    const loaded = await readConfig(this.#options.configFile);
    if (!loaded.ok) return refuse('config-invalid', loaded.problems.map(formatProblem).join('\n'));
    // Certificates and keys are read again even where their names stay.
    const credentials = await loadServerCredentials(loaded.config.server.nbd.tls, this.#clock.wallMs());
    if (!credentials.ok) return refuse('reload-refused', `server.nbd.tls: ${credentials.message}`);
    const securities = await loadNodeSecurities(loaded.config.nodes);
    for (const [{ id }, security] of securities) if (!security.ok) return refuse('reload-refused', `nodes.${id}.tls: ${security.message}`);
    const inUse = new Map<string, string[]>();
    for (const served of this.#volumes.values()) {
      for (const { target } of served.targets()) inUse.set(target.node, [...(inUse.get(target.node) ?? []), served.name]);
    }
    const attached = new Set([...this.#volumes.values()].filter((served) => served.clients().length > 0).map((served) => served.name));
    const diff = diffConfig(this.#config, loaded.config, { nodes: inUse, attached });
    if (diff.refusals.length > 0) return refuse('reload-refused', diff.refusals.map(sayRemark).join('\n'));
    const filesChanged = credentials.value.fingerprint !== this.#credentials?.fingerprint;
    this.#config = diff.running;
    this.#useTls(credentials.value);
    this.#nbd.setLimits(this.#config.server.nbd);
    this.#options.log.setLevel(this.#config.server.logLevel);
    await this.#fleet.configure(this.#config, securities);
    await this.#collectors.use(sourcesOf(this.#config, this.#fleet));
    const named = this.#lookForOthers();
    for (const [name, served] of this.#volumes) {
      if (named.has(name)) continue;
      this.#volumes.delete(name);
      await this.#protection.remove(name);
      await served.close();
    }
    // What a volume changed while it was being closed counts too.
    this.#lookForOthers();
    for (const volume of this.#config.volumes) {
      const served = this.#volumes.get(volume.name);
      if (served === undefined) this.#serve(volume);
      else served.configure(volume);
    }
    this.#enforceAccess();
    this.#predictor.judgeBy(policiesInUse(this.#config));
    this.#judge.judgeAgain();
    this.#protection.policiesChanged();
    const changes = [
      ...diff.live.map(sayChange),
      ...(filesChanged ? ['server: certificates or keys'] : []),
      ...[...diff.ignored, ...diff.restart].map(sayRemark),
    ];
    this.#events.publish({
      type: 'config.reloaded',
      level: 'info',
      message:
        changes.length === 0
          ? 'The configuration was read again: nothing changed.'
          : `The configuration was read again: ${changes.join('; ')}`,
      details: { changes },
    });
    return { ok: true, value: { changes } };
  }

  /** For connections from now on; sessions that are there go on as they are. */
  #useTls(credentials: ServerCredentials): void {
    this.#credentials = credentials;
    this.#nbd.setTls(credentials.served);
    for (const warning of credentials.warnings) this.#log.warn({ warning }, 'server.nbd.tls');
  }

  /** Sessions of clients that may no longer do what they can: a key that is gone proves nothing any more, either. */
  #enforceAccess(): void {
    const security = this.#credentials?.served?.security ?? null;
    this.#nbd.enforce((name, client, readOnly) => {
      const stale = client.tls?.identity != null && security !== null && !security.knows(client.tls.identity);
      const who = stale ? { ...client, tls: { ...client.tls!, identity: null } } : client;
      return this.#exports.mayStay(name, who, readOnly);
    });
  }

  #refused(name: string, { peer, tls }: Client): void {
    this.#nbd.counters.refused += 1;
    this.#log.warn({ client: peer, identity: tls?.identity, names: tls?.names, export: name }, 'client refused: the volume is not for it');
  }

  #serve(config: VolumeConfig): void {
    const served = new ServedVolume(config, this.#world);
    this.#volumes.set(config.name, served);
    void served.open();
  }

  /** Finds out what volumes use that are in the store only. Gives the names of the others. */
  #lookForOthers(): Set<string> {
    const named = new Set(this.#config.volumes.map((volume) => volume.name));
    this.#used.look(named);
    return named;
  }

  #opened(served: ServedVolume): void {
    const control = served.volume!;
    this.#epochs.claim(served.name, served.targets(), control.epoch);
    this.#protection.add({
      control,
      policy: () => served.config.policy,
      priority: () => served.config.priority,
      labels: () => served.config.labels,
      clients: () => served.clients(),
      profile: () => served.profile(),
      latency: () => served.latency(),
    });
  }

  #fact(name: string, fact: VolumeFact): void {
    const served = this.#volumes.get(name);
    if (served === undefined) return;
    tellFact(this.#events, fact, { volume: name, labels: served.config.labels, clients: served.clients() });
    if (fact.type === 'flipped') this.#epochs.claim(name, served.targets(), fact.certificate.epoch);
    this.#protection.fact(name, fact);
  }

  #residents(node: string): Resident[] {
    const residents: Resident[] = [];
    for (const served of this.#volumes.values()) {
      for (const { target, role } of served.targets()) {
        if (target.node === node) residents.push({ volume: served.name, role, labels: served.config.labels, clients: served.clients() });
      }
    }
    return residents;
  }

  #copiesOn(node: string): number {
    let copies = 0;
    for (const served of this.#volumes.values()) copies += served.targets().filter(({ target }) => target.node === node).length;
    return copies;
  }
}

/** Those by which nodes are judged. */
function policiesInUse({ policies, volumes }: Config): PolicyConfig[] {
  const named = new Set(['default', ...volumes.map(({ policy }) => policy.name)]);
  return policies.filter(({ name }) => named.has(name));
}

function packageVersion(): string {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // The sources lie one level higher than the build.
    }
  }
  return 'unknown';
}
