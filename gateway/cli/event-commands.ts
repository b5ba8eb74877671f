// The command of events: the history, or from there on what happens, as it happens, across restarts of the gateway.
import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import type { ForestallEvent } from '../control.js';
import type { EventPage } from '../events/event-log.js';
import { type ApiClient, unreachable } from './api-client.js';
import { CliError, EXIT, type ExitCode } from './cli-error.js';
import type { Output } from './output.js';
import { SseReader } from './sse-reader.js';
import { list } from './table.js';

const RECONNECT_MS = 2_000;
/** The API sends a comment every 15 s: a stream that is silent for longer is dead. */
const SILENCE_MS = 60_000;
const RECENT_EVENTS = 10;

export interface EventOptions {
  follow?: boolean;
  since?: number;
  limit?: number;
  type?: string;
  volume?: string;
  node?: string;
}

function queryOf(options: EventOptions): URLSearchParams {
  const query = new URLSearchParams();
  for (const key of ['since', 'limit', 'type', 'volume', 'node'] as const) {
    if (options[key] !== undefined) {
      query.set(key, String(options[key]));
    }
  }
  return query;
}

function shownEvent({ id, at, level, type, volume, node, message }: ForestallEvent): string {
  const about = [volume, node].filter((name) => name !== null).join(' ');
  const line = [
    String(id).padStart(6),
    at.replace('T', ' ').replace('Z', ''),
    level.padEnd(7),
    type.padEnd(21),
    message + (about === '' ? '' : ` [${about}]`),
  ];
  return list([[line.slice(0, 4).join('  '), line[4]]]);
}

export async function showEvents(api: ApiClient, output: Output, options: EventOptions): Promise<ExitCode> {
  const { follow, ...filter } = options;
  const recent = follow === true && filter.since === undefined && filter.limit === undefined ? { ...filter, limit: RECENT_EVENTS } : filter;
  const page = await api.get<EventPage>(`/v1/events?${queryOf(recent)}`);
  if (follow !== true) {
    output.result(page, () => page.events.map(shownEvent).join(''));
    return EXIT.OK;
  }
  let last = 0;
  const show = (event: ForestallEvent) => {
    last = event.id;
    output.item(event, () => shownEvent(event));
  };
  page.events.forEach(show);
  // From the last one shown, or from where the history stood: in between nothing may be lost.
  last = page.events.at(-1)?.id ?? filter.since ?? page.latest ?? 0;
  if (filter.since === undefined) {
    last = Math.max(last, page.latest ?? 0);
  }
  for (;;) {
    try {
      await readStream(api, { ...filter, since: undefined, limit: undefined }, last, show);
    } catch (error) {
      if (error instanceof CliError && error.exitCode !== EXIT.UNREACHABLE) {
        throw error;
      }
      output.note(`${(error as Error).message.split('. ')[0]}. Trying again in ${RECONNECT_MS / 1_000} s.`);
    }
    await delay(RECONNECT_MS);
  }
}

/** Reads one connection to its end; `after` is the id of the last event seen. */
async function readStream(api: ApiClient, filter: EventOptions, after: number, show: (event: ForestallEvent) => void): Promise<void> {
  const reader = new SseReader();
  try {
    const response = await request(`${api.url}/v1/events?${queryOf(filter)}`, {
      headers: { accept: 'text/event-stream', 'last-event-id': String(after) },
      headersTimeout: SILENCE_MS,
      bodyTimeout: SILENCE_MS,
    });
    if (response.statusCode !== 200) {
      const { message } = (await response.body.json()) as { message?: string };
      throw new CliError(EXIT.REFUSED, message ?? `The API answered with status ${response.statusCode}.`);
    }
    for await (const piece of response.body.setEncoding('utf8')) {
      for (const { data } of reader.push(piece)) {
        show(JSON.parse(data) as ForestallEvent);
      }
    }
  } catch (error) {
    throw error instanceof CliError ? error : unreachable(api.url, error);
  }
}
