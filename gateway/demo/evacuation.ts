// First act: a disk begins to die, the trained model says so from its SMART counters, the volume leaves for a healthy node
// while the host writes, and the old node is killed when it holds nothing any more.
import { type Clock, sleep } from '../../replication/world.js';
import type { FlipCertificate, MirrorView, NodeView, ScrubReport, Verdict } from '../control.js';
import { formatBytes, formatDuration } from '../../config/units.js';
import type { Host } from './host.js';
import type { Narrator } from './narrator.js';
import { type Pace, VOLUME } from './pace.js';
import { dyingDisk, writeSmartFile } from './smart-file.js';
import type { Stage } from './stage.js';
import type { Watch } from './watch.js';

const READINGS_MAX = 60;
const MOVE_MS = 120_000;
const PROGRESS_MS = 1_000;
const POLL_MS = 50;

export interface Scene {
  stage: Stage;
  watch: Watch;
  host: Host;
  narrator: Narrator;
  pace: Pace;
  clock: Clock;
}

export interface EvacuationFacts {
  verdict: Verdict;
  certificate: FlipCertificate;
  /** Longest time without an answered write, around the flip and around the death of the old node. */
  flipGapMs: number;
  deathGapMs: number;
  writesAfterDeath: number;
  /** Answered writes that no flush had covered and whose only copy was on the dead node. */
  atRisk: number;
  scrub: ScrubReport;
}

export async function evacuate(scene: Scene): Promise<EvacuationFacts> {
  const { stage, watch, host, narrator, pace, clock } = scene;
  const verdict = await sicken(scene);
  host.ledger.begin(clock.nowMs());
  const certificate = await move(scene);
  await watch.pass(pace.calmMs);
  const flipGapMs = host.ledger.stretch(clock.nowMs()).longestGapMs;

  const { active } = await watch.volume();
  narrator.say(`kill -9 for node a (process ${stage.node('a').program.pid})`);
  host.ledger.begin(clock.nowMs());
  const atRisk = active.node === 'a' ? host.ledger.unflushed : 0;
  await stage.node('a').program.kill();
  await watch.pass(pace.calmMs);
  const after = host.ledger.stretch(clock.nowMs());
  narrator.say(
    `the host has not noticed: ${after.writes} writes answered since, longest time without one ${formatDuration(after.longestGapMs)}`,
  );
  narrator.check('writes go on when the old node is dead', after.writes > 0 && host.ended === null, host.ended ?? 'no write was answered');

  const scrub = await makeSure(scene);
  return { verdict, certificate, flipGapMs, deathGapMs: after.longestGapMs, writesAfterDeath: after.writes, atRisk, scrub };
}

/** Lets the counters climb until the model's verdict fires. */
async function sicken(scene: Scene): Promise<Verdict> {
  const { stage, narrator, pace } = scene;
  const { directory } = stage.node('a');
  narrator.say("node a's disk begins to die: its SMART counters climb");
  for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
    const counters = dyingDisk(reading * pace.readingsAtOnce);
    await writeSmartFile(directory, counters);
    const verdict = await look(scene);
    const { reallocated, pending, uncorrectable } = counters;
    narrator.say(`  reallocated ${reallocated}, pending ${pending}, uncorrectable ${uncorrectable}: ${chance(verdict)}`);
    if (verdict?.firing) {
      narrator.say(`VERDICT: node a fails within ${formatDuration(verdict.horizonSeconds * 1000)}: ${chance(verdict)}. Because:`);
      for (const { text } of verdict.reasons.slice(0, 6)) narrator.detail(`- ${text}`);
      narrator.check('the verdict is the trained model’s own', verdict.origin === 'model', `its origin is ${verdict.origin}`);
      return verdict;
    }
  }
  throw new Error(`the counters climbed ${READINGS_MAX} times and no verdict came`);
}

/** The verdict over node a at the end of a reading, or the moment it fires. */
async function look({ stage, pace, clock }: Scene): Promise<Verdict | null> {
  const untilMs = clock.nowMs() + pace.readingMs;
  for (;;) {
    const { verdict } = await stage.gateway.api.get<NodeView>('/v1/nodes/a');
    if (verdict?.firing || clock.nowMs() >= untilMs) return verdict;
    await sleep(clock, POLL_MS);
  }
}

function chance(verdict: Verdict | null): string {
  if (verdict === null || verdict.probability === null) return 'no signal yet';
  return `probability ${(verdict.probability * 100).toFixed(1)} %, threshold ${(verdict.threshold * 100).toFixed(0)} %`;
}

/** Waits while the volume leaves by itself, telling how far the copy is. */
async function move(scene: Scene): Promise<FlipCertificate> {
  const { watch, host, narrator, clock } = scene;
  let toldMs = 0;
  const flipped = await watch.untilVolume('the volume leaves node a', MOVE_MS, ({ mirrors, lastFlip, epoch }) => {
    if (epoch === 0 && mirrors.length > 0 && clock.nowMs() - toldMs >= PROGRESS_MS) {
      toldMs = clock.nowMs();
      narrator.say(`  copying: ${progress(mirrors[0])}`);
    }
    return epoch > 0 && lastFlip !== null;
  });
  const certificate = flipped.lastFlip!;
  const { from, to, pauseMs, held, drained, dirtyRegions } = certificate;
  narrator.say(`FLIP: ${VOLUME} is served by node ${to.node} now, on the host's same connection`);
  narrator.detail(`pause ${formatDuration(pauseMs)}: ${held} requests held, ${drained.inFlight} drained, ${dirtyRegions} dirty regions`);
  narrator.check(
    'the flip left node a by itself',
    from.node === 'a' && certificate.kind === 'flip',
    `${certificate.kind} from ${from.node}`,
  );
  narrator.check('the host keeps its connection', host.ended === null, host.ended ?? '');
  return certificate;
}

function progress({ node, state, copiedBytes, copyBytesPerSecond, etaSeconds }: MirrorView): string {
  const eta = etaSeconds === null || etaSeconds <= 0 ? '' : `, ${Math.ceil(etaSeconds)} s left`;
  return `${formatBytes(copiedBytes)} on ${node}, ${formatBytes(copyBytesPerSecond)}/s${eta} (${state})`;
}

/** One living copy is left: another one is made, and the two are compared while the host writes. */
async function makeSure({ stage, watch, narrator }: Scene): Promise<ScrubReport> {
  const { api } = stage.gateway;
  await api.delete(`/v1/volumes/${VOLUME}/mirrors/a`);
  const mirror = await api.post<MirrorView>(`/v1/volumes/${VOLUME}/mirrors`);
  narrator.say(`an operator gives up the copy on the dead node and asks for another one: node ${mirror.node} takes it`);
  const synced = (other: MirrorView) => other.node === mirror.node && other.state === 'synced';
  await watch.untilVolume('the second copy is complete', MOVE_MS, ({ mirrors }) => mirrors.some(synced));
  narrator.say(`it is complete; the two are compared`);
  const scrub = await api.postAndWait<ScrubReport>(`/v1/volumes/${VOLUME}/scrub?wait=true`);
  const wrong = scrub.mismatches.length;
  narrator.say(`SCRUB: ${formatBytes(scrub.comparedBytes)} of both copies compared while the host writes: ${wrong} regions differ`);
  narrator.check('the copies are equal', scrub.state === 'done' && wrong === 0, `the scrub is ${scrub.state} with ${wrong} differences`);
  await api.delete(`/v1/volumes/${VOLUME}/mirrors/${mirror.node}`);
  return scrub;
}
