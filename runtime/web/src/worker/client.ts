/** `SamWorker`: a predictor in a worker, so that the page never stalls while the networks compute. */

import type { Features, Size } from "../arrays.ts";
import type { Verification } from "../agreement/verify.ts";
import type { GenerateOptions, MaskRecord } from "../automatic/generator.ts";
import type { AutomaticSettings } from "../automatic/settings.ts";
import type { OpenOptions, Progress } from "../bundle/bundle.ts";
import type { Manifest } from "../bundle/manifest.ts";
import type { Word } from "../bundle/vocabulary.ts";
import { pathOf, urlOf, type BundleSource } from "../bundle/source.ts";
import type { EngineInfo, EngineOptions } from "../engine/choice.ts";
import { BackendError, errorOf } from "../errors.ts";
import type { OutputMode } from "../masks/rle.ts";
import type { PhotoSource } from "../photo/read.ts";
import type { Prediction, PredictOptions } from "../predictor.ts";
import type { Prompt } from "../prompts.ts";
import type { CallName, Calls, Opened, Reply, Request, SentSource } from "./protocol.ts";

export interface WorkerOptions extends Omit<OpenOptions, "onManifest">, EngineOptions {
  /** Makes the worker, where your bundler wants to see it: it has to run `@sam-edge/runtime/worker` as a module. */
  readonly makeWorker?: (() => Worker) | undefined;
}

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: ((progress: never) => void) | undefined;
}

interface Listening {
  readonly onProgress?: ((progress: never) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A predictor in a worker of its own, with the methods of `SamPredictor`. Calls are answered in order.
 *
 *     const sam = await SamWorker.open("/nano/", { onProgress: ({ loaded, total }) => show(loaded / total) });
 *     await sam.setImage(file);
 *     const { masks, scores } = await sam.predict({ pointCoords: [[500, 375]], pointLabels: [1] });
 */
export class SamWorker {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #failure: Error | null = null;
  #opened: Opened | null = null;
  #engine: EngineInfo | null = null;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener("message", (event: MessageEvent<Reply>) => this.#answered(event.data));
    worker.addEventListener("error", (event) => {
      const reason = event.message || "it could not be loaded: let makeWorker start @sam-edge/runtime/worker";
      this.#fail(new BackendError(`the worker failed (${reason})`));
    });
  }

  /**
   * Start a worker, and open a bundle and an engine there.
   *
   * @throws BundleError - as `Bundle.open`.
   * @throws BackendError - the worker cannot start, or the engine is missing or rejects a graph.
   */
  static async open(from: BundleSource, options: WorkerOptions = {}): Promise<SamWorker> {
    const { makeWorker, onProgress, signal, ...rest } = options;
    const worker =
      makeWorker?.() ?? new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "sam-edge" });
    const own = new SamWorker(worker);
    try {
      const wasmPaths = rest.wasmPaths === undefined ? undefined : new URL(rest.wasmPaths, location.href).href;
      const opening = own.#call("open", [sent(from), { ...rest, wasmPaths }], { onProgress, signal });
      own.#opened = (await opening) as Opened;
    } catch (error) {
      own.terminate();
      throw error;
    }
    return own;
  }

  /** The bundle's manifest. */
  get manifest(): Manifest {
    return this.#opened!.manifest;
  }

  /** The words that the bundle knows, for `text` of a prompt; none where it takes no words. */
  get words(): readonly Word[] {
    return this.#opened!.words;
  }

  /** Which engine computes, with how many threads, and why; as of the last answer. */
  get engine(): EngineInfo {
    return this.#engine!;
  }

  /** Compute once on nothing, while there is no photo; see `SamPredictor.warmUp`. */
  async warmUp(): Promise<void> {
    await this.#call("warmUp", []);
  }

  /** Encode a photo; later prompts refer to it. See `SamPredictor.setImage`. */
  async setImage(photo: PhotoSource): Promise<void> {
    await this.#call("setImage", [photo]);
  }

  /** Forget the photo. */
  async resetImage(): Promise<void> {
    await this.#call("resetImage", []);
  }

  /** What the encoder made of the photo, to be kept; see `SamPredictor.getImageFeatures`. */
  getImageFeatures(): Promise<Features> {
    return this.#call("getImageFeatures", []) as Promise<Features>;
  }

  /** Set a photo by its features, without encoding it again; see `SamPredictor.setImageFeatures`. */
  async setImageFeatures(features: Features, original: Size): Promise<void> {
    await this.#call("setImageFeatures", [features, original]);
  }

  /** Masks for one prompt; see `SamPredictor.predict`. */
  async predict<Mode extends OutputMode = "binary_mask">(
    prompt: Prompt,
    options: PredictOptions<Mode> = {},
  ): Promise<Prediction<Mode>> {
    const [prediction] = await this.predictBatch([prompt], options);
    return prediction!;
  }

  /** Masks for many prompts; see `SamPredictor.predictBatch`. */
  predictBatch<Mode extends OutputMode = "binary_mask">(
    prompts: readonly Prompt[],
    options: PredictOptions<Mode> = {},
  ): Promise<Prediction<Mode>[]> {
    return this.#call("predictBatch", [prompts, options]) as Promise<Prediction<Mode>[]>;
  }

  /** Masks for everything in a photo; see `AutomaticMaskGenerator`. The photo that is set stays set. */
  generate(
    photo: PhotoSource,
    settings: Partial<AutomaticSettings> = {},
    { covered, onProgress, signal }: GenerateOptions = {},
  ): Promise<MaskRecord[]> {
    return this.#call("generate", [photo, settings, covered], { onProgress, signal }) as Promise<MaskRecord[]>;
  }

  /** Run the bundle's acceptance test; see `verify`. */
  verify(): Promise<Verification> {
    return this.#call("verify", []) as Promise<Verification>;
  }

  /** Stop the worker and free its memory, whatever it computes. */
  terminate(): void {
    this.#worker.terminate();
    this.#fail(new BackendError("the worker was terminated; open a new one"));
  }

  #call<Name extends CallName>(call: Name, args: Calls[Name], listening: Listening = {}): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#next++;
    const { onProgress, signal } = listening;
    const answered = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject, onProgress }));
    try {
      this.#worker.postMessage({ id, call, args } satisfies Request);
    } catch (error) {
      this.#waiting.delete(id);
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
    const abort = (): void => this.#worker.postMessage({ abort: id } satisfies Request);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    return answered.finally(() => signal?.removeEventListener("abort", abort));
  }

  #answered(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    if ("progress" in reply) {
      waiting.onProgress?.(reply.progress as Progress & number as never);
      return;
    }
    this.#waiting.delete(reply.id);
    if ("error" in reply) {
      const { name, message } = reply.error;
      waiting.reject(name === "AbortError" ? new DOMException(message, name) : errorOf(name, message));
    } else {
      this.#engine = reply.engine ?? this.#engine;
      waiting.resolve(reply.result);
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** A bundle's place in a form that goes to a worker: its base is another URL, and files lose their folders there. */
function sent(from: BundleSource): SentSource {
  if (typeof from === "string" || from instanceof URL) return urlOf(from, document.baseURI).href;
  if (from instanceof Blob || from instanceof Map) return from as Blob | Map<string, Blob>;
  const files = [...(from as Iterable<File>)];
  return new Map(files.map((file) => [pathOf(file), file]));
}
