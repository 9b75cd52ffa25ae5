/** What a page and its worker send each other. */

import type { Features, Mask, Size } from "../arrays.ts";
import type { AutomaticSettings } from "../automatic/settings.ts";
import type { Progress } from "../bundle/bundle.ts";
import type { Manifest } from "../bundle/manifest.ts";
import type { Word } from "../bundle/vocabulary.ts";
import type { EngineInfo, EngineOptions } from "../engine/choice.ts";
import type { PhotoSource } from "../photo/read.ts";
import type { PredictOptions } from "../predictor.ts";
import type { Prompt } from "../prompts.ts";

/** A bundle's place, in a form that goes to a worker: an absolute URL, a zip file, or files by their paths. */
export type SentSource = string | Blob | ReadonlyMap<string, Blob>;

export interface SentOptions extends EngineOptions {
  readonly checkHashes?: boolean;
  readonly keep?: boolean;
}

/** What `open` answers. */
export interface Opened {
  readonly manifest: Manifest;
  readonly words: readonly Word[];
}

/** Calls of the worker, by name, with their arguments. */
export interface Calls {
  open: [source: SentSource, options: SentOptions];
  warmUp: [];
  setImage: [photo: PhotoSource];
  resetImage: [];
  getImageFeatures: [];
  setImageFeatures: [features: Features, original: Size];
  predictBatch: [prompts: readonly Prompt[], options: PredictOptions];
  generate: [photo: PhotoSource, settings: Partial<AutomaticSettings>, covered: Mask | undefined];
  verify: [];
}

export type CallName = keyof Calls;

export type Request =
  { readonly id: number; readonly call: CallName; readonly args: readonly unknown[] } | { readonly abort: number };

/** `engine` is the one that computed: where one gives way to another, it does so within a call. */
export type Reply =
  | { readonly id: number; readonly result: unknown; readonly engine: EngineInfo | null }
  | { readonly id: number; readonly progress: Progress | number }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };

/** The memory of all arrays in a result, which goes to the page without a copy. */
export function buffersOf(value: unknown, found = new Set<ArrayBuffer>()): Set<ArrayBuffer> {
  if (ArrayBuffer.isView(value)) found.add(value.buffer as ArrayBuffer);
  else if (Array.isArray(value)) value.forEach((each) => buffersOf(each, found));
  else if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
    Object.values(value).forEach((each) => buffersOf(each, found));
  }
  return found;
}
