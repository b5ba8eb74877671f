// The protection machine's transitions as data. A move is a named reason to change state; `decide` finds it, the
// machine looks it up here, and what is not in the table is a bug. Facts never fail: they change the situation, and
// from it follows a move or none. Only wishes are refused.
import type { ProtectionState } from '../control.js';

export const MOVES = [
  'verdict-fired', // the active target's node is predicted to fail
  'mirror-started', // a copy to go to is being made
  'mirror-synced', // it is complete
  'mirror-behind', // it is no longer complete, but still there
  'mirror-ended', // no copy to go to is left
  'settled', // nothing threatens the volume and nothing is left to undo
  'flip-started',
  'flip-refused', // still where it was
  'flip-abandoned', // a second flip was refused: still where the first one put it
  'flip-done', // by order, or because the volume failed over by itself
  'scrub-clean', // both copies were read and are equal
  'scrub-damage', // later they were not
  'rollback-started',
  'rollback-refused',
  'rollback-done',
] as const;
export type Move = (typeof MOVES)[number];

const ONWARD = {
  'verdict-fired': 'suspect',
  'flip-started': 'flipping',
  'flip-done': 'flipped',
  'rollback-started': 'rolling-back',
  settled: 'healthy',
} as const;

export const TRANSITIONS: Record<ProtectionState, Partial<Record<Move, ProtectionState>>> = {
  healthy: {
    'verdict-fired': 'suspect',
    'mirror-started': 'mirroring',
    'flip-started': 'flipping',
    'flip-done': 'flipped',
    'rollback-started': 'rolling-back',
  },
  suspect: {
    'mirror-started': 'mirroring',
    'flip-started': 'flipping',
    'flip-done': 'flipped',
    'rollback-started': 'rolling-back',
    settled: 'healthy',
  },
  mirroring: {
    'mirror-synced': 'synced',
    'mirror-ended': 'suspect',
    'flip-started': 'flipping',
    'flip-done': 'flipped',
    'rollback-started': 'rolling-back',
    settled: 'healthy',
  },
  synced: {
    'mirror-behind': 'mirroring',
    'mirror-ended': 'suspect',
    'flip-started': 'flipping',
    'flip-done': 'flipped',
    'rollback-started': 'rolling-back',
    settled: 'healthy',
  },
  flipping: {
    'flip-refused': 'synced',
    'flip-abandoned': 'flipped',
    'flip-done': 'flipped',
  },
  flipped: { ...ONWARD, 'scrub-clean': 'verified' },
  verified: { ...ONWARD, 'scrub-damage': 'flipped' },
  'rolling-back': {
    'verdict-fired': 'suspect',
    'flip-done': 'flipped',
    'rollback-refused': 'flipped',
    'rollback-done': 'healthy',
  },
};
