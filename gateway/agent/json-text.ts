// JSON text of strangers.

/** The value of `text`; undefined, which no schema takes, for what is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
