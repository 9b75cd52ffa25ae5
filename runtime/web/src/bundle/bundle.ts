/**
 * A bundle: the two graphs, their manifest, and their acceptance test, checked as the Python runtime checks them.
 *
 * Reading trusts nothing: every field of the manifest, every path, and the size and SHA-256 of every file that a
 * prediction needs are checked before a graph is loaded. `golden.npz` and `report.json` are read when they are used.
 */

import type { Bytes } from "../arrays.ts";
import { GOLDEN_FILE, NOT_NEEDED_FILES, REPORT_FILE, TOWER } from "../contract.ts";
import { BundleError, UsageError } from "../errors.ts";
import { canHash, sha256 } from "./hash.ts";
import { checkFileName, readManifest, type FileRecord, type Manifest } from "./manifest.ts";
import { manifestText, sourceOf, type BundleSource, type Source } from "./source.ts";
import { FileStore } from "./store.ts";
import { Vocabulary } from "./vocabulary.ts";

/** How far the reading of a bundle is. */
export interface Progress {
  /** Bytes that were read, of `total`. */
  readonly loaded: number;
  readonly total: number;
  /** The file that is being read. */
  readonly file: string;
}

export interface OpenOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Whether files are hashed (default). False suits a page that is not secure, on a network that you trust. */
  readonly checkHashes?: boolean;
  /** Whether files from a URL are kept in this browser (default): the next visit needs no download, nor a connection. */
  readonly keep?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Called with the checked manifest, before the other files are read. */
  readonly onManifest?: ((manifest: Manifest) => void) | undefined;
}

const NOT_NEEDED: ReadonlySet<string> = new Set(NOT_NEEDED_FILES);

/** A checked bundle, whose graphs are in memory. */
export class Bundle {
  readonly manifest: Manifest;
  readonly #source: Source;
  readonly #store: FileStore | null;
  readonly #files: ReadonlyMap<string, Bytes>;
  #vocabulary: Vocabulary | null = null;

  private constructor(manifest: Manifest, source: Source, store: FileStore | null, files: ReadonlyMap<string, Bytes>) {
    this.manifest = manifest;
    this.#source = source;
    this.#store = store;
    this.#files = files;
  }

  /**
   * Read and check a bundle.
   *
   * @param from - the URL of the folder that `sam-edge export --out` made, its files (of a drop or a file chooser), or
   *   a zip file of it.
   * @throws BundleError - it is no bundle, of a newer format or another target, incomplete, edited, or cannot be read.
   */
  static async open(from: BundleSource, options: OpenOptions = {}): Promise<Bundle> {
    const { onProgress, onManifest, checkHashes = true, keep = true, signal } = options;
    const source = await sourceOf(from, { signal });
    const store = keep && checkHashes && source.remote && canHash() ? await FileStore.open() : null;
    const text = await textOfManifest(source, store, signal);
    const manifest = await readManifest(text, { checkDigest: checkHashes });
    for (const name of manifest.files.keys()) checkFileName(source.name, name);
    for (const name of manifest.frames.flatMap((each) => [each.encoder, each.decoder])) {
      if (!manifest.files.has(name) || NOT_NEEDED.has(name)) {
        throw new BundleError(`${source.name}: the manifest names the graph ${name} but not its hash: export it again`);
      }
    }
    onManifest?.(manifest);
    const needed = [...manifest.files].filter(([name]) => !NOT_NEEDED.has(name) && !isOfTower(manifest, name));
    const total = needed.reduce((sum, [, record]) => sum + record.bytes, 0);
    const files = new Map<string, Bytes>();
    let before = 0;
    for (const [file, record] of needed) {
      let own = 0;
      const onBytes = (count: number): void => {
        own = Math.min(own + count, record.bytes);
        onProgress?.({ loaded: before + own, total, file });
      };
      const content = await read({ source, file, record, checkHashes, store, onBytes, signal });
      if (!content) throw new BundleError(`${source.name}: ${file} is missing: copy or export the bundle again`);
      files.set(file, content);
      before += record.bytes;
      onProgress?.({ loaded: before, total, file });
    }
    await store?.putManifest(
      source.name,
      text,
      [...manifest.files.values()].map(({ sha256: hash }) => hash),
    );
    return new Bundle(manifest, source, store, files);
  }

