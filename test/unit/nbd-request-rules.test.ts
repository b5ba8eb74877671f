// Which requests are let through and how the others are refused, against the rules of the protocol.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { suite } from 'uvu';
import { type HeaderStyle, RequestHeader } from '../../gateway/nbd/codec.js';
import { EXPORT_FLAG } from '../../gateway/nbd/constants.js';
import { transmissionFlags } from '../../gateway/nbd/export-info.js';
import { refusalOfDevice } from '../../gateway/nbd/refusal.js';
import { RequestRules, validateRequest } from '../../gateway/nbd/request-rules.js';
import { MemoryDevice } from '../support/memory-device.js';
import { ALL_FEATURES, type ExportWish, memoryExport } from '../support/memory-exports.js';

const test = suite('nbd request rules');

const [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32];
const [EPERM, EIO, EINVAL, ENOSPC, ENOTSUP] = [1, 5, 22, 28, 95];
const SIZE = 1 << 20;
const device = new MemoryDevice(SIZE);

function rulesOf(wish: ExportWish = {}, headers: HeaderStyle = 'structured', blockStatus = true): RequestRules {
  return new RequestRules(memoryExport('disk', device, wish), headers, blockStatus);
}

/** The error number of a request, 0 when it is let through. */
function errno(rules: RequestRules, command: number, flags: number, offset: number, length: number): number {
  const header = new RequestHeader();
  Object.assign(header, { command, flags, offset, length });
  return validateRequest(header, rules)?.errno ?? 0;
}

test('ranges end at the end of the export: EINVAL, or ENOSPC for what would write', () => {
  const rules = rulesOf();
  for (const command of [READ, WRITE, TRIM, CACHE, ZEROES, STATUS]) {
    const past = command === WRITE || command === ZEROES ? ENOSPC : EINVAL;
    assert.equal(errno(rules, command, 0, 0, SIZE), 0);
    assert.equal(errno(rules, command, 0, SIZE - 1, 1), 0);
    assert.equal(errno(rules, command, 0, SIZE, 1), past);
    assert.equal(errno(rules, command, 0, SIZE - 1, 2), past);
    assert.equal(errno(rules, command, 0, 2 ** 53, 512), past);
    assert.equal(errno(rules, command, 0, 2 ** 64, 512), EINVAL, 'over 2^64');
  }
});

test('empty requests are let through up to the very end', () => {
  for (const command of [READ, WRITE, TRIM, CACHE, ZEROES, STATUS]) {
    assert.equal(errno(rulesOf(), command, 0, SIZE, 0), 0);
    assert.equal(errno(rulesOf(), command, 0, 0, 0), 0);
  }
});

test('FLUSH ignores offset and length', () => {
  assert.equal(errno(rulesOf({ block: { minimum: 512 } }), FLUSH, 0, 2 ** 60, 0xffffffff), 0);
});

test('FUA is taken by every command, and by none where it is not offered', () => {
  const without = rulesOf({ features: { fua: false } });
  for (const command of [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS]) {
    assert.equal(errno(rulesOf(), command, FUA, 0, 512), 0);
    assert.equal(errno(without, command, FUA, 0, 512), EINVAL);
  }
});

test('every other flag is taken only by its command', () => {
  const takers: [number, number][] = [
    [NO_HOLE, ZEROES],
    [DF, READ],
    [REQ_ONE, STATUS],
    [FAST_ZERO, ZEROES],
    [PAYLOAD_LEN, -1],
    [64, -1],
    [0x8000, -1],
  ];
  for (const [flag, taker] of takers) {
    for (const command of [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS]) {
      assert.equal(errno(rulesOf(), command, flag, 0, 512), command === taker ? 0 : EINVAL, `flag ${flag} on command ${command}`);
    }
  }
});

test('flags that were not offered are refused: DF without structured replies, FAST_ZERO', () => {
  assert.equal(errno(rulesOf({}, 'simple', false), READ, DF, 0, 512), EINVAL);
  assert.equal(errno(rulesOf({ features: { fastZero: false } }), ZEROES, FAST_ZERO, 0, 512), EINVAL);
});

test('commands that were not offered and commands that do not exist are EINVAL', () => {
  assert.equal(errno(rulesOf({ features: { flush: false } }), FLUSH, 0, 0, 0), EINVAL);
  assert.equal(errno(rulesOf({ features: { trim: false } }), TRIM, 0, 0, 512), EINVAL);
  assert.equal(errno(rulesOf({ features: { cache: false } }), CACHE, 0, 0, 512), EINVAL);
  assert.equal(errno(rulesOf({ features: { zeroes: false } }), ZEROES, 0, 0, 512), EINVAL);
  assert.equal(errno(rulesOf({}, 'structured', false), STATUS, 0, 0, 512), EINVAL);
  for (const command of [8, 9, 255, 0xffff]) assert.equal(errno(rulesOf(), command, 0, 0, 512), EINVAL);
});

