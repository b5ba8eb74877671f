// `forestall doctor`: looks at what a configuration alone cannot show, with the gateway's own code, and says of each thing
// whether it is right and what to do. Changes nothing, anywhere; may be run beside the gateway. Exit code: that of the worst.
import type { Config, VolumeConfig } from '../../config/config.js';
import { readConfig } from '../../config/load.js';
import { formatProblem } from '../../config/problem.js';
import { SystemClock } from '../clock.js';
import type { VolumeView } from '../control.js';
import type { NodeFacts } from '../placement/node-facts.js';
import { choose } from '../placement/placement.js';
import type { StoreReport } from '../store/store-check.js';
import { ApiClient } from './api-client.js';
import type { ExitCode } from './cli-error.js';
import { type DoctorFinding, type DoctorLevel, ok, problem, warning } from './doctor-finding.js';
import { lookAtData, lookAtSystem } from './doctor-machine.js';
import { type KnownCopy, lookAtNode } from './doctor-nodes.js';
import type { Output } from './output.js';
import { table } from './table.js';

/** Exit codes of this command alone: 0 all is right, 1 warnings, 2 problems. */
const EXIT_BY_LEVEL: Readonly<Record<DoctorLevel, ExitCode>> = { ok: 0, warning: 1, problem: 2 };

export async function runDoctor(output: Output, { config: file }: { config: string }): Promise<ExitCode> {
  const findings = await examine(file);
  const worst = (['problem', 'warning', 'ok'] as const).find((level) => findings.some((finding) => finding.level === level)) ?? 'ok';
  output.result({ worst, findings }, () => shown(findings));
  return EXIT_BY_LEVEL[worst];
}

function shown(findings: DoctorFinding[]): string {
  const rows = table(findings, [
    { title: 'IS', cell: ({ level }) => level },
    { title: 'WHAT', cell: ({ subject }) => subject },
    { title: 'FOUND', cell: ({ message, advice }) => (advice === null ? message : `${message}. To do: ${advice}`) },
  ]);
  const count = (level: DoctorLevel) => findings.filter((finding) => finding.level === level).length;
  return `${rows}\n${count('ok')} ok, ${count('warning')} warnings, ${count('problem')} problems\n`;
}

async function examine(file: string): Promise<DoctorFinding[]> {
  const loaded = await readConfig(file);
  if (!loaded.ok) return loaded.problems.map((each) => problem('configuration', formatProblem(each), 'correct the file'));
  const { config } = loaded;
  const clock = new SystemClock();
  const data = lookAtData(config.server.dataDirectory);
  const served = data.user === null ? null : await servedVolumes(config);
  const copies = copiesOf(config, data.store, served);
  const world = { config, clock, serving: data.user !== null, copies };
  const nodes = await Promise.all(config.nodes.map((node) => lookAtNode(node, world)));
  return [
    ok('configuration', `${file} is right`),
    ...data.findings,
    ...(await lookAtSystem(config, clock.wallMs())),
    ...nodes.flatMap(({ findings }) => findings),
    ...config.volumes.flatMap((volume) =>
      lookAtVolume(
        volume,
        config,
        copies,
        nodes.map(({ facts }) => facts),
      ),
    ),
  ];
}

/** What the gateway that runs serves; null: its API does not say. */
async function servedVolumes({ server: { api } }: Config): Promise<VolumeView[] | null> {
  const host = api.host === '0.0.0.0' ? '127.0.0.1' : api.host === '::' ? '::1' : api.host;
  try {
    const client = new ApiClient(`http://${host.includes(':') ? `[${host}]` : host}:${api.port}`);
    return (await client.get<{ volumes: VolumeView[] }>('/v1/volumes')).volumes;
  } catch {
    return null;
  }
}

/** Where the copies are: what the gateway says that runs, else the store, else the first placements. */
function copiesOf(config: Config, store: StoreReport | null, served: VolumeView[] | null): KnownCopy[] {
  return config.volumes.flatMap((volume): KnownCopy[] => {
    const view = served?.find(({ name }) => name === volume.name);
    const stored = store?.volumes.find(({ name }) => name === volume.name);
    const known = view ?? stored ?? { active: { node: volume.node, export: volume.export }, mirrors: [], epoch: 0 };
    const copy = { volume: volume.name, sizeBytes: view?.size ?? stored?.sizeBytes ?? volume.sizeBytes, epoch: known.epoch };
    return [
      { ...copy, target: known.active, role: 'active' },
      ...known.mirrors.map(({ node, export: name }) => ({ ...copy, target: { node, export: name }, role: 'mirror' as const })),
    ];
  });
}

function lookAtVolume(volume: VolumeConfig, config: Config, copies: KnownCopy[], nodes: NodeFacts[]): DoctorFinding[] {
  const subject = `volume ${volume.name}`;
  const own = copies.filter((copy) => copy.volume === volume.name);
  const findings: DoctorFinding[] = [];
  for (const { target } of own) {
    if (!config.nodes.some(({ id }) => id === target.node)) {
      findings.push(problem(subject, `it has a copy on node ${target.node}, which the configuration does not name`, 'name the node again'));
    }
  }
  // A smaller one is the first size of a volume that has grown.
  if (own[0].sizeBytes < volume.sizeBytes) {
    const message = `it has ${own[0].sizeBytes} bytes, the configuration says ${volume.sizeBytes}, which is its first size only`;
    findings.push(warning(subject, message, `grow it with "forestall grow ${volume.name} ${volume.sizeBytes}", or restore the size`));
  }
  const { standing, onPrediction } = volume.policy.mirror;
  const wanted = Math.max(standing, onPrediction) - (own.length - 1);
  const active = own[0].target.node;
  const needs = {
    name: volume.name,
    sizeBytes: own[0].sizeBytes,
    active,
    copies: own.slice(1).map(({ target }) => target.node),
    profile: { readShare: 0.5, iops: 0, bytesPerSecond: 0, blockBytes: 4096 },
    latency: null,
  };
  if (Math.max(standing, onPrediction) === 0) {
    findings.push(
      warning(
        subject,
        `policy ${volume.policy.name} never mirrors it: when its node fails, hosts wait for it`,
        'set mirror.onPrediction or mirror.standing',
      ),
    );
  } else if (wanted > 0) {
    const { ranking, explanation } = choose({ volume: needs, nodes });
    const zone = nodes.find(({ id }) => id === active)?.zone;
    const elsewhere = ranking.some(({ node }) => nodes.find(({ id }) => id === node)?.zone !== zone);
    if (ranking.length < wanted) {
      const message = `policy ${volume.policy.name} wants ${wanted} more mirrors, ${ranking.length} nodes could take one now: ${explanation}`;
      findings.push(problem(subject, message, 'bring these nodes up, or add spares or room'));
    } else if (!elsewhere) {
      findings.push(
        warning(
          subject,
          `every node that could take a mirror is in its own zone ${zone ?? ''}`,
          'give nodes that fail apart zones of their own',
        ),
      );
    } else findings.push(ok(subject, `${ranking.length} nodes could take a mirror; ${ranking[0].node} is the best`));
  } else findings.push(ok(subject, `it has the ${own.length - 1} mirrors that its policy wants`));
  return findings;
}
