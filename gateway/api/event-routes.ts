// The route of events: their history as JSON, or from there on as a stream of server-sent events.
import type { Backend } from './backend.js';
import { type Endpoint, endpoint } from './endpoint.js';
import { EventStream, type StreamTiming } from './event-stream.js';
import { EventList, EventParams } from './schemas.js';
import { ApiError } from './status.js';

const STREAMS_MAX = 256;

/** `Last-Event-ID` as a browser sends it when it connects again. Throws `invalid-request`. */
function lastEventId(header: string | string[] | undefined): number | undefined {
  if (header === undefined || header === '') {
    return undefined;
  }
  const id = Number(header);
  if (!Number.isSafeInteger(id) || id < 0) {
    throw new ApiError('invalid-request', `Last-Event-ID: it is the whole number of an event, not ${JSON.stringify(header)}.`);
  }
  return id;
}

function firstComment(after: number | undefined, latestId: number): string {
  if (after !== undefined && after > latestId) {
    return `event ${after} does not exist yet; following from event ${latestId}`;
  }
  return `following from event ${after ?? latestId}`;
}

export function eventRoutes(backend: Backend, timing: StreamTiming): Endpoint[] {
  let streams = 0;
  return [
    endpoint({
      method: 'GET',
      path: '/v1/events',
      id: 'listEvents',
      tag: 'events',
      summary: 'The history, or with Accept: text/event-stream what happens from now on (Last-Event-ID or since resumes)',
      query: EventParams,
      responses: { 200: { description: 'By id', schema: EventList, contentType: 'text/event-stream' } },
      refusals: [503],
      async handle({ query, headers }) {
        if (!headers.accept?.includes('text/event-stream')) {
          return { status: 200, json: await backend.events.history(query) };
        }
        if (streams >= STREAMS_MAX) {
          throw new ApiError('too-many-streams', `${STREAMS_MAX} clients follow the events already. Close one, or ask for the history.`);
        }
        const after = lastEventId(headers['last-event-id']) ?? query.since;
        const comment = firstComment(after, backend.events.latestId);
        const follower = backend.events.follow(after ?? null);
        return {
          takeOver(response) {
            streams++;
            void new EventStream(response, follower, query, timing).run(comment).finally(() => {
              streams--;
            });
          },
        };
      },
    }),
  ];
}
