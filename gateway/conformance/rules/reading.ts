// Rules of the commands that change nothing: READ, FLUSH, CACHE; and of TRIM, WRITE and others as far as they must not change anything.
import { COMMAND, COMMAND_FLAG, INFO, OPTION } from '../../nbd/constants.js';
import { expectErrno, expectSameBytes, expectSuccess, expectThat } from '../expect.js';
import { infoData, infoOf } from '../attach.js';
import { NEED } from '../needs.js';
import { type Rule, SECTION } from '../rule.js';
import { NBD_ERRNO } from '../words.js';

const MIB = 1024 * 1024;
/** More than that nobody lets a client ask for who does not say so. */
const UNANNOUNCED_PAYLOAD_MAX = 64 * MIB;
const { EINVAL, EOVERFLOW } = NBD_ERRNO;

export const READ_RULES: readonly Rule[] = [
  {
    id: 'read.pieces-agree',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'Offset and length define what is read: a range read whole and in pieces is the same.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const unit = probe.unit;
      const whole = await session.bytes(0, 16 * unit);
      const pieces: Buffer[] = [];
      for (let i = 0; i < 16; i++) pieces.push(await session.bytes(i * unit, unit));
      expectSameBytes(Buffer.concat(pieces), whole, 'in pieces what was read whole');
    },
  },
  {
    id: 'read.to-the-end',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'The size that was announced is that of the export: its last block can be read.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const minimum = probe.facts.block?.minimum ?? 1;
      const end = session.sizeBytes - (session.sizeBytes % minimum);
      expectSuccess(await session.read(end - probe.unit, probe.unit), 'READ of the last block');
    },
  },
  {
    id: 'read.past-end',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ of what is past the end gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.read(session.sizeBytes, probe.unit), [EINVAL], 'READ past the end');
    },
  },
  {
    id: 'read.crossing-end',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ that begins before the end and ends behind it gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const offset = session.sizeBytes - (session.sizeBytes % probe.unit) - probe.unit;
      expectErrno(await session.read(offset, 8 * probe.unit), [EINVAL], 'READ across the end');
      await session.staysInStep();
    },
  },
  {
    id: 'read.offset-overflow',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ whose end is over 2^64 does not begin at zero again: it gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await session.read(2n ** 64n - BigInt(probe.unit), 2 * probe.unit), [EINVAL], 'READ across 2^64');
      expectErrno(await session.read(2n ** 63n, probe.unit), [EINVAL], 'READ at 2^63');
    },
  },
  {
    id: 'read.zero-length',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A READ of 0 bytes does not end the connection, whatever it is answered.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      const answer = await session.read(0, 0);
      expectThat(!answer.closed, 'READ of 0 bytes to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'read.other-flags',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ with a flag that belongs to another command gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      for (const [name, flag] of [
        ['NO_HOLE', COMMAND_FLAG.NO_HOLE],
        ['REQ_ONE', COMMAND_FLAG.REQ_ONE],
        ['FAST_ZERO', COMMAND_FLAG.FAST_ZERO],
      ] as const) {
        expectErrno(await session.read(0, probe.unit, flag), [EINVAL], `READ with ${name}`);
      }
    },
  },
  {
    id: 'read.unaligned',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ that is not aligned to the minimum block gets EINVAL.',
    needs: [NEED.ALIGNMENT],
    async check(probe) {
      const session = await probe.session();
      const minimum = probe.facts.block!.minimum;
      expectErrno(await session.read(1, minimum), [EINVAL], 'READ at offset 1');
      expectErrno(await session.read(0, minimum - 1), [EINVAL], `READ of ${minimum - 1} bytes`);
      await session.staysInStep();
    },
  },
  {
    id: 'read.any-byte',
    level: 'must',
    section: SECTION.BLOCK_SIZE,
    says: 'With a minimum block of 1 any byte can be read alone.',
    needs: [NEED.NO_ALIGNMENT, NEED.BLOCK_SIZES],
    async check(probe) {
      const session = await probe.session();
      const whole = await session.bytes(0, 2 * probe.unit);
      for (const [offset, length] of [
        [1, 1],
        [511, 2],
        [probe.unit - 1, probe.unit],
      ]) {
        expectSameBytes(await session.bytes(offset, length), whole.subarray(offset, offset + length), `the bytes at ${offset}`);
      }
    },
  },
  {
    id: 'read.any-byte-by-default',
    level: 'must',
    section: SECTION.OPTION_REPLIES,
    says: 'A server that is asked for block sizes and sends none enforces none: any byte can be read alone.',
    needs: [NEED.NO_BLOCK_SIZES, NEED.GO],
    async check(probe) {
      const answer = await (await probe.connect()).option(OPTION.INFO, infoData(probe.target.export, [INFO.BLOCK_SIZE]));
      expectThat(infoOf(answer, INFO.BLOCK_SIZE) === undefined, 'no INFO_BLOCK_SIZE, as before', 'one came');
      expectSuccess(await (await probe.session()).read(1, 1), 'READ of 1 byte at offset 1');
    },
  },
  {
    id: 'read.32mib',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A payload of 32 MiB is never taken for an attack, and a READ of that succeeds unless a smaller maximum was announced.',
    needs: [NEED.ROOM],
    async check(probe) {
      const session = await probe.session();
      const answer = await session.read(0, 32 * MIB);
      if (probe.payloadBytesMax >= 32 * MIB) expectSuccess(answer, 'READ of 32 MiB');
      else expectThat(!answer.closed, 'READ of 32 MiB to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'read.over-maximum',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ over the maximum payload is carried out in chunks or gets EINVAL or EOVERFLOW; ENOMEM should not be returned if there is another way.',
    needs: [NEED.BEYOND_PAYLOAD],
    note: 'Older versions of the document name EINVAL, newer ones EOVERFLOW for some commands.',
    async check(probe) {
      const session = await probe.session();
      const most = probe.facts.block === null ? UNANNOUNCED_PAYLOAD_MAX : probe.payloadBytesMax;
      const length = Math.min(session.sizeBytes - (session.sizeBytes % probe.unit), most + probe.unit);
      const answer = await session.read(0, length);
      if (!answer.succeeded) expectErrno(answer, [EINVAL, EOVERFLOW], `READ of ${length} bytes`);
      await session.staysInStep();
    },
  },
  {
    id: 'read.4gib',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A READ of nearly 4 GiB is refused at once where the export ends before: EINVAL, or EOVERFLOW.',
    needs: [NEED.NOT_HUGE],
    async check(probe) {
      const session = await probe.session();
      const length = 0xffffffff - (0xffffffff % probe.unit);
      expectErrno(await session.read(0, length), [EINVAL, EOVERFLOW], `READ of ${length} bytes`);
      await session.staysInStep();
    },
  },
];

export const FLUSH_RULES: readonly Rule[] = [
  {
    id: 'flush.succeeds',
    level: 'must',
    section: SECTION.TRANSMISSION_FLAGS,
    says: 'Where SEND_FLUSH is offered, FLUSH works.',
    needs: [NEED.FLUSH],
    async check(probe) {
      const session = await probe.session();
      expectSuccess(await session.ask({ command: COMMAND.FLUSH }));
      await session.staysInStep();
    },
  },
  {
    id: 'flush.other-flags',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A FLUSH with a flag that belongs to another command gets EINVAL.',
    needs: [NEED.FLUSH],
    async check(probe) {
      const session = await probe.session();
      for (const [name, flags] of [
        ['NO_HOLE', COMMAND_FLAG.NO_HOLE],
        ['DF', COMMAND_FLAG.DF],
      ] as const) {
        expectErrno(await session.ask({ command: COMMAND.FLUSH, flags }), [EINVAL], `FLUSH with ${name}`);
      }
    },
  },
];

export const CACHE_RULES: readonly Rule[] = [
  {
    id: 'cache.harmless',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'CACHE is answered, and reads are the same afterwards whether it succeeded or not.',
    needs: [NEED.CACHE],
    async check(probe) {
      const session = await probe.session();
      const before = await session.bytes(0, 8 * probe.unit);
      const answer = await session.ask({ command: COMMAND.CACHE, length: 8 * probe.unit });
      expectThat(!answer.closed, 'CACHE to be answered', () => answer.words);
      expectSameBytes(await session.bytes(0, 8 * probe.unit), before, 'the same bytes after CACHE');
    },
  },
  {
    id: 'cache.unknown-flags',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'A server that offers CACHE rejects flags that it does not know.',
    needs: [NEED.CACHE],
    async check(probe) {
      const session = await probe.session();
      for (const flags of [1 << 14, COMMAND_FLAG.NO_HOLE])
        expectErrno(await session.ask({ command: COMMAND.CACHE, flags, length: probe.unit }), [], `CACHE with flags ${flags}`);
      await session.staysInStep();
    },
  },
  {
    id: 'cache.past-end',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A CACHE past the end gets EINVAL.',
    needs: [NEED.CACHE],
    async check(probe) {
      const session = await probe.session();
      expectErrno(
        await session.ask({ command: COMMAND.CACHE, offset: session.sizeBytes, length: probe.unit }),
        [EINVAL],
        'CACHE past the end',
      );
    },
  },
];
