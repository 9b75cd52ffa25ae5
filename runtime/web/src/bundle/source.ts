/** Where a bundle's files come from: a folder behind a URL, files that the user chose, or a zip file. */

import type { Bytes } from "../arrays.ts";
import { LARGEST_MANIFEST, MANIFEST_FILE } from "../contract.ts";
import { BundleError, firstLine, quoted } from "../errors.ts";
import { readStream, ZipArchive } from "./zip.ts";

/** What `Bundle.open` takes: the URL of a bundle's folder or zip file, or the files of either, also by their paths. */
export type BundleSource = string | URL | Blob | Iterable<File> | ReadonlyMap<string, Blob>;

/** The path of a chosen file, from the chosen folder on. */
export function pathOf(file: File): string {
  return file.webkitRelativePath || file.name;
}

/** How a file is read. */
export interface Reading {
  /** Bytes that the file may have at most. */
  readonly most: number;
  readonly onBytes?: ((count: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Reads files of one bundle by their paths. */
export interface Source {
  /** For messages. */
  readonly name: string;
  /** Whether reading costs a download, so that the store is worth asking first. */
  readonly remote: boolean;
  /** The file, or null where there is none; at most `most + 1` bytes of it are read. */
  read(path: string, reading: Reading): Promise<Bytes | null>;
}

function cannotRead(name: string, path: string, error: unknown): BundleError {
  return new BundleError(`${name}: ${path} cannot be read (${firstLine(error)}): check the connection and try again`, {
    cause: error,
  });
}

class UrlSource implements Source {
  readonly remote = true;
  readonly #folder: URL;

  constructor(url: URL) {
    this.#folder = new URL(url);
    const folder = url.pathname.endsWith(`/${MANIFEST_FILE}`)
      ? url.pathname.slice(0, -MANIFEST_FILE.length)
      : url.pathname;
    this.#folder.pathname = folder.endsWith("/") ? folder : `${folder}/`;
  }

  get name(): string {
    return this.#folder.origin + this.#folder.pathname;
  }

  async read(path: string, { most, onBytes, signal }: Reading): Promise<Bytes | null> {
    const url = new URL(path.split("/").map(encodeURIComponent).join("/"), this.#folder);
    url.search = this.#folder.search; // a signature, on some hosts
    const response = await fetched(url, this.name, path, signal);
    if (response.status === 404 || response.status === 410) return null;
    if (!response.ok) throw cannotRead(this.name, path, new Error(`HTTP ${response.status}`));
    try {
      return response.body ? await readStream(response.body, most + 1, onBytes) : new Uint8Array();
    } catch (error) {
      if (error instanceof RangeError) return new Uint8Array(most + 1); // the caller refuses its size
      if (signal?.aborted) throw error;
      throw cannotRead(this.name, path, error);
    }
  }
}

async function fetched(url: URL, name: string, path: string, signal: AbortSignal | undefined): Promise<Response> {
  try {
    return await fetch(url, signal ? { signal } : {});
  } catch (error) {
    if (signal?.aborted) throw error;
    throw cannotRead(name, path, error);
  }
}

class FilesSource implements Source {
  readonly remote = false;
  readonly name: string;
  readonly #files = new Map<string, Blob>();

  constructor(files: ReadonlyMap<string, Blob>) {
    const paths = [...files.keys()];
    const manifests = paths.filter((path) => path === MANIFEST_FILE || path.endsWith(`/${MANIFEST_FILE}`));
    if (manifests.length !== 1) {
      throw new BundleError(
        `the ${files.size} files hold ${manifests.length} bundles: choose the folder, or all files, of one bundle`,
      );
    }
    const top = manifests[0]!.slice(0, -MANIFEST_FILE.length);
    this.name = top.slice(0, -1) || "the chosen files";
    files.forEach((file, path) => {
      if (path.startsWith(top)) this.#files.set(path.slice(top.length), file);
    });
  }

  async read(path: string, { most, onBytes }: Reading): Promise<Bytes | null> {
    const file = this.#files.get(path);
    if (!file) return null;
    try {
      const content = new Uint8Array(await file.slice(0, most + 1).arrayBuffer());
      onBytes?.(content.length);
      return content;
    } catch (error) {
      throw cannotRead(this.name, path, error);
    }
  }
}

class ZipSource implements Source {
  readonly remote = false;
  readonly name: string;
  readonly #archive: ZipArchive;
  readonly #top: string;

  private constructor(name: string, archive: ZipArchive, top: string) {
    this.name = name;
    this.#archive = archive;
    this.#top = top;
  }

  static async open(file: Blob, name: string): Promise<ZipSource> {
    let archive: ZipArchive;
    try {
      archive = await ZipArchive.open(file);
    } catch (error) {
      throw new BundleError(`${name} is neither a bundle nor a zip file of one (${firstLine(error)})`, {
        cause: error,
      });
    }
    const tops = archive.names
      .filter((each) => each.split("/").length <= 2 && `/${each}`.endsWith(`/${MANIFEST_FILE}`))
      .map((each) => each.slice(0, -MANIFEST_FILE.length));
    if (tops.length !== 1) {
      throw new BundleError(`${name} holds ${tops.length} bundles at its top: zip the folder of one bundle`);
    }
    return new ZipSource(name, archive, tops[0]!);
  }

  async read(path: string, { most, onBytes }: Reading): Promise<Bytes | null> {
    if (!this.#archive.names.includes(this.#top + path)) return null;
    try {
      const content = await this.#archive.read(this.#top + path, most);
      onBytes?.(content.length);
      return content;
    } catch (error) {
      if (error instanceof RangeError) return new Uint8Array(most + 1);
      throw new BundleError(`${this.name}: ${path}: ${firstLine(error)}: copy the zip file again`, { cause: error });
    }
  }
}

/**
 * The URL of a bundle, which may be relative to a page's.
 *
 * @throws BundleError - it is none, as a path is outside of a page.
 */
export function urlOf(from: string | URL, base: string | undefined): URL {
  try {
    return new URL(from, base);
  } catch (error) {
    throw new BundleError(
      `${quoted(String(from), 200)} is no URL of a bundle: give one such as https://example.org/nano/, or the files`,
      { cause: error },
    );
  }
}

/** Bytes of a zip file that is fetched whole: no bundle of a released model is larger. */
const LARGEST_ZIP = 2 ** 32 - 1;

/**
 * The source of a bundle.
 *
 * @throws BundleError - the files hold no bundle or several, or a zip file cannot be read.
 */
export async function sourceOf(from: BundleSource, reading: Omit<Reading, "most">): Promise<Source> {
  if (from instanceof Blob) return ofFile(from);
  if (typeof from === "string" || from instanceof URL) {
    const url = urlOf(from, (globalThis as { location?: Location }).location?.href);
    if (!url.pathname.endsWith(".zip")) return new UrlSource(url);
    const response = await fetched(url, url.href, "the zip file", reading.signal);
    if (!response.ok || !response.body)
      throw cannotRead(url.href, "the zip file", new Error(`HTTP ${response.status}`));
    const content = await readStream(response.body, LARGEST_ZIP, reading.onBytes);
    return ZipSource.open(new Blob([content]), url.href);
  }
  const files = from instanceof Map ? (from as Map<string, Blob>) : byPath([...(from as Iterable<File>)]);
  const [first] = files;
  return files.size === 1 && first && first[0] !== MANIFEST_FILE
    ? ZipSource.open(first[1], first[0])
    : new FilesSource(files);
}

function byPath(files: readonly File[]): Map<string, Blob> {
  return new Map(files.map((file) => [pathOf(file), file]));
}

function ofFile(file: Blob): Promise<ZipSource> {
  return ZipSource.open(file, file instanceof File ? file.name : "the file");
}

/** The text of the manifest. */
export async function manifestText(source: Source, signal: AbortSignal | undefined): Promise<string> {
  const content = await source.read(MANIFEST_FILE, { most: LARGEST_MANIFEST, signal });
  if (!content) {
    throw new BundleError(
      `${source.name} is no bundle: it has no ${MANIFEST_FILE}; name the folder that \`sam-edge export --out\` made`,
    );
  }
  if (content.length > LARGEST_MANIFEST) {
    throw new BundleError(`${source.name}: ${MANIFEST_FILE} is larger than any manifest: export the bundle again`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new BundleError(`${source.name}: ${MANIFEST_FILE} is not UTF-8 text: export the bundle again`);
  }
}
