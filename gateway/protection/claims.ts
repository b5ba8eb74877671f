// What copies that are being made will take of their nodes, beyond what the nodes can know yet: without it, volumes that
// leave at the same moment would all see the same free space and choose the same node.
import type { NodeFacts } from '../placement/node-facts.js';
import { sameTarget } from './situation.js';
import type { Ward } from './ward.js';

interface Claim {
  copies: number;
  bytes: number;
}

/** The nodes as they will be once everything under way is done. */
export function withClaims(nodes: NodeFacts[], wards: Iterable<Ward>): NodeFacts[] {
  const claims = new Map<string, Claim>();
  const add = (node: string, copies: number, bytes: number): void => {
    const claim = claims.get(node) ?? { copies: 0, bytes: 0 };
    claims.set(node, { copies: claim.copies + copies, bytes: claim.bytes + bytes });
  };
  for (const ward of wards) addClaims(ward, add);
  return nodes.map((node) => {
    const claim = claims.get(node.id);
    if (!claim) return node;
    const freeBytes = node.freeBytes === null ? null : Math.max(0, node.freeBytes - claim.bytes);
    return { ...node, freeBytes, copies: node.copies + claim.copies };
  });
}

function addClaims({ situation, volume: { control }, promised }: Ward, add: (node: string, copies: number, bytes: number) => void): void {
  if (promised !== null) add(promised, 1, control.sizeBytes);
  const views = control.mirrors();
  for (const { target, state } of situation.copies) {
    const view = views.find((mirror) => sameTarget(mirror, target));
    if (!view && state === 'starting') add(target.node, 1, control.sizeBytes);
    else if (view && (state === 'copying' || state === 'catching-up'))
      add(target.node, 0, Math.max(0, control.sizeBytes - view.copiedBytes));
  }
}