  /** Where the bundle came from, for messages. */
  get name(): string {
    return this.#source.name;
  }

  /** The content of a file that a prediction needs. */
  file(name: string): Bytes {
    const content = this.#files.get(name);
    if (!content) throw new UsageError(`the bundle has no file ${name} in memory`);
    return content;
  }

  /**
   * The words that the bundle knows.
   *
   * @throws PromptError - it has no vocabulary.
   * @throws BundleError - its vocabulary is damaged.
   */
  get vocabulary(): Vocabulary {
    this.#vocabulary ??= Vocabulary.ofBundle(this.name, this.manifest.text, (name) => this.file(name));
    return this.#vocabulary;
  }

  /** The files in memory whose names begin so. */
  namesLike(start: string): string[] {
    return [...this.#files.keys()].filter((name) => name.startsWith(start));
  }

  /**
   * The acceptance test `golden.npz`; null where the bundle has none.
   *
   * @throws BundleError - it was changed after the export, or cannot be read.
   */
  async golden(): Promise<Bytes | null> {
    const record = this.manifest.files.get(GOLDEN_FILE);
    if (!record) return null;
    return read({ source: this.#source, file: GOLDEN_FILE, record, checkHashes: true, store: this.#store });
  }

  /** What export measured (`report.json`); null where there is none, or an edited one. */
  async report(): Promise<unknown> {
    const record = this.manifest.files.get(REPORT_FILE);
    if (!record) return null;
    try {
      const job = { source: this.#source, file: REPORT_FILE, record, checkHashes: true, store: this.#store };
      const content = await read(job);
      return content && (JSON.parse(new TextDecoder().decode(content)) as unknown);
    } catch {
      return null;
    }
  }
}

/** Whether a file turns text into embeddings by a network, which this package does not run. */
function isOfTower({ text }: Manifest, file: string): boolean {
  return text?.kind === TOWER && text.files.some((name) => file === name || file.startsWith(`${name}/`));
}

interface Expected {
  readonly source: Source;
  readonly file: string;
  readonly record: FileRecord;
  readonly checkHashes: boolean;
}

interface Job extends Expected {
  readonly store: FileStore | null;
  readonly onBytes?: (count: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The text of the manifest; where nothing can be reached, the one that was kept. */
async function textOfManifest(
  source: Source,
  store: FileStore | null,
  signal: AbortSignal | undefined,
): Promise<string> {
  try {
    return await manifestText(source, signal);
  } catch (error) {
    const unreachable = error instanceof BundleError && error.cause instanceof TypeError; // of fetch, without a network
    const kept = unreachable ? await store?.manifest(source.name) : null;
    if (typeof kept !== "string") throw error;
    return kept;
  }
}

/** A file of the recorded size and hash, from the store if it is there; null where there is no such file. */
async function read(job: Job): Promise<Bytes | null> {
  const { source, file, record, checkHashes, store, onBytes, signal } = job;
  const kept = await store?.get(record.sha256);
  if (kept) {
    if (kept.length === record.bytes && (await sha256(kept)) === record.sha256) {
      onBytes?.(kept.length);
      return kept;
    }
    await store?.delete(record.sha256);
  }
  const content = await source.read(file, { most: record.bytes, onBytes, signal });
  if (!content) return null;
  await requireRecorded(job, content);
  if (checkHashes) await store?.put(record.sha256, content);
  return content;
}

/** Refuse a file of another size or hash than the manifest names. */
async function requireRecorded({ source, file, record, checkHashes }: Expected, content: Bytes): Promise<void> {
  if (content.length !== record.bytes) {
    const size = content.length > record.bytes ? `more than ${record.bytes}` : `${content.length}`;
    throw new BundleError(
      `${source.name}: ${file} has ${size} bytes, ${record.bytes} expected: copy or export the bundle again`,
    );
  }
  const found = checkHashes ? await sha256(content) : record.sha256;
  if (found !== record.sha256) {
    throw new BundleError(
      `${source.name}: ${file} has SHA-256 ${found.slice(0, 12)}..., ${record.sha256.slice(0, 12)}... expected: copy or ` +
        "export the bundle again",
    );
  }
}
