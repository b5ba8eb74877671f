// Bytes that arrived and are not yet understood, for the handshakes: they come in pieces of any size and are taken
// in pieces of known size. Copies everything (handshakes are small); its owner bounds what it lets in.

export class Inbox {
  #bytes = Buffer.allocUnsafe(1024);
  #start = 0;
  #end = 0;

  get available(): number {
    return this.#end - this.#start;
  }

  append(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) this.#makeRoom(chunk.length);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next `length` bytes, which stay; a view that is valid until the next `append`. */
  peek(length: number): Buffer {
    return this.#bytes.subarray(this.#start, this.#start + length);
  }

  /** The next `length` bytes (the caller saw that they are `available`), as a copy of their own. */
  take(length: number): Buffer {
    const taken = Buffer.from(this.peek(length));
    this.skip(length);
    return taken;
  }

  skip(length: number): void {
    this.#start += length;
  }

  #makeRoom(extra: number): void {
    const needed = this.available + extra;
    const roomy = needed * 2 > this.#bytes.length ? Buffer.allocUnsafe(needed * 2) : this.#bytes;
    this.#bytes.copy(roomy, 0, this.#start, this.#end);
    this.#bytes = roomy;
    this.#end -= this.#start;
    this.#start = 0;
  }
}
