/** The browser's engine: @sam-edge/runtime in a worker of its own. */

import { SamWorker } from "@sam-edge/runtime";
import { PageError } from "../errors.ts";
import { fromCoco, fromLengths } from "../masks/runs.ts";
import type { Prompt } from "../prompt/draft.ts";
import type { SessionBundle } from "../session.ts";
import type { Answer, Engine, EngineInfo, Found, PhotoSource, Report } from "./engine.ts";
import type { Kind } from "./pace.ts";

const NAMES = { wasm: "WASM", webgpu: "WebGPU" } as const;

export class BrowserEngine implements Engine {
  info: EngineInfo;
  readonly #bundle: SessionBundle;
  #worker: Promise<SamWorker> | null = null;
  #photo: Blob | null = null;
  /** Whether a photo was asked for, which does not wait for a warm-up. */
  #hasPhoto = false;
  #report: Report = silent;

  constructor(bundle: SessionBundle) {
    this.#bundle = bundle;
    this.info = { place: "browser", bundle: bundle.title, engine: "browser", threads: null, note: null };
  }

  async prepare(report: Report): Promise<void> {
    const worker = await this.#opened(report);
    if (!this.#hasPhoto) void worker.warmUp().catch(ignored);
  }

  async setImage(source: PhotoSource, report: Report, signal: AbortSignal): Promise<number> {
    this.#hasPhoto = true;
    const worker = await this.#opened(report);
    signal.throwIfAborted();
    report("Encoding the photo", null);
    const started = performance.now();
    await worker.setImage(source.file);
    this.#photo = source.file;
    this.#tell(worker);
    return performance.now() - started;
  }

  async predict(prompt: Prompt, kind: Kind): Promise<Answer> {
    const worker = await this.#opened(silent);
    const started = performance.now();
    const { points, box, previous, text } = prompt;
    const { masks, scores, lowRes, lowResSize, objectScore } = await worker.predict(
      {
        ...(points.length === 0
          ? {}
          : {
              pointCoords: points.map(({ x, y }) => [x, y] as const),
              pointLabels: points.map(({ label }) => label),
            }),
        ...(box === null ? {} : { box: [box.x0, box.y0, box.x1, box.y1] as const }),
        ...(previous === null ? {} : { maskInput: previous.data }),
        ...(text === null ? {} : { text }),
      },
      { multimaskOutput: prompt.multimask, bestOnly: kind === "hover", outputMode: "uncompressed_rle" },
    );
    const candidates = masks.map((mask, i) => ({
      mask: fromLengths(mask),
      predictedIou: scores[i]!,
      lowRes: { ...lowResSize, data: lowRes[i]! },
    }));
    return { candidates, objectScore, ms: performance.now() - started };
  }

  async generate(report: Report, signal: AbortSignal): Promise<readonly Found[]> {
    if (this.#photo === null) throw new PageError("There is no photo yet: choose one");
    const worker = await this.#opened(report);
    const step = "Finding everything";
    report(step, 0);
    const records = await worker.generate(
      this.#photo,
      { outputMode: "coco_rle" },
      { signal, onProgress: (share) => report(step, share) },
    );
    return records.map((each) => ({
      mask: fromCoco(each.segmentation as Parameters<typeof fromCoco>[0]),
      predictedIou: each.predicted_iou,
      stabilityScore: each.stability_score,
      point: each.point_coords[0]!,
    }));
  }

  close(): void {
    void this.#worker?.then((worker) => worker.terminate()).catch(() => undefined);
    this.#worker = null;
  }

  /** The worker with its bundle. Whoever waits last hears of the progress. */
  #opened(report: Report): Promise<SamWorker> {
    this.#report = report;
    if (this.#worker !== null) return this.#worker;
    const step = `Loading ${this.#bundle.title}`;
    report(step, 0);
    const opened = SamWorker.open(this.#bundle.url, {
      onProgress: ({ loaded, total }) => {
        if (loaded < total) this.#report(step, loaded / total);
        else this.#report(`Starting ${this.#bundle.title}`, null);
      },
    });
    this.#worker = opened;
    opened.then(
      (worker) => this.#tell(worker),
      () => {
        if (this.#worker === opened) this.#worker = null;
      },
    );
    return opened;
  }

  #tell(worker: SamWorker): void {
    const { name, threads, reason } = worker.engine;
    this.info = { ...this.info, engine: NAMES[name], threads: name === "wasm" ? threads : null, note: reason };
  }
}

function silent(): void {
  // Whoever waits for an answer has no progress to show.
}

function ignored(): void {
  // What is wrong with the engine is told when it is used.
}
