// Second act: somebody raises an alarm, the volume moves, the alarm is withdrawn. The volume goes back to where it was and
// the copy's space is free again.
import { formatDuration } from '../../config/units.js';
import type { ExportView } from '../agent/agent-schema.js';
import type { FlipCertificate, TargetRef } from '../control.js';
import { ApiClient } from '../cli/api-client.js';
import type { Scene } from './evacuation.js';
import { VOLUME } from './pace.js';

const MOVE_MS = 120_000;

export interface FalseAlarmFacts {
  there: FlipCertificate;
  back: FlipCertificate;
  freed: TargetRef;
  /** Longest time without an answered write. */
  gapMs: number;
}

export async function falseAlarm({ stage, watch, host, narrator, pace, clock }: Scene): Promise<FalseAlarmFacts> {
  const { api } = stage.gateway;
  host.ledger.begin(clock.nowMs());
  const { active: home, epoch } = await watch.volume();
  await api.post(`/v1/nodes/${home.node}/verdicts`, { probability: 0.99, reason: 'the cooling of its rack is reported broken' });
  narrator.say(`ALARM: somebody reports to the API that node ${home.node} will fail`);
  const gone = await watch.untilVolume(`the volume leaves ${home.node}`, MOVE_MS, (volume) => volume.epoch > epoch);
  const there = gone.lastFlip!;
  narrator.say(`FLIP: from ${home.node} to ${there.to.node}, pause ${formatDuration(there.pauseMs)}`);
  await api.post(`/v1/nodes/${home.node}/verdicts`, { probability: 0.01, reason: 'it was the sensor' });
  narrator.say(`it was a false alarm, and is withdrawn; node ${home.node} is watched for ${pace.observe} all the same`);

  const settled = await watch.untilVolume(
    'the volume goes back',
    MOVE_MS,
    (volume) => volume.active.node === home.node && volume.state === 'healthy',
  );
  const back = settled.lastFlip!;
  const freed = there.to;
  const agent = new ApiClient(`http://127.0.0.1:${stage.node(freed.node).apiPort}`);
  const exports = await watch.until(
    `${freed.node} frees ${freed.export}`,
    MOVE_MS,
    async () => (await agent.get<{ exports: ExportView[] }>('/v1/exports')).exports,
    (views) => views.every(({ name }) => name !== freed.export),
  );
  narrator.say(
    `ROLLED BACK: ${VOLUME} is on node ${back.to.node} again, pause ${formatDuration(back.pauseMs)}; node ${freed.node} keeps ${exports.length} exports`,
  );
  narrator.check(
    'the false alarm is rolled back to where the volume was',
    back.kind === 'rollback' && back.to.node === home.node && back.to.export === home.export,
    `${back.kind} to ${back.to.node}/${back.to.export}`,
  );
  narrator.check('the space of the copy is free again', exports.length === 0, `${exports.map(({ name }) => name).join(', ')} are left`);
  return { there, back, freed, gapMs: host.ledger.stretch(clock.nowMs()).longestGapMs };
}
