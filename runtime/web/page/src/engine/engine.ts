/**
 * What answers prompts: the runtime in a worker of this browser, or the server's.
 *
 * Coordinates are pixels of the upright photo: x to the right, y down.
 */

import type { Runs } from "../masks/runs.ts";
import type { Prompt } from "../prompt/draft.ts";
import type { Place } from "../session.ts";
import type { Kind } from "./pace.ts";

/** Logits of a mask at the decoder's resolution, row by row. */
export interface LowRes {
  readonly height: number;
  readonly width: number;
  readonly data: Float32Array<ArrayBuffer>;
}

export interface Candidate {
  readonly mask: Runs;
  /** The model's estimate of the mask's IoU, 0..1. */
  readonly predictedIou: number;
  readonly lowRes: LowRes | null;
}

export interface Answer {
  /** Whole, part and subpart; or one mask, as for every hover. */
  readonly candidates: readonly Candidate[];
  /** Logit, above 0 where the photo has what was asked for; null where the model does not tell. */
  readonly objectScore: number | null;
  /** Milliseconds of the decoder and of making masks. */
  readonly ms: number;
}

/** A mask that was found without a prompt. */
export interface Found {
  readonly mask: Runs;
  readonly predictedIou: number;
  readonly stabilityScore: number;
  /** The point that found it, x, y. */
  readonly point: readonly [number, number];
}

export interface EngineInfo {
  readonly place: Place;
  /** Name of the bundle. */
  readonly bundle: string;
  /** Engine as people call it: "WASM", "WebGPU", "ONNX Runtime 1.32". */
  readonly engine: string;
  /** Threads; null where the engine does not tell. */
  readonly threads: number | null;
  /** Why it is not the faster one, in one line; null if it is the best that there is. */
  readonly note: string | null;
}

/** A photo as the person gave it, or one of the annotation queue, which the server has already. */
export interface PhotoSource {
  readonly name: string;
  readonly file: Blob;
  /** Key in the queue; null for a photo from the person. */
  readonly key: string | null;
}

/** `share` is 0..1, or null where nobody can tell. */
export type Report = (step: string, share: number | null) => void;

export interface Engine {
  /** What runs and where; whole after the first `setImage`. */
  readonly info: EngineInfo;
  /** Loads what the first photo would have to wait for. */
  prepare(report: Report): Promise<void>;
  /** Encodes a photo, which `predict` and `generate` answer for from then on. Returns milliseconds. */
  setImage(photo: PhotoSource, report: Report, signal: AbortSignal): Promise<number>;
  /** Masks for a prompt; while the pointer hovers only the best of them, without logits. */
  predict(prompt: Prompt, kind: Kind): Promise<Answer>;
  /** Everything in the photo, by descending predicted IoU. */
  generate(report: Report, signal: AbortSignal): Promise<readonly Found[]>;
  close(): void;
}
