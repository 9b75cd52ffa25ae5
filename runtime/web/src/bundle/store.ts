/**
 * Files of bundles that this browser has fetched before, in Cache Storage, by their SHA-256, and each bundle's manifest
 * by its URL, for a page that is offline.
 *
 * A page that may not store anything (a private window, a full disk, an insecure page) works without it. What comes out
 * of the store is checked again like what comes from the network.
 */

import type { Bytes } from "../arrays.ts";

export const CACHE_NAME = "sam-edge-bundles";

const PLACE = "https://sam-edge.invalid/"; // only a name: nothing is ever fetched from it
const MANIFESTS = `${PLACE}manifest/`;

function key(hash: string): string {
  return PLACE + hash;
}

/** A manifest as it is kept. */
interface KeptManifest {
  readonly text: string;
  /** SHA-256 of the bundle's files. */
  readonly hashes: readonly string[];
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

  /** The text of the manifest of a bundle's URL; null where none is kept. */
  async manifest(bundle: string): Promise<string | null> {
    return (await this.#manifestAt(MANIFESTS + encodeURIComponent(bundle)))?.text ?? null;
  }

  /** Keep the manifest of a bundle's URL, and forget files of the one before it that no kept bundle has. */
  async putManifest(bundle: string, text: string, hashes: readonly string[]): Promise<void> {
    const own = MANIFESTS + encodeURIComponent(bundle);
    const before = await this.#manifestAt(own);
    if (before?.text === text) return;
    try {
      await this.#cache.put(own, Response.json({ text, hashes } satisfies KeptManifest));
      if (!before) return;
      const urls = (await this.#cache.keys()).map(({ url }) => url).filter((url) => url.startsWith(MANIFESTS));
      const kept = await Promise.all(urls.map((url) => this.#manifestAt(url)));
      const used = new Set(kept.flatMap((each) => each?.hashes ?? []));
      for (const hash of before.hashes) if (!used.has(hash)) await this.delete(hash);
    } catch {
      // no room; the page fetches it again
    }
  }

  async #manifestAt(url: string): Promise<KeptManifest | null> {
    try {
      const kept = await this.#cache.match(url);
      return kept ? ((await kept.json()) as KeptManifest) : null;
    } catch {
      return null;
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
