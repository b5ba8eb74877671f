// The routes of nodes and of the verdicts over them.
import type { Backend } from './backend.js';
import { type Endpoint, endpoint } from './endpoint.js';
import { findNode } from './lookup.js';
import { AnySamples, GivenVerdict, Node, NodeList, NodeParams, Samples, VerdictList, VerdictParams, VerdictSchema } from './schemas.js';
import { granted } from './status.js';

/** Samples of a node with many disks, as smartctl writes them, are long. */
const SAMPLES_BYTES_MAX = 8 * 1024 * 1024;

export function nodeRoutes(backend: Backend): Endpoint[] {
  return [
    endpoint({
      method: 'GET',
      path: '/v1/nodes',
      id: 'listNodes',
      tag: 'nodes',
      summary: 'All nodes',
      responses: { 200: { description: 'In the order of the configuration', schema: NodeList } },
      refusals: [],
      handle: () => ({ status: 200, json: { nodes: backend.nodes() } }),
    }),
    endpoint({
      method: 'GET',
      path: '/v1/nodes/{id}',
      id: 'getNode',
      tag: 'nodes',
      summary: 'One node',
      params: NodeParams,
      responses: { 200: { description: 'The node', schema: Node } },
      refusals: [404],
      handle: ({ params }) => ({ status: 200, json: findNode(backend, params.id) }),
    }),
    endpoint({
      method: 'POST',
      path: '/v1/nodes/{id}/samples',
      id: 'pushSamples',
      tag: 'nodes',
      summary: 'Give measured values of a node and its disks',
      params: NodeParams,
      body: AnySamples,
      bodyBytesMax: SAMPLES_BYTES_MAX,
      responses: { 202: { description: 'What was taken up, and what was not and why', schema: Samples } },
      refusals: [404, 503],
      async handle({ params, body }) {
        findNode(backend, params.id);
        return { status: 202, json: granted(await backend.pushSamples(params.id, body)) };
      },
    }),
    endpoint({
      method: 'POST',
      path: '/v1/nodes/{id}/verdicts',
      id: 'giveVerdict',
      tag: 'verdicts',
      summary: 'Give a verdict from outside: it counts like one of the models',
      params: NodeParams,
      body: GivenVerdict,
      responses: { 201: { description: 'The verdict', schema: VerdictSchema } },
      refusals: [404, 409, 503],
      async handle({ params, body }) {
        findNode(backend, params.id);
        return { status: 201, json: granted(await backend.giveVerdict(params.id, body)) };
      },
    }),
    endpoint({
      method: 'GET',
      path: '/v1/verdicts',
      id: 'listVerdicts',
      tag: 'verdicts',
      summary: 'Verdicts, newest last',
      query: VerdictParams,
      responses: { 200: { description: 'The newest of those that match', schema: VerdictList } },
      refusals: [404],
      handle({ query }) {
        if (query.node !== undefined) {
          findNode(backend, query.node);
        }
        return { status: 200, json: { verdicts: backend.verdicts(query) } };
      },
    }),
  ];
}
