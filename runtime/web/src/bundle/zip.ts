/**
 * Zip archives: bundles that were zipped, and numpy's `.npz` files.
 *
 * The central directory is read, then each entry by its offset (PKWARE's APPNOTE.TXT, 4.3). The platform inflates. No
 * size in the archive is trusted: reading stops after the number of bytes that the caller expects.
 */

import type { Bytes } from "../arrays.ts";

const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
const [LOCAL_BYTES, CENTRAL_BYTES, END_BYTES] = [30, 46, 22];
const LONGEST_COMMENT = 0xffff;
const ZIP64 = 0xffffffff;
const [ENCRYPTED, STORED, DEFLATED] = [1, 0, 8];

interface Entry {
  readonly method: number;
  readonly encrypted: boolean;
  readonly compressed: number;
  readonly offset: number;
}

function view(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

async function slice(file: Blob, start: number, end: number): Promise<Bytes> {
  if (start < 0 || end > file.size || start > end) throw new Error("it is cut off");
  return new Uint8Array(await file.slice(start, end).arrayBuffer());
}

/** Read at most `most` bytes of a stream. */
export async function readStream(
  stream: ReadableStream<Uint8Array>,
  most: number,
  onBytes?: (count: number) => void,
): Promise<Bytes> {
  const pieces: Uint8Array[] = [];
  let total = 0;
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    pieces.push(next.value);
    total += next.value.length;
    onBytes?.(next.value.length);
    if (total > most) {
      await reader.cancel().catch(() => undefined);
      throw new RangeError(`it has more than ${most} bytes`);
    }
  }
  const content = new Uint8Array(total);
  let at = 0;
  for (const piece of pieces) {
    content.set(piece, at);
    at += piece.length;
  }
  return content;
}

/** The entries of an archive, by name; folders are left out. */
export class ZipArchive {
  readonly #file: Blob;
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(file: Blob, entries: ReadonlyMap<string, Entry>) {
    this.#file = file;
    this.#entries = entries;
  }

  /**
   * Read an archive's directory.
   *
   * @throws Error - it is no zip file, is damaged, or is larger than 4 GB.
   */
  static async open(file: Blob): Promise<ZipArchive> {
    const from = Math.max(0, file.size - END_BYTES - LONGEST_COMMENT);
    const tail = view(await slice(file, from, file.size));
    let end = tail.byteLength - END_BYTES;
    while (end >= 0 && tail.getUint32(end, true) !== END) end--;
    if (end < 0) throw new Error("it is no zip file, or is cut off");
    const [size, start] = [tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
    if (start === ZIP64 || size === ZIP64) throw new Error("it is larger than 4 GB");
    return new ZipArchive(file, ZipArchive.#directory(await slice(file, start, start + size)));
  }

  static #directory(bytes: Bytes): Map<string, Entry> {
    const fields = view(bytes);
    const entries = new Map<string, Entry>();
    for (let at = 0; at < bytes.length;) {
      if (at + CENTRAL_BYTES > bytes.length || fields.getUint32(at, true) !== CENTRAL) {
        throw new Error("its directory is damaged");
      }
      const nameEnd = at + CENTRAL_BYTES + fields.getUint16(at + 28, true);
      const name = new TextDecoder().decode(bytes.subarray(at + CENTRAL_BYTES, nameEnd));
      if (!name.endsWith("/")) {
        entries.set(name, {
          encrypted: (fields.getUint16(at + 8, true) & ENCRYPTED) !== 0,
          method: fields.getUint16(at + 10, true),
          compressed: fields.getUint32(at + 20, true),
          offset: fields.getUint32(at + 42, true),
        });
      }
      at = nameEnd + fields.getUint16(at + 30, true) + fields.getUint16(at + 32, true);
    }
    return entries;
  }

  get names(): string[] {
    return [...this.#entries.keys()];
  }

  /**
   * The content of an entry.
   *
   * @param most - bytes at most.
   * @throws Error - there is none, or it is damaged, encrypted, compressed in another way, or larger.
   */
  async read(name: string, most: number): Promise<Bytes> {
    const entry = this.#entries.get(name);
    if (!entry) throw new Error("it is missing");
    if (entry.encrypted) throw new Error("it is encrypted");
    if (entry.method !== STORED && entry.method !== DEFLATED) throw new Error("its compression is unknown");
    const header = view(await slice(this.#file, entry.offset, entry.offset + LOCAL_BYTES));
    if (header.getUint32(0, true) !== LOCAL) throw new Error("it is damaged");
    const start = entry.offset + LOCAL_BYTES + header.getUint16(26, true) + header.getUint16(28, true);
    if (start + entry.compressed > this.#file.size) throw new Error("it is cut off");
    const packed = this.#file.slice(start, start + entry.compressed).stream();
    const stream = entry.method === STORED ? packed : packed.pipeThrough(new DecompressionStream("deflate-raw"));
    return readStream(stream, most);
  }
}
