// The routes of the gateway itself: is it alive, is it ready, its figures, and its configuration read again.
import type { Backend, MetricsPage } from './backend.js';
import { type Endpoint, endpoint } from './endpoint.js';
import { Document, Health, Nothing, Ready, Reload } from './schemas.js';
import { granted } from './status.js';

/** `document` gives the OpenAPI document of all routes. */
export function systemRoutes(backend: Backend, metrics: MetricsPage, document: () => object): Endpoint[] {
  return [
    endpoint({
      method: 'GET',
      path: '/healthz',
      id: 'health',
      tag: 'system',
      summary: 'The process answers',
      responses: { 200: { description: 'Always, while it runs', schema: Health } },
      refusals: [],
      handle: () => ({ status: 200, json: { status: 'ok' } }),
    }),
    endpoint({
      method: 'GET',
      path: '/readyz',
      id: 'ready',
      tag: 'system',
      summary: 'Volumes are served',
      responses: { 200: { description: 'Ready', schema: Ready }, 503: { description: 'Not ready, and why', schema: Ready } },
      refusals: [],
      handle() {
        const readiness = backend.ready();
        return { status: readiness.ready ? 200 : 503, json: readiness };
      },
    }),
    endpoint({
      method: 'GET',
      path: '/metrics',
      id: 'metrics',
      tag: 'system',
      summary: 'Metrics in the Prometheus text format',
      responses: { 200: { description: 'Rendered for this scrape', contentType: 'text/plain' } },
      refusals: [],
      handle: async () => ({ status: 200, text: await metrics.render(), contentType: metrics.contentType }),
    }),
    endpoint({
      method: 'GET',
      path: '/openapi.json',
      id: 'document',
      tag: 'system',
      summary: 'This document',
      responses: { 200: { description: 'OpenAPI 3.1', schema: Document } },
      refusals: [],
      handle: () => ({ status: 200, json: document() }),
    }),
    endpoint({
      method: 'POST',
      path: '/v1/config/reload',
      id: 'reloadConfiguration',
      tag: 'system',
      summary: 'Take up the changed configuration file; one that is wrong changes nothing',
      body: Nothing,
      bodyOptional: true,
      responses: { 200: { description: 'What changed', schema: Reload } },
      refusals: [409, 422, 503],
      handle: async () => ({ status: 200, json: granted(await backend.reload()) }),
    }),
  ];
}
