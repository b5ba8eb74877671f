// Golden bytes as tests write them down, from the protocol and by hand, and every way to cut them that a golden test feeds.
// Shares nothing with the codec under test.

/**
 * Bytes from hex digits, with 'text' for its bytes, "text" for its length in 32 bits and its bytes, and the `names` (of letters that
 * no hex digit is made of, or of signs) for what they stand for. Blanks are for the reader.
 */
export function golden(text: string, names: Record<string, string>): Buffer {
  const parts = text.match(/'[^']*'|"[^"]*"|\S+/g) ?? [];
  return Buffer.concat(
    parts.map((part) => {
      if (part.startsWith("'")) return Buffer.from(part.slice(1, -1));
      if (part.startsWith('"')) {
        const bytes = Buffer.from(part.slice(1, -1));
        const length = Buffer.alloc(4);
        length.writeUInt32BE(bytes.length);
        return Buffer.concat([length, bytes]);
      }
      const digits = names[part] ?? part;
      if (!/^([0-9a-f]{2})+$/.test(digits)) throw new Error(`neither hex digits nor a name: ${part}`);
      return Buffer.from(digits, 'hex');
    }),
  );
}

/** `bytes` whole, then in two at every byte, then one by one; each with what to call it. */
export function cutsOf(bytes: Buffer): [what: string, pieces: Buffer[]][] {
  const cuts: [string, Buffer[]][] = [['whole', [bytes]]];
  for (let at = 1; at < bytes.length; at++) cuts.push([`cut at ${at}`, [bytes.subarray(0, at), bytes.subarray(at)]]);
  cuts.push(['byte by byte', Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))]);
  return cuts;
}
