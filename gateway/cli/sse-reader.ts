// Server-sent events out of a text that comes in pieces, by the HTML standard's rules as far as our API uses them. Pure.

export interface ServerSentEvent {
  id: string | null;
  data: string;
}

export class SseReader {
  #rest = '';
  #id: string | null = null;
  #data: string[] = [];

  /** The events that `piece` completes. */
  push(piece: string): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines.map((text) => text.replace(/\r$/, ''))) {
      if (line === '') {
        if (this.#data.length > 0) {
          events.push({ id: this.#id, data: this.#data.join('\n') });
        }
        this.#data = [];
      } else if (line.startsWith('data:')) {
        this.#data.push(line.slice(5).replace(/^ /, ''));
      } else if (line.startsWith('id:')) {
        this.#id = line.slice(3).trim();
      }
    }
    return events;
  }
}
