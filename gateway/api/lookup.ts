// Finds what a request names, or refuses with a message that lists what there is.
import type { NodeView, VolumeView } from '../control.js';
import type { Backend } from './backend.js';
import { ApiError } from './status.js';

const NAMES_IN_MESSAGE_MAX = 20;

function listed(names: string[], what: string): string {
  if (names.length === 0) {
    return `There are no ${what}.`;
  }
  return `The ${what} are: ${names.slice(0, NAMES_IN_MESSAGE_MAX).join(', ')}${names.length > NAMES_IN_MESSAGE_MAX ? ', ...' : ''}.`;
}

/** Throws `volume-not-found`. */
export function findVolume(backend: Backend, name: string): VolumeView {
  const volume = backend.volume(name);
  if (volume === undefined) {
    const names = backend.volumes().map((view) => view.name);
    throw new ApiError('volume-not-found', `There is no volume ${JSON.stringify(name)}. ${listed(names, 'volumes')}`);
  }
  return volume;
}

/** Throws `node-not-found`. */
export function findNode(backend: Backend, id: string): NodeView {
  const node = backend.node(id);
  if (node === undefined) {
    const ids = backend.nodes().map((view) => view.id);
    throw new ApiError('node-not-found', `There is no node ${JSON.stringify(id)}. ${listed(ids, 'nodes')}`);
  }
  return node;
}
