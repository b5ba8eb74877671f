// `forestall demo`: the product's story on a terminal, with nothing simulated but the SMART counters of a disk. Real
// processes, real sockets, real files in a temporary directory. Ends with 0 only when everything that must hold did; a
// signal ends it and leaves nothing behind.
import { SystemClock } from '../clock.js';
import { EXIT, type ExitCode } from '../cli/cli-error.js';
import type { Output } from '../cli/output.js';
import { BLOCK_BYTES } from './block-contents.js';
import { caveats, comparison, type DemoReport, type HostFacts } from './comparison.js';
import { evacuate, type Scene } from './evacuation.js';
import { falseAlarm } from './false-alarm.js';
import { Host } from './host.js';
import { Narrator } from './narrator.js';
import { PACE, type Pace, VOLUME } from './pace.js';
import { react } from './reaction.js';
import { Stage } from './stage.js';
import { Watch } from './watch.js';

const SERVED_MS = 60_000;
const INTERRUPTED = 130;

export interface DemoOptions {
  fast?: boolean;
}

export async function runDemo(output: Output, { fast }: DemoOptions): Promise<ExitCode> {
  const narrator = new Narrator(output.json ? output.stderr : output.stdout, new SystemClock());
  const pace = PACE[fast === true ? 'fast' : 'people'];
  // The stages end their processes and remove their directories when this process ends.
  const interrupt = () => process.exit(INTERRUPTED);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, interrupt);
  try {
    const report = await play(narrator, pace);
    const failed = narrator.checks.filter(({ held }) => !held);
    narrator.heading('What it was worth');
    narrator.raw(comparison(report));
    narrator.raw('\n');
    for (const sentence of caveats(report)) narrator.detail(sentence);
    narrator.raw(`\n${narrator.checks.length - failed.length} of ${narrator.checks.length} checks held.\n`);
    if (output.json) output.result({ ...report, checks: narrator.checks }, () => '');
    return failed.length === 0 ? EXIT.OK : EXIT.REFUSED;
  } catch (error) {
    narrator.say(`The demo broke off: ${(error as Error).message}`);
    return EXIT.REFUSED;
  } finally {
    for (const signal of signals) process.off(signal, interrupt);
  }
}

async function play(narrator: Narrator, pace: Pace): Promise<DemoReport> {
  const mirror = { onPrediction: 1 };
  // A healthy machine copies ten times as fast: this is slow enough to watch.
  const copy = { bandwidth: pace.copyBandwidth, hostLatencyGuard: 100 };
  const policy = { mirror, copy, rollback: { observe: pace.observe }, scrub: { afterMirror: false, bandwidth: '1GiB' } };
  const first = await run(narrator, pace, ['a', 'b', 'c'], policy, 'With prediction', async (scene) => {
    const evacuation = await evacuate(scene);
    narrator.heading('A false alarm');
    return { evacuation, alarm: await falseAlarm(scene) };
  });
  const second = await run(narrator, pace, ['a'], { mirror: { onPrediction: 0 } }, 'The same without prediction', react);
  return {
    predicted: { ...first.facts.evacuation, host: first.host },
    falseAlarm: first.facts.alarm,
    reacted: { ...second.facts, host: second.host },
    areaBytes: pace.areaBytes,
  };
}

/** One gateway on fresh nodes, with a host that writes from before `act` until after it. */
async function run<Facts>(
  narrator: Narrator,
  pace: Pace,
  nodes: string[],
  policy: object,
  title: string,
  act: (scene: Scene) => Promise<Facts>,
): Promise<{ facts: Facts; host: HostFacts }> {
  const clock = new SystemClock();
  const stage = await Stage.open();
  narrator.heading(title);
  let host: Host | null = null;
  try {
    await Promise.all(nodes.map((id) => stage.startNode(id)));
    await stage.startGateway(pace.volumeBytes, policy);
    const { api, nbd, pid } = stage.gateway;
    const nodeNames = nodes.map((id) => `${id} (process ${stage.node(id).program.pid})`).join(', ');
    narrator.say(`storage nodes ${nodeNames}; gateway (process ${pid}). What it says itself is marked with |`);
    const watch = new Watch(api, clock, narrator);
    await watch.untilVolume(`${VOLUME} is served`, SERVED_MS, ({ service }) => service === 'served');
    host = new Host({ address: nbd, exportName: VOLUME, blocks: pace.areaBytes / BLOCK_BYTES, clock });
    await host.prepare();
    host.start();
    narrator.say(
      `a host is attached to nbd://${nbd.host}:${nbd.port}/${VOLUME}: about 300 checked 4 KiB writes a second, a flush every second`,
    );
    await watch.pass(pace.calmMs);
    const facts = await act({ stage, watch, host, narrator, pace, clock });
    const { longestGapMs, writes } = host.ledger.whole(clock.nowMs());
    await host.finish();
    const { errors, reads, mismatches } = host.ledger;
    narrator.say(`the host stops and reads all its blocks back: ${mismatches.length} wrong, ${errors} errors since the beginning`);
    const during = title.toLowerCase();
    narrator.check(`${during}: the host saw no error`, errors === 0 && host.ended === null, host.ended ?? `${errors} errors`);
    narrator.check(`${during}: no answered write is lost`, mismatches.length === 0, mismatches.slice(0, 3).join('; '));
    return { facts, host: { writes, reads, errors, mismatches, longestGapMs, connectionLost: host.ended !== null } };
  } finally {
    host?.detach();
    await stage.close();
  }
}
