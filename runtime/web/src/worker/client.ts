/** `SamWorker`: a predictor in a worker, so that the page never stalls while the networks compute. */

import type { Verification } from "../agreement/verify.ts";
import type { GenerateOptions, MaskRecord } from "../automatic/generator.ts";
import type { AutomaticSettings } from "../automatic/settings.ts";
import type { OpenOptions, Progress } from "../bundle/bundle.ts";
import type { Manifest } from "../bundle/manifest.ts";
import { pathOf, type BundleSource } from "../bundle/source.ts";
import type { EngineInfo, EngineOptions } from "../engine/choice.ts";
import { BackendError, errorOf } from "../errors.ts";
import type { PhotoSource } from "../photo/read.ts";
import type { Prediction, PredictOptions } from "../predictor.ts";
import type { Prompt } from "../prompts.ts";
import type { CallName, Calls, Opened, Reply, Request, SentSource } from "./protocol.ts";

export interface WorkerOptions extends OpenOptions, EngineOptions {
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

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener("message", (event: MessageEvent<Reply>) => this.#answered(event.data));
    worker.addEventListener("error", (event) => {
      this.#fail(new BackendError(`the worker failed (${event.message || "it could not be loaded"})`));
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
      own.#opened = (await own.#call("open", [sent(from), { ...rest, wasmPaths }], { onProgress, signal })) as Opened;
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

  /** Which engine computes, with how many threads, and why. */
  get engine(): EngineInfo {
    return this.#opened!.engine;
  }

  /** Encode a photo; later prompts refer to it. See `SamPredictor.setImage`. */
  async setImage(photo: PhotoSource): Promise<void> {
    const engine = (await this.#call("setImage", [photo])) as EngineInfo;
    this.#opened = { ...this.#opened!, engine };
  }

  /** Forget the photo. */
  async resetImage(): Promise<void> {
    await this.#call("resetImage", []);
  }

  /** Masks for one prompt; see `SamPredictor.predict`. */
  async predict(prompt: Prompt, options: PredictOptions = {}): Promise<Prediction> {
    const [prediction] = await this.predictBatch([prompt], options);
    return prediction!;
  }

  /** Masks for many prompts; see `SamPredictor.predictBatch`. */
  predictBatch(prompts: readonly Prompt[], options: PredictOptions = {}): Promise<Prediction[]> {
    return this.#call("predictBatch", [prompts, options]) as Promise<Prediction[]>;
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
    } else waiting.resolve(reply.result);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** A bundle's place in a form that goes to a worker: its base is another URL, and files lose their folders there. */
function sent(from: BundleSource): SentSource {
  if (typeof from === "string" || from instanceof URL) return new URL(from, document.baseURI).href;
  if (from instanceof Blob || from instanceof Map) return from as Blob | Map<string, Blob>;
  const files = [...(from as Iterable<File>)];
  return new Map(files.map((file) => [pathOf(file), file]));
}
