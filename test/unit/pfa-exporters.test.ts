// The mappings from exporters' pages and smartctl's JSON to samples, whole pages against whole lists.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { suite } from 'uvu';
import { samplesFromNodeExporter } from '../../pfa/node-exporter.js';
import { parsePrometheusText } from '../../pfa/prometheus-text.js';
import type { Sample } from '../../pfa/sample.js';
import { samplesFromSmartctlExporter } from '../../pfa/smartctl-exporter.js';
import { samplesFromSmartctlJson } from '../../pfa/smartctl-json.js';

const test = suite('pfa exporters');
const AT_MS = 1_700_000_000_000;
const golden = (name: string): string => readFileSync(new URL(`../data/pfa/${name}`, import.meta.url), 'utf8');

function families(text: string) {
  const result = parsePrometheusText(text);
  assert.ok(result.ok, result.ok ? '' : result.message);
  return result.families;
}

function table(samples: Sample[], disk: string | null): Record<string, number> {
  return Object.fromEntries(samples.filter((sample) => sample.disk === disk).map(({ metric, value }) => [metric, value]));
}

const smart = samplesFromSmartctlExporter(families(golden('smartctl-exporter.prom')), 'a', AT_MS);

test('an ATA disk gives its raw counters unpacked and nothing of the NVMe filler', () => {
  assert.deepEqual(table(smart, 'sda'), {
    raw_read_error_rate: 168165566,
    reallocated_sectors: 48,
    power_on_hours: 19491 - 19491 + (85899365923 % 2 ** 32),
    command_timeout: 2,
    offline_uncorrectable: 0,
    failing_attributes: 1,
    power_cycles: 26,
    capacity_bytes: 16000900661248,
    temperature_celsius: 32,
    smart_passed: 1,
  });
});

test('an NVMe disk gives its health log', () => {
  assert.deepEqual(table(smart, 'nvme0'), {
    critical_warning: 4,
    percentage_used: 12,
    available_spare: 97,
    available_spare_threshold: 10,
    media_errors: 3,
    power_cycles: 22,
    power_on_hours: 12164,
    temperature_celsius: 41,
    smart_passed: 0,
  });
});

test('a disk that smartctl could not open has no status, rather than a failed one', () => {
  assert.deepEqual(table(smart, 'sdb'), {});
});

test('samples carry node, time, serial number and model', () => {
  const sample = smart.find(({ disk, metric }) => disk === 'sda' && metric === 'reallocated_sectors');
  const labels = { serial: 'ZL2A0B1C', model: 'ST16000NM001G-2KK103' };
  assert.deepEqual(sample, { node: 'a', disk: 'sda', metric: 'reallocated_sectors', value: 48, atMs: AT_MS, labels });
});

test('an exporter that puts /dev/ before its devices gives the same disks', () => {
  const prefixed = golden('smartctl-exporter.prom').replace(/device="/g, 'device="/dev/');
  assert.deepEqual(samplesFromSmartctlExporter(families(prefixed), 'a', AT_MS), smart);
});

test('without device families a disk named nvme0 is NVMe, and others are when their spare is not the filler', () => {
  const text =
    'smartctl_device_available_spare{device="nvme1"} 0\nsmartctl_device_available_spare{device="sdx"} 0\nsmartctl_device_available_spare{device="disk/by-id/y"} 80\n';
  const samples = samplesFromSmartctlExporter(families(text), 'a', AT_MS);
  assert.deepEqual(
    samples.map(({ disk, value }) => [disk, value]),
    [
      ['nvme1', 0],
      ['disk/by-id/y', 80],
    ],
  );
});

test('SCSI disks give grown defects and uncorrected errors of both directions', () => {
  const text =
    'smartctl_scsi_grown_defect_list{device="sdc"} 7\nsmartctl_read_total_uncorrected_errors{device="sdc"} 2\nsmartctl_write_total_uncorrected_errors{device="sdc"} 3\n';
  assert.deepEqual(table(samplesFromSmartctlExporter(families(text), 'a', AT_MS), 'sdc'), { grown_defects: 7, media_errors: 5 });
});

test('node_exporter gives disks, file systems once a device, and sums over controllers and interfaces', () => {
  const samples = samplesFromNodeExporter(families(golden('node-exporter.prom')), 'b', AT_MS);
  assert.deepEqual(table(samples, 'sda'), {
    disk_reads: 1204511,
    disk_read_seconds: 1841.25,
    disk_writes: 740112,
    disk_write_seconds: 922.5,
  });
  assert.deepEqual(table(samples, 'sda2'), { filesystem_avail_bytes: 31138734080, filesystem_size_bytes: 105180000000 });
  assert.deepEqual(table(samples, null), {
    temperature_celsius: 54,
    uncorrectable_memory_errors: 2,
    link_segments_sent: 91234567,
    link_retransmits: 4321,
    link_errors: 7,
    failed_raid_disks: 1,
  });
  assert.equal(samples.filter(({ metric }) => metric === 'filesystem_avail_bytes').length, 1, 'no tmpfs, no second mount');
});

test('smartctl --json of an ATA disk gives what the exporter gives', () => {
  const result = samplesFromSmartctlJson(golden('smartctl-ata.json'), 'a', AT_MS);
  assert.ok(result.ok);
  assert.equal(result.disk, 'sdb');
  assert.deepEqual(table(result.samples, 'sdb'), {
    smart_passed: 1,
    reallocated_sectors: 48,
    power_on_hours: 85899365923 % 2 ** 32,
    command_timeout: 2,
    pending_sectors: 16,
    failing_attributes: 1,
    temperature_celsius: 32,
    capacity_bytes: 16000900661248,
    power_cycles: 26,
  });
});

test('smartctl --json of an NVMe disk gives its health log', () => {
  const result = samplesFromSmartctlJson(golden('smartctl-nvme.json'), 'a', AT_MS);
  assert.ok(result.ok);
  assert.deepEqual(table(result.samples, 'nvme0'), {
    smart_passed: 0,
    critical_warning: 4,
    percentage_used: 12,
    available_spare: 97,
    available_spare_threshold: 10,
    media_errors: 3,
    error_log_entries: 57,
    temperature_celsius: 41,
    capacity_bytes: 3840755982336,
    power_on_hours: 12164,
    power_cycles: 22,
  });
});

test('smartctl output without a disk is refused with its own message', () => {
  const text = JSON.stringify({
    device: { name: '/dev/sdz' },
    smartctl: { exit_status: 2, messages: [{ string: 'Smartctl open device: /dev/sdz failed: No such device', severity: 'error' }] },
  });
  const result = samplesFromSmartctlJson(text, 'a', AT_MS);
  assert.ok(!result.ok && /could not open \/dev\/sdz: .*No such device/.test(result.message));
  for (const other of ['', 'null', '[]', '{}', '{"device":{"name":5}}', 'smartctl: command not found']) {
    assert.equal(samplesFromSmartctlJson(other, 'a', AT_MS).ok, false, other);
  }
});

test('fields of the wrong type are skipped, never thrown on', () => {
  const device = fc.constant({ name: '/dev/sda' });
  const shape = fc.record({
    device,
    ata_smart_attributes: fc.oneof(fc.anything(), fc.record({ table: fc.array(fc.anything()) })),
    smart_status: fc.anything(),
    temperature: fc.anything(),
  });
  fc.assert(
    fc.property(shape, (value) => {
      const text = JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? String(one) : one));
      const result = samplesFromSmartctlJson(text, 'a', AT_MS);
      assert.ok(!result.ok || result.samples.every((sample) => Number.isFinite(sample.value)));
    }),
    { numRuns: 300 },
  );
});

test.run();
