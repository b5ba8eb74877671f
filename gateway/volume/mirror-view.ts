// A mirror as people and programs see it.
import type { Mirror } from '../../replication/mirror.js';
import type { MirrorView, TargetRef } from '../control.js';

export function viewMirror(target: TargetRef, mirror: Mirror): MirrorView {
  const rate = mirror.copyBytesPerSecond;
  const dirtyBytes = mirror.dirty.countBytes;
  return {
    node: target.node,
    export: target.export,
    state: mirror.condition,
    reverse: mirror.reverse,
    copiedBytes: mirror.copiedBytes,
    dirtyBytes,
    lagBytes: mirror.queue.hostBytes,
    lagSeconds: mirror.queue.hostEmpty ? 0 : mirror.queue.oldestMs / 1000,
    copyBytesPerSecond: Math.round(rate),
    etaSeconds: dirtyBytes === 0 ? 0 : mirror.answers && rate >= 1 ? Math.ceil(dirtyBytes / rate) : null,
    reason: mirror.reason,
  };
}
