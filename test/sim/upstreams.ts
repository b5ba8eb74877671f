// The connections of one simulated gateway incarnation to its targets: real upstreams over the simulation's network.
import { type Outcome, refuse, type TargetRef } from '../../gateway/control.js';
import type { Requirements } from '../../gateway/upstream/features.js';
import { type TargetMemory, Upstream, type UpstreamEvents } from '../../gateway/upstream/upstream.js';
import type { Surroundings } from './system.js';

const UNFLUSHED_BYTES = 128 * 1024;

export function connectIn({ clock, dialer, log, nodes }: Surroundings) {
  return (target: TargetRef, needs: Requirements, events: UpstreamEvents, memory: TargetMemory | null): Outcome<Upstream> => {
    const place = nodes.find((node) => node.name === target.node);
    if (place === undefined) return refuse('node-not-found', `no node ${target.node}`);
    const options = {
      target,
      address: () => place.address,
      exportName: target.export,
      connections: 3,
      zombieMs: place.zombieMs,
      unflushedBytesMax: UNFLUSHED_BYTES,
      memory,
      needs,
      dialer,
      clock,
      log,
    };
    return { ok: true, value: new Upstream(options, events) };
  };
}
