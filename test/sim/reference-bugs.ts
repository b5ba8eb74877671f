// The deliberate bugs of the reference system. Each breaks one thing that keeps data safe, and the simulation must find
// each: that is how we know that the world and the checker work.

export const BUGS = {
  'flush-lies': 'a flush is answered without being sent',
  'fua-ignored': 'FUA is not passed on',
  'no-replay': 'what a restarted node may have forgotten is not written again',
  'replay-all': 'all of it is written again in order, so that blocks go back to older bytes for a while',
  'replay-out-of-order': 'it is written again in the wrong order',
  'resend-early': 'unanswered writes are sent again while the old ones may still land',
  'start-early': 'a restarted gateway does not wait for requests of its former life',
  'no-overlap-order': 'overlapping writes are in flight at once',
  'reverse-forgotten': 'after a flip the old target gets no more writes, and counts as equal',
  'copy-half': 'only half of the volume is copied to a mirror',
  'mirror-misses-zeroes': 'zeroes are not written to the mirror',
  'copy-without-hold': 'the mirror is copied while writes go to the source alone',
  'copy-unflushed': 'a mirror is copied from a source that may still go back',
  'resync-skipped': 'after a crash the mirror is taken to be equal',
  'drops-request': 'a request in flight is forgotten when the connection is lost',
  'error-leaks': 'that a node shuts down is passed on to hosts',
  'stale-read': 'reads are answered from what was read before',
  'torn-slice': 'the answer to a large read has two blocks exchanged',
} as const;

export type Bug = keyof typeof BUGS;
