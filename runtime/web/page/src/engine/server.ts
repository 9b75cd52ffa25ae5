/** The server's engine: the Python runtime behind `api/photos`. */

import type { Rle } from "@sam-edge/runtime";
import { PageError } from "../errors.ts";
import { fromCoco } from "../masks/runs.ts";
import { shownIndex, type Prompt } from "../prompt/draft.ts";
import type { SessionBundle } from "../session.ts";
import { fromBase64, send, sendJson, toBase64 } from "./api.ts";
import type { Answer, Candidate, Engine, EngineInfo, Found, LowRes, PhotoSource, Report } from "./engine.ts";
import type { Kind } from "./pace.ts";

interface PhotoJson {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly encode_ms: number;
  readonly engine: string;
  readonly threads: number | null;
}

interface TensorJson {
  readonly shape: readonly [number, number];
  readonly float32: string;
}

interface MaskJson {
  readonly segmentation: Rle;
  readonly predicted_iou: number;
  readonly low_res?: TensorJson;
}

interface AnnotationJson {
  readonly segmentation: Rle;
  readonly predicted_iou: number;
  readonly stability_score: number;
  readonly point_coords: readonly (readonly [number, number])[];
}

export class ServerEngine implements Engine {
  info: EngineInfo;
  readonly #bundle: SessionBundle;
  #photo: { source: PhotoSource; id: string } | null = null;

  constructor(bundle: SessionBundle) {
    this.#bundle = bundle;
    this.info = { place: "server", bundle: bundle.title, engine: "server", threads: null, note: null };
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  async setImage(source: PhotoSource, report: Report, signal: AbortSignal): Promise<number> {
    report("Encoding on the server", null);
    const photo = await this.#upload(source, signal);
    this.#photo = { source, id: photo.id };
    this.info = { ...this.info, engine: photo.engine, threads: photo.threads };
    return photo.encode_ms;
  }

  async predict(prompt: Prompt, kind: Kind): Promise<Answer> {
    const body = { prompts: [promptJson(prompt)], multimask: prompt.multimask, low_res: kind === "click" };
    const answer = await this.#about((id) =>
      sendJson<{ prompts: { masks: MaskJson[]; object_score: number | null }[]; decode_ms: number }>(
        `api/photos/${id}/masks`,
        body,
      ),
    );
    const [own] = answer.prompts;
    const candidates = (own?.masks ?? []).map(candidateOf);
    return {
      candidates: kind === "hover" ? best(candidates) : candidates,
      objectScore: own?.object_score ?? null,
      ms: answer.decode_ms,
    };
  }

  async generate(report: Report, signal: AbortSignal): Promise<readonly Found[]> {
    report("Finding everything on the server", null);
    const answer = await this.#about((id) =>
      sendJson<{ annotations: AnnotationJson[] }>(`api/photos/${id}/everything`, {}, "POST", signal),
    );
    return answer.annotations.map((each) => ({
      mask: fromCoco(each.segmentation),
      predictedIou: each.predicted_iou,
      stabilityScore: each.stability_score,
      point: each.point_coords[0] ?? [0, 0],
    }));
  }

  close(): void {
    this.#photo = null;
  }

  async #upload(source: PhotoSource, signal?: AbortSignal): Promise<PhotoJson> {
    const query = new URLSearchParams({ bundle: this.#bundle.name });
    if (source.key !== null) query.set("photo", source.key);
    const response = await send(`api/photos?${query.toString()}`, {
      method: "POST",
      headers: {
        "Content-Type": source.file.type.startsWith("image/") ? source.file.type : "application/octet-stream",
      },
      body: source.key === null ? source.file : null,
      ...(signal === undefined ? {} : { signal }),
    });
    return (await response.json()) as PhotoJson;
  }

  /** Asks about the photo. The server forgets photos; then it gets this one once more. */
  async #about<T>(ask: (id: string) => Promise<T>): Promise<T> {
    const photo = this.#photo;
    if (photo === null) throw new PageError("There is no photo yet: choose one");
    try {
      return await ask(photo.id);
    } catch (error) {
      if (!(error instanceof PageError) || error.code !== "gone") throw error;
      const again = await this.#upload(photo.source);
      if (this.#photo === photo) this.#photo = { source: photo.source, id: again.id };
      return ask(again.id);
    }
  }
}

function promptJson(prompt: Prompt): Record<string, unknown> {
  const { points, box, previous, text } = prompt;
  return {
    ...(points.length === 0 ? {} : { points: points.map(({ x, y, label }) => [x, y, label]) }),
    ...(box === null ? {} : { box: [box.x0, box.y0, box.x1, box.y1] }),
    ...(text === null ? {} : { text }),
    ...(previous === null
      ? {}
      : { mask_input: { shape: [previous.height, previous.width], float32: toBase64(previous.data) } }),
  };
}

function candidateOf(mask: MaskJson): Candidate {
  return {
    mask: fromCoco(mask.segmentation),
    predictedIou: mask.predicted_iou,
    lowRes: mask.low_res === undefined ? null : lowResOf(mask.low_res),
  };
}

function lowResOf(tensor: TensorJson): LowRes {
  const [height, width] = tensor.shape;
  return { height, width, data: fromBase64(tensor.float32, height * width) };
}

function best(candidates: readonly Candidate[]): readonly Candidate[] {
  const index = shownIndex(
    candidates.map((each) => each.predictedIou),
    null,
  );
  return candidates.slice(index, index + 1);
}
