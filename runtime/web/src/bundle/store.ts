/**
 * Files of bundles that this browser has fetched before, in Cache Storage, by their SHA-256.
 *
 * A page that may not store anything (a private window, a full disk, an insecure page) works without it. What comes out
 * of the store is hashed again like what comes from the network.
 */

import type { Bytes } from "../arrays.ts";

export const CACHE_NAME = "sam-edge-bundles";

function key(hash: string): string {
  return `https://sam-edge.invalid/${hash}`; // only a name: nothing is ever fetched from it
}

/** Keeps files by their hash. */
export class FileStore {
  readonly #cache: Cache;

  private constructor(cache: Cache) {
    this.#cache = cache;
  }

  /** The store, or null where this page has none. */
  static async open(): Promise<FileStore | null> {
    try {
      return new FileStore(await caches.open(CACHE_NAME));
    } catch {
      return null;
    }
  }

  /** The file with that hash; null where it is not kept or cannot be read. */
  async get(hash: string): Promise<Bytes | null> {
    try {
      const kept = await this.#cache.match(key(hash));
      return kept ? new Uint8Array(await kept.arrayBuffer()) : null;
    } catch {
      return null;
    }
  }

  /** Keep a file, if there is room; whether there was. */
  async put(hash: string, content: Bytes): Promise<boolean> {
    try {
      await this.#cache.put(key(hash), new Response(content));
      return true;
    } catch {
      return false;
    }
  }

  async delete(hash: string): Promise<void> {
    try {
      await this.#cache.delete(key(hash));
    } catch {
      // it stays, and is refused by its hash again
    }
  }
}

/** Forget every file that was kept; whether there was any. */
export async function clearStore(): Promise<boolean> {
  try {
    return await caches.delete(CACHE_NAME);
  } catch {
    return false;
  }
}
