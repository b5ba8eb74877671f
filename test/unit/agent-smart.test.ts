// A node's disks through smartctl (a script that stands for it) and through the file of simulated disks.
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import { IoCounters } from '../../gateway/agent/io-counters.js';
import { renderMetrics } from '../../gateway/agent/metrics.js';
import { parseSimulated } from '../../gateway/agent/simulated-disks.js';
import { Smart } from '../../gateway/agent/smart.js';
import { parseScan, parseSmartctl } from '../../gateway/agent/smartctl-output.js';
import { ManualClock } from '../support/manual-clock.js';
import { Rig } from './agent-rig.js';

const ATA = {
  smartctl: { exit_status: 0 },
  device: { name: '/dev/sda', type: 'sat', protocol: 'ATA' },
  model_family: 'Family',
  model_name: 'MODEL 4T',
  serial_number: 'S1',
  user_capacity: { bytes: 4000787030016, blocks: 7814037168 },
  smart_status: { passed: true },
  temperature: { current: 31 },
  power_on_time: { hours: 100 },
  power_cycle_count: 12,
  ata_smart_attributes: {
    table: [
      {
        id: 5,
        name: 'Reallocated_Sector_Ct',
        value: 100,
        worst: 99,
        thresh: 10,
        flags: { string: 'PO--CK ' },
        raw: { value: 8, string: '8' },
      },
      { id: 197, name: 'Current_Pending_Sector', value: 100, worst: 100, thresh: 0, flags: { string: '-O--C- ' }, raw: { value: 2 } },
    ],
  },
};
const NVME = {
  smartctl: { exit_status: 0 },
  device: { name: '/dev/nvme0', type: 'nvme', protocol: 'NVMe' },
  model_name: 'N',
  nvme_smart_health_information_log: {
    critical_warning: 0,
    percentage_used: 7,
    available_spare: 100,
    media_errors: 1,
    num_err_log_entries: 4,
  },
};
const SCAN = {
  devices: [
    { name: '/dev/sda', type: 'sat' },
    { name: '/dev/nvme0', type: 'nvme' },
  ],
};

interface Disks {
  rig: Rig;
  clock: ManualClock;
  smart: Smart;
  /** Sets what smartctl prints for a device (`scan`, `sda`, `nvme0`) and its exit status. */
  prints(device: string, output: object | string, status?: number): void;
  calls(): string[];
}

const smart = suite<Disks>('agent SMART');
smart.before.each((context) => {
  const rig = new Rig();
  context.rig = rig;
  context.clock = new ManualClock();
  context.prints = (device, output, status = 0) => {
    writeFileSync(join(rig.dir, `${device}.out`), typeof output === 'string' ? output : JSON.stringify(output));
    writeFileSync(join(rig.dir, `${device}.status`), `${status}`);
  };
  context.calls = () => readFileSync(join(rig.dir, 'calls'), 'utf8').trim().split('\n');
  const script = join(rig.dir, 'smartctl');
  writeFileSync(
    script,
    `#!/bin/sh
cd ${rig.dir}
echo "$*" >> calls
for last; do :; done
name=$(basename -- "$last")
[ "$name" = --scan ] && name=scan
cat "$name.out"
exit $(cat "$name.status")
`,
  );
  chmodSync(script, 0o755);
  context.prints('scan', SCAN);
  context.prints('sda', ATA);
  context.prints('nvme0', NVME);
  context.smart = new Smart({ dir: rig.dir, log: rig.log, clock: context.clock, smartctl: script });
});
smart.after.each(async (context) => {
  await context.smart.close();
  await context.rig.remove();
});

smart('reads each disk that is found, waking none, once a minute at most', async ({ smart, clock, calls }) => {
  const [first, second] = await Promise.all([smart.disks(), smart.disks()]);
  assert.deepEqual(first, second);
  assert.deepEqual(
    first.map(({ device, temperatureCelsius }) => [device, temperatureCelsius]),
    [
      ['sda', 31],
      ['nvme0', null],
    ],
  );
  assert.deepEqual(calls(), ['--json --scan', '--json -a -n standby -d sat /dev/sda', '--json -a -n standby -d nvme /dev/nvme0']);
  clock.advance(59_000);
  await smart.disks();
  assert.equal(calls().length, 3);
  clock.advance(1_000);
  await smart.disks();
  assert.equal(calls().length, 6);
});

smart(
  'takes an exit status with findings for an answer, and keeps the last reading of a disk that sleeps',
  async ({ smart, clock, prints }) => {
    prints('sda', { ...ATA, smartctl: { exit_status: 8 }, smart_status: { passed: false } }, 8);
    const failing = (await smart.disks())[0];
    assert.deepEqual([failing.smartStatusPassed, failing.exitStatus], [false, 8]);
    prints('sda', { smartctl: { exit_status: 2 }, device: ATA.device }, 2);
    clock.advance(60_000);
    assert.deepEqual((await smart.disks())[0], failing);
  },
);

