// What a reload of the configuration did or refused, in words.
import type { ConfigChange, Remark } from '../../config/reload.js';

export function sayRemark({ path, message }: Remark): string {
  return `${path} ${message}`;
}

export function sayChange(change: ConfigChange): string {
  switch (change.type) {
    case 'server-changed':
      return `server: ${change.keys.join(', ')}`;
    case 'node-added':
    case 'node-changed':
      return `${change.type.replace('-', ' ')}: ${change.node.id}`;
    case 'node-removed':
      return `node removed: ${change.id}`;
    case 'policy-added':
    case 'policy-changed':
      return `${change.type.replace('-', ' ')}: ${change.policy.name}`;
    case 'policy-removed':
    case 'volume-removed':
      return `${change.type.replace('-', ' ')}: ${change.name}`;
    case 'volume-added':
    case 'volume-changed':
      return `${change.type.replace('-', ' ')}: ${change.volume.name}`;
  }
}
