// The routes of volumes: look, grow, mirror, flip, take over, roll back, scrub.
import type { Backend } from './backend.js';
import { type Endpoint, endpoint } from './endpoint.js';
import { findNode, findVolume } from './lookup.js';
import {
  Certificate,
  Mirror,
  MirrorParams,
  NewSize,
  NodeChoice,
  Nothing,
  Rollback,
  Scrub,
  ScrubParams,
  TakeoverChoice,
  Target,
  Volume,
  VolumeList,
  VolumeParams,
} from './schemas.js';
import { ApiError, granted } from './status.js';

/** The node a request chose; null when it left the choice to the gateway. */
function chosenNode(backend: Backend, body: { node?: string | null } | undefined): string | null {
  const id = body?.node ?? null;
  return id === null ? null : findNode(backend, id).id;
}

function volumePath(name: string): string {
  return `/v1/volumes/${encodeURIComponent(name)}`;
}

export function volumeRoutes(backend: Backend): Endpoint[] {
  return [
    endpoint({
      method: 'GET',
      path: '/v1/volumes',
      id: 'listVolumes',
      tag: 'volumes',
      summary: 'All volumes',
      responses: { 200: { description: 'By name', schema: VolumeList } },
      refusals: [],
      handle: () => ({ status: 200, json: { volumes: backend.volumes() } }),
    }),
    endpoint({
      method: 'GET',
      path: '/v1/volumes/{name}',
      id: 'getVolume',
      tag: 'volumes',
      summary: 'One volume',
      params: VolumeParams,
      responses: { 200: { description: 'The volume', schema: Volume } },
      refusals: [404],
      handle: ({ params }) => ({ status: 200, json: findVolume(backend, params.name) }),
    }),
    endpoint({
      method: 'PATCH',
      path: '/v1/volumes/{name}',
      id: 'growVolume',
      tag: 'volumes',
      summary: 'Make a volume larger, live; answered when it is, on every copy',
      params: VolumeParams,
      body: NewSize,
      responses: { 200: { description: 'The volume as it is now; the same if it had that size', schema: Volume } },
      refusals: [404, 409, 503, 504],
      async handle({ params, body }) {
        findVolume(backend, params.name);
        return { status: 200, json: granted(await backend.grow(params.name, body.size)) };
      },
    }),
    endpoint({
      method: 'POST',
      path: '/v1/volumes/{name}/mirrors',
      id: 'addMirror',
      tag: 'volumes',
      summary: 'Start a mirror; answered when copying has begun',
      params: VolumeParams,
      body: NodeChoice,
      bodyOptional: true,
      responses: { 202: { description: 'Copying has begun; its progress is in the volume', schema: Mirror } },
      refusals: [404, 409, 503],
      async handle({ params, body }) {
        findVolume(backend, params.name);
        const mirror = granted(await backend.addMirror(params.name, chosenNode(backend, body)));
        return { status: 202, json: mirror, headers: { location: volumePath(params.name) } };
      },
    }),
    endpoint({
      method: 'DELETE',
      path: '/v1/volumes/{name}/mirrors/{node}',
      id: 'removeMirror',
      tag: 'volumes',
      summary: 'Drop a mirror and free its space',
      params: MirrorParams,
      responses: { 200: { description: 'The target that was dropped', schema: Target } },
      refusals: [404, 409, 503],
      async handle({ params }) {
        const { mirrors } = findVolume(backend, params.name);
        if (!mirrors.some(({ node }) => node === params.node)) {
          const message = `Volume ${params.name} has no mirror on node ${JSON.stringify(params.node)}.`;
          throw new ApiError('mirror-not-found', message, { mirrors: mirrors.map(({ node }) => node) });
        }
        return { status: 200, json: granted(await backend.removeMirror(params.name, params.node)) };
      },
    }),
    endpoint({
      method: 'POST',
      path: '/v1/volumes/{name}/flip',
      id: 'flipVolume',
      tag: 'volumes',
      summary: 'Make a synced mirror the active target, live',
      params: VolumeParams,
      body: NodeChoice,
      bodyOptional: true,
      responses: { 200: { description: 'The certificate of the flip', schema: Certificate } },
      refusals: [404, 409, 503],
      async handle({ params, body }) {
        findVolume(backend, params.name);
        return { status: 200, json: granted(await backend.flip(params.name, chosenNode(backend, body))) };
      },
    }),
    endpoint({
      method: 'POST',
      path: '/v1/volumes/{name}/takeover',
      id: 'takeOverVolume',
      tag: 'volumes',
      summary: 'Give up an active target that does not answer, for a mirror that may be older here and there',
      params: VolumeParams,
      body: TakeoverChoice,
      bodyOptional: true,
      responses: { 200: { description: 'The certificate; dirtyRegions: what may be older', schema: Certificate } },
      refusals: [404, 409, 503],
      async handle({ params, body }) {
        findVolume(backend, params.name);
        const certificate = await backend.takeOver(params.name, chosenNode(backend, body), body?.acceptLoss ?? false);
        return { status: 200, json: granted(certificate) };
      },
    }),
    endpoint({
      method: 'POST',
      path: '/v1/volumes/{name}/rollback',
      id: 'rollBackVolume',
      tag: 'volumes',
      summary: 'Undo: before the flip the mirror is dropped, after it the volume flips back',
      params: VolumeParams,
      body: Nothing,
      bodyOptional: true,
      responses: { 200: { description: 'What was done', schema: Rollback } },
      refusals: [404, 409, 503],
      async handle({ params }) {
        findVolume(backend, params.name);
        return { status: 200, json: granted(await backend.rollback(params.name)) };
      },
    }),
    endpoint({
      method: 'POST',
      path: '/v1/volumes/{name}/scrub',
      id: 'scrubVolume',
      tag: 'volumes',
      summary: 'Compare every copy and repair from the right one',
      params: VolumeParams,
      query: ScrubParams,
      body: Nothing,
      bodyOptional: true,
      responses: {
        200: { description: 'With wait=true: the report at its end', schema: Scrub },
        202: { description: 'It is under way, begun by this request or before; its progress is in the volume', schema: Scrub },
      },
      refusals: [404, 409, 503],
      async handle({ params, query }) {
        findVolume(backend, params.name);
        const run = granted(await backend.scrub(params.name));
        if (query.wait) {
          return { status: 200, json: granted(await run.finished) };
        }
        return { status: 202, json: run.report, headers: { location: volumePath(params.name) } };
      },
    }),
  ];
}