smart('drops a disk whose output is garbled, with a word in the log', async ({ smart, prints, rig }) => {
  prints('sda', 'Smartctl open device failed', 1);
  assert.deepEqual(
    (await smart.disks()).map(({ device }) => device),
    ['nvme0'],
  );
  assert(rig.log.lines.some((line) => line.startsWith('warn the health of a disk cannot be read')));
});

smart('does not hold up a scrape while smartctl hangs', async ({ rig, clock }) => {
  const hanging = join(rig.dir, 'hanging');
  writeFileSync(hanging, '#!/bin/sh\nexec sleep 600\n');
  chmodSync(hanging, 0o755);
  const slow = new Smart({ dir: rig.dir, log: rig.log, clock, smartctl: hanging });
  const disks = slow.disks();
  while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  clock.advance(5_000);
  assert.deepEqual(await disks, []);
  await slow.close();
});

smart('asks no more for a smartctl that is not installed', async ({ rig, clock }) => {
  const none = new Smart({ dir: rig.dir, log: rig.log, clock, smartctl: join(rig.dir, 'not-there') });
  assert.deepEqual(await none.disks(), []);
  clock.advance(60_000);
  assert.deepEqual(await none.disks(), []);
  assert.equal(rig.log.lines.filter((line) => line.includes('smartctl is not installed')).length, 1);
});

smart('shows simulated disks instead while their file is there, anew when it changes', async ({ smart, rig }) => {
  const file = join(rig.dir, 'smart.json');
  const write = (reallocated: number): void =>
    writeFileSync(file, JSON.stringify({ disks: [{ device: 'sim0', attributes: { 5: reallocated, 9: 10 }, temperatureCelsius: 40 }] }));
  write(0);
  const [disk] = await smart.disks();
  assert.deepEqual([disk.device, disk.attributes[0].raw, disk.powerOnSeconds, disk.smartStatusPassed], ['sim0', 0, 36_000, null]);
  write(1234);
  assert.equal((await smart.disks())[0].attributes[0].raw, 1234);
  writeFileSync(file, '{"disks":[{"device":"sim0","attributes":{"5":-1}}]}');
  assert.deepEqual(await smart.disks(), []);
  assert(rig.log.lines.some((line) => line.includes('the file of simulated disks is not valid')));
});

smart('refuses simulated disks that cannot be, saying where', () => {
  for (const text of [
    '',
    '[]',
    '{"disks":[{}]}',
    '{"disks":[{"device":"a b"}]}',
    '{"disks":[{"device":"a","attributes":{"256":1}}]}',
    '{"disk":[]}',
  ]) {
    assert.equal(parseSimulated(text).ok, false, text);
  }
  const refused = parseSimulated('{"disks":[{"device":"a","attributes":{"5":"x"}}]}');
  assert.match(refused.ok ? '' : refused.message, /disks\[0\]\.attributes/);
});

smart('writes what was measured under the names of smartctl_exporter, and nothing that was not', async () => {
  const disks = [ATA, NVME].map((output) => {
    const parsed = parseSmartctl(JSON.stringify(output));
    assert(parsed.ok);
    return parsed.value;
  });
  const space = { capacityBytes: 10, freeBytes: 5 };
  const text = await renderMetrics({ version: '1', incarnation: 'i', space, exports: [], connections: 0, io: new IoCounters(), disks });
  const lines = text.split('\n').filter((line) => line.startsWith('smartctl'));
  const of = (device: string): string[] => lines.filter((line) => line.includes(`device="${device}"`));
  const attribute =
    'smartctl_device_attribute{device="sda",attribute_id="5",attribute_name="Reallocated_Sector_Ct",attribute_flags_short="PO--CK"';
  assert(lines.includes(`${attribute},attribute_value_type="raw"} 8`));
  assert(lines.includes(`${attribute},attribute_value_type="thresh"} 10`));
  assert(lines.includes('smartctl_device_temperature{device="sda",temperature_type="current"} 31'));
  assert(lines.includes('smartctl_device_smart_status{device="sda"} 1'));
  assert(lines.includes('smartctl_device_power_on_seconds{device="sda"} 360000'));
  assert(lines.includes('smartctl_device_percentage_used{device="nvme0"} 7'));
  assert(lines.includes('smartctl_device_media_errors{device="nvme0"} 1'));
  assert(!of('sda').some((line) => line.startsWith('smartctl_device_percentage_used')));
  assert(!of('nvme0').some((line) => /smart_status|temperature|available_spare_threshold/.test(line)));
});

smart('takes an empty scan for no disks', () => {
  assert.deepEqual(parseScan('{"smartctl":{"exit_status":0}}'), { ok: true, value: [] });
  assert.equal(parseScan('nonsense').ok, false);
});

smart.run();
