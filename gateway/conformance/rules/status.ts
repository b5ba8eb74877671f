// Rules of BLOCK_STATUS with compact headers.
import { BASE_ALLOCATION, COMMAND, COMMAND_FLAG, EXTENT_FLAG } from '../../nbd/constants.js';
import { expectErrno, expectSuccess, expectThat } from '../expect.js';
import { lengthOf, type StatusChunk, statusChunks } from '../extents.js';
import { NEED } from '../needs.js';
import type { Probe } from '../probe.js';
import type { Answer, RawSession } from '../raw-session.js';
import { type Rule, SECTION } from '../rule.js';
import { NBD_ERRNO } from '../words.js';

const { EINVAL } = NBD_ERRNO;
const EXTENTS_MAX = 2 ** 20;
/** What of an export is walked through, and in how many steps at most. */
const WALK = { bytes: 64 * 1024 * 1024, steps: 1000 };
const ZERO = BigInt(EXTENT_FLAG.ZERO);
const NEEDS = [NEED.STRUCTURED, NEED.ALLOCATION];

function status(session: RawSession, offset: number | bigint, length: number, flags = 0): Promise<Answer> {
  return session.ask({ command: COMMAND.BLOCK_STATUS, flags, offset, length });
}

/** A whole answer about the first MiB. */
async function someStatus(probe: Probe): Promise<{ answer: Answer; chunks: StatusChunk[]; session: RawSession }> {
  const session = await probe.statusSession();
  const answer = await status(session, 0, 1024 * 1024);
  expectSuccess(answer);
  return { answer, chunks: statusChunks(answer), session };
}

/** From the start to the end, or as far as is walked. */
async function walk(probe: Probe, look: (offset: bigint, chunk: StatusChunk, length: number) => void): Promise<void> {
  const session = await probe.statusSession();
  const minimum = probe.facts.block?.minimum ?? 1;
  const end = Math.min(session.sizeBytes - (session.sizeBytes % minimum), WALK.bytes);
  let at = 0n;
  for (let step = 0; at < end && step < WALK.steps; step++) {
    const length = end - Number(at);
    const answer = await status(session, at, length);
    expectSuccess(answer, `BLOCK_STATUS at ${at}`);
    const [chunk] = statusChunks(answer);
    expectThat(chunk !== undefined && chunk.extents.length > 0, `an extent at ${at}`, 'none came');
    look(at, chunk, length);
    at += lengthOf(chunk.extents);
  }
}