test('a read-only export refuses every change with EPERM', () => {
  const rules = rulesOf({ features: { readOnly: true } });
  for (const command of [WRITE, TRIM, ZEROES]) assert.equal(errno(rules, command, 0, 0, 512), EPERM);
  for (const command of [READ, FLUSH, CACHE, STATUS]) assert.equal(errno(rules, command, 0, 0, 512), 0);
});

test('what is not aligned to the minimum block is EINVAL', () => {
  const rules = rulesOf({ block: { minimum: 512 } });
  for (const command of [READ, WRITE, TRIM, CACHE, ZEROES, STATUS]) {
    assert.equal(errno(rules, command, 0, 512, 1024), 0);
    assert.equal(errno(rules, command, 0, 256, 512), EINVAL);
    assert.equal(errno(rules, command, 0, 512, 100), EINVAL);
  }
});

test('READ and WRITE are bounded by the maximum payload, TRIM and the others are not', () => {
  const rules = rulesOf({ block: { maximumPayload: 65536 } });
  for (const command of [READ, WRITE]) {
    assert.equal(errno(rules, command, 0, 0, 65536), 0);
    assert.equal(errno(rules, command, 0, 0, 65537), EINVAL);
  }
  for (const command of [TRIM, CACHE, ZEROES, STATUS]) assert.equal(errno(rules, command, 0, 0, SIZE), 0);
});

test('what is announced is let through, and what is not is refused, for any export', () => {
  const features = fc.record(Object.fromEntries(Object.keys(ALL_FEATURES).map((key) => [key, fc.boolean()])));
  fc.assert(
    fc.property(features, fc.constantFrom<HeaderStyle>('simple', 'structured', 'extended'), (wish, headers) => {
      const target = memoryExport('disk', device, { features: wish });
      const flags = transmissionFlags(target, headers, headers !== 'simple');
      const rules = new RequestRules(target, headers, headers !== 'simple');
      const announced = (flag: number): boolean => (flags & flag) !== 0;
      const taken = (command: number, flag: number): boolean => errno(rules, command, flag, 0, 512) === 0;
      assert.equal(taken(WRITE, headers === 'extended' ? PAYLOAD_LEN : 0), !announced(EXPORT_FLAG.READ_ONLY));
      assert.equal(taken(FLUSH, 0), announced(EXPORT_FLAG.SEND_FLUSH));
      assert.equal(taken(READ, FUA), announced(EXPORT_FLAG.SEND_FUA));
      assert.equal(taken(TRIM, 0), announced(EXPORT_FLAG.SEND_TRIM));
      assert.equal(taken(ZEROES, 0), announced(EXPORT_FLAG.SEND_WRITE_ZEROES));
      assert.equal(taken(READ, DF), announced(EXPORT_FLAG.SEND_DF));
      assert.equal(taken(CACHE, 0), announced(EXPORT_FLAG.SEND_CACHE));
      assert.equal(taken(ZEROES, FAST_ZERO), announced(EXPORT_FLAG.SEND_FAST_ZERO));
    }),
  );
});

test('with extended headers a WRITE needs PAYLOAD_LEN; nothing else takes it, and without them nothing does', () => {
  const extended = rulesOf({}, 'extended');
  assert.equal(errno(extended, WRITE, PAYLOAD_LEN, 0, 512), 0);
  assert.equal(errno(extended, WRITE, PAYLOAD_LEN | FUA, 0, 512), 0);
  assert.equal(errno(extended, WRITE, 0, 0, 512), EINVAL);
  for (const command of [READ, FLUSH, TRIM, CACHE, ZEROES]) assert.equal(errno(extended, command, PAYLOAD_LEN, 0, 512), EINVAL);
  for (const command of [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS]) {
    assert.equal(errno(rulesOf(), command, PAYLOAD_LEN, 0, 512), EINVAL);
  }
});

test('a device error becomes one that NBD knows and allows there', () => {
  for (const same of [EPERM, EIO, 12, EINVAL, ENOSPC, 108]) assert.equal(refusalOfDevice(same, false).errno, same);
  assert.equal(refusalOfDevice(122, false).errno, ENOSPC, 'EDQUOT');
  assert.equal(refusalOfDevice(27, false).errno, ENOSPC, 'EFBIG');
  assert.equal(refusalOfDevice(ENOTSUP, true).errno, ENOTSUP);
  assert.equal(refusalOfDevice(ENOTSUP, false).errno, EIO, 'ENOTSUP is for FAST_ZERO alone');
  assert.equal(refusalOfDevice(75, false).errno, EIO, 'EOVERFLOW is not for the device to say');
  assert.equal(refusalOfDevice(9999, false).errno, EIO);
});

test.run();