export const STATUS_RULES: readonly Rule[] = [
  {
    id: 'status.without-context',
    level: 'should',
    section: SECTION.METADATA,
    says: 'BLOCK_STATUS of a client that selected no context gets EINVAL.',
    needs: [],
    async check(probe) {
      const session = await probe.session();
      expectErrno(await status(session, 0, probe.unit), [EINVAL], 'BLOCK_STATUS without a context');
      await session.staysInStep();
    },
  },
  {
    id: 'status.one-chunk-each',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'BLOCK_STATUS is answered with exactly one chunk for each selected context, under the id it was given.',
    needs: NEEDS,
    async check(probe) {
      const { chunks, session } = await someStatus(probe);
      const came = chunks.map(({ context }) => context).sort((a, b) => a - b);
      const wanted = [...session.contexts.keys()].sort((a, b) => a - b);
      expectThat(
        came.join() === wanted.join(),
        `chunks of the contexts ${wanted.join(', ')}`,
        `those of ${came.join(', ') || 'none'} came`,
      );
    },
  },
  {
    id: 'status.several-contexts',
    level: 'must',
    section: SECTION.METADATA,
    says: 'With several contexts selected, each gets its one chunk.',
    needs: [...NEEDS, NEED.TWO_CONTEXTS],
    async check(probe) {
      const session = await probe.session({ contexts: probe.facts.contexts });
      const answer = await status(session, 0, 1024 * 1024);
      expectSuccess(answer);
      const came = statusChunks(answer)
        .map(({ context }) => context)
        .sort((a, b) => a - b);
      const wanted = [...session.contexts.keys()].sort((a, b) => a - b);
      expectThat(
        came.join() === wanted.join(),
        `chunks of the contexts ${wanted.join(', ')}`,
        `those of ${came.join(', ') || 'none'} came`,
      );
    },
  },
  {
    id: 'status.format',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'A chunk BLOCK_STATUS has 4 bytes and at least one extent of 8.',
    needs: NEEDS,
    async check(probe) {
      for (const { extents, rest } of (await someStatus(probe)).chunks) {
        expectThat(rest === 0 && extents.length > 0, 'whole extents, at least one', `${extents.length} came, and ${rest} bytes more`);
      }
    },
  },
  {
    id: 'status.compact-chunks',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'BLOCK_STATUS_EXT is not used without extended headers, and nothing but status and errors answers BLOCK_STATUS.',
    needs: NEEDS,
    async check(probe) {
      const { answer } = await someStatus(probe);
      const other = answer.messages.find(({ style, type }) => style !== 'structured' || (type !== 5 && type !== 0 && type < 0x8000));
      expectThat(other === undefined, 'chunks BLOCK_STATUS', () => `one of type ${other!.type} in the ${other!.style} style came`);
    },
  },
  {
    id: 'status.lengths',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'The length of an extent is not 0 and is a multiple of the minimum block.',
    needs: NEEDS,
    async check(probe) {
      const minimum = BigInt(probe.facts.block?.minimum ?? 1);
      await walk(probe, (_, { extents }) => {
        const wrong = extents.find(({ length }) => length === 0n || length % minimum !== 0n);
        expectThat(wrong === undefined, `lengths over 0 that are multiples of ${minimum}`, () => `one is ${wrong!.length}`);
      });
    },
  },
  {
    id: 'status.sum',
    level: 'must',
    section: SECTION.CHUNKS,
    says: 'All extents but the last lie within the length that was asked for.',
    needs: NEEDS,
    async check(probe) {
      await walk(probe, (_, { extents }, length) => {
        const sum = lengthOf(extents.slice(0, -1));
        expectThat(extents.length < 2 || sum < BigInt(length), `under ${length} bytes before the last extent`, `there are ${sum}`);
      });
    },
  },
  {
    id: 'status.inside-export',
    level: 'must',
    section: SECTION.REQUESTS,
    says: 'Extents describe portions of the export: none goes past its end.',
    needs: NEEDS,
    async check(probe) {
      await walk(probe, (offset, { extents }) => {
        const end = offset + lengthOf(extents);
        expectThat(end <= BigInt(probe.facts.sizeBytes), `extents up to ${probe.facts.sizeBytes}`, `they go up to ${end}`);
      });
    },
  },
  {
    id: 'status.extents-bounded',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A chunk has at most 2^20 extents.',
    needs: NEEDS,
    async check(probe) {
      const { chunks } = await someStatus(probe);
      for (const { extents } of chunks)
        expectThat(extents.length <= EXTENTS_MAX, `at most ${EXTENTS_MAX} extents`, `${extents.length} came`);
    },
  },
  {
    id: 'status.neighbours-differ',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'Extents one behind the other have different status.',
    needs: NEEDS,
    async check(probe) {
      await walk(probe, (offset, { extents }) => {
        const same = extents.findIndex(({ status: own }, i) => i > 0 && extents[i - 1].status === own);
        expectThat(same < 0, 'neighbours that differ', `extents ${same} and ${same + 1} at ${offset} have the same status`);
      });
    },
  },
  {
    id: 'status.reserved-bits',
    level: 'should',
    section: SECTION.ALLOCATION,
    says: 'Of the status of base:allocation only HOLE and ZERO are used.',
    needs: NEEDS,
    async check(probe) {
      await walk(probe, (_, { extents }) => {
        const wrong = extents.find(({ status: own }) => own > 3n);
        expectThat(wrong === undefined, 'status from 0 to 3', () => `one is ${wrong!.status}`);
      });
    },
  },
  {
    id: 'status.zero-reads-zero',
    level: 'must',
    section: SECTION.ALLOCATION,
    says: 'What is said to be ZERO reads as zeroes.',
    needs: NEEDS,
    async check(probe) {
      const ranges: { offset: bigint; length: bigint }[] = [];
      await walk(probe, (start, { extents }) => {
        let offset = start;
        for (const { length, status: own } of extents) {
          if ((own & ZERO) !== 0n && ranges.length < 16) ranges.push({ offset, length });
          offset += length;
        }
      });
      const session = await probe.session();
      for (const { offset, length } of ranges) {
        const answer = await session.read(offset, Number(length < 65_536n ? length : 65_536n));
        expectSuccess(answer);
        expectThat(
          answer.data.every((byte) => byte === 0),
          `zeroes at ${offset}`,
          'other bytes are there',
        );
      }
    },
  },
  {
    id: 'status.written-not-zero',
    level: 'must',
    section: SECTION.ALLOCATION,
    says: 'What was written and does not read as zeroes is not said to be ZERO.',
    needs: [...NEEDS, NEED.WRITING, NEED.WRITABLE],
    async check(probe) {
      const session = await probe.statusSession();
      expectSuccess(await session.write(0, Buffer.alloc(65_536, 0x5a)));
      const answer = await status(session, 0, 65_536);
      expectSuccess(answer);
      const [first] = statusChunks(answer)[0]?.extents ?? [];
      expectThat(first !== undefined && (first.status & ZERO) === 0n, 'an extent without ZERO', () => `the status is ${first?.status}`);
    },
  },
  {
    id: 'status.req-one',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'With REQ_ONE each chunk has exactly one extent, and that is not longer than what was asked for.',
    needs: NEEDS,
    async check(probe) {
      const session = await probe.statusSession();
      for (const length of [1024 * 1024, probe.unit]) {
        const answer = await status(session, 0, length, COMMAND_FLAG.REQ_ONE);
        expectSuccess(answer, 'BLOCK_STATUS with REQ_ONE');
        for (const { extents } of statusChunks(answer)) {
          expectThat(extents.length === 1, 'one extent', `${extents.length} came`);
          expectThat(extents[0].length <= BigInt(length), `at most ${length} bytes`, `the extent has ${extents[0].length}`);
        }
      }
    },
  },
  {
    id: 'status.past-end',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A BLOCK_STATUS past the end gets EINVAL.',
    needs: NEEDS,
    async check(probe) {
      const session = await probe.statusSession();
      expectErrno(await status(session, session.sizeBytes, probe.unit), [EINVAL], 'BLOCK_STATUS past the end');
      expectErrno(await status(session, 2n ** 64n - BigInt(probe.unit), 2 * probe.unit), [EINVAL], 'BLOCK_STATUS across 2^64');
    },
  },
  {
    id: 'status.zero-length',
    level: 'should',
    section: SECTION.REQUESTS,
    says: 'A BLOCK_STATUS of 0 bytes does not end the connection, whatever it is answered.',
    needs: NEEDS,
    async check(probe) {
      const session = await probe.statusSession();
      const answer = await status(session, 0, 0);
      expectThat(!answer.closed, 'BLOCK_STATUS of 0 bytes to be answered', () => answer.words);
      await session.staysInStep();
    },
  },
  {
    id: 'status.other-flags',
    level: 'should',
    section: SECTION.ERRORS,
    says: 'A BLOCK_STATUS with a flag that belongs to another command gets EINVAL.',
    needs: NEEDS,
    async check(probe) {
      const session = await probe.statusSession();
      for (const [name, flag] of [
        ['DF', COMMAND_FLAG.DF],
        ['NO_HOLE', COMMAND_FLAG.NO_HOLE],
      ] as const) {
        expectErrno(await status(session, 0, probe.unit, flag), [EINVAL], `BLOCK_STATUS with ${name}`);
      }
    },
  },
  {
    id: 'status.fua',
    level: 'must',
    section: SECTION.COMMAND_FLAGS,
    says: 'Where SEND_FUA is offered, BLOCK_STATUS accepts FUA, as every command does.',
    needs: [...NEEDS, NEED.FUA],
    async check(probe) {
      expectSuccess(await status(await probe.statusSession(), 0, probe.unit, COMMAND_FLAG.FUA), 'BLOCK_STATUS with FUA');
    },
  },
  {
    id: 'status.unaligned',
    level: 'should',
    section: SECTION.BLOCK_SIZE,
    says: 'A BLOCK_STATUS that is not aligned to the minimum block gets EINVAL.',
    needs: [...NEEDS, NEED.ALIGNMENT],
    async check(probe) {
      expectErrno(await status(await probe.statusSession(), 1, probe.unit), [EINVAL], 'BLOCK_STATUS at offset 1');
    },
  },
  {
    id: 'status.with-export-name',
    level: 'must',
    section: SECTION.METADATA,
    says: 'Contexts that were selected hold also where the transmission is entered by EXPORT_NAME.',
    needs: [...NEEDS, NEED.NO_ZEROES, NEED.NO_ALIGNMENT],
    async check(probe) {
      const session = await probe.session({ contexts: [BASE_ALLOCATION], exportName: true, zeroes: false });
      expectSuccess(await status(session, 0, probe.unit), 'BLOCK_STATUS after EXPORT_NAME');
    },
  },
];
