/** What the Python runtime computed (`tests/web/fixtures.py`). */

import { readFileSync } from "node:fs";

import type { Bytes, Floats, Mask, Photo, Size } from "../src/arrays.ts";
import type { Conventions } from "../src/bundle/conventions.ts";
import type { MaskRecord } from "../src/automatic/generator.ts";
import type { Prompt } from "../src/prompts.ts";
import { sha256 } from "../src/bundle/hash.ts";
import { canonical, parseJson } from "../src/bundle/json.ts";
import { FIXTURES } from "./setup.ts";

/** An array of numpy: dtype, shape, and its bytes in base64. */
export interface Packed {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: string;
}

export interface Geometry {
  readonly original: Size;
  readonly frame: Size;
  readonly conventions: Conventions;
  readonly resized: Size;
  readonly photo: Packed;
  readonly image: Packed;
  readonly across_then_down: Packed;
  readonly coords: readonly [number, number][];
  readonly in_frame: readonly [number, number][];
  readonly low_res: Packed;
  readonly logits: Packed;
  readonly stability: readonly number[];
  readonly boxes: readonly number[][];
  readonly run_lengths: readonly number[][];
  readonly at: readonly [number, number];
  readonly large: Size;
}

export interface Answer {
  readonly prompt: Omit<Prompt, "maskInput"> & { maskInput?: true };
  readonly multimask: boolean;
  readonly masks: Packed;
  readonly scores: readonly number[];
  readonly low_res: Packed;
  readonly object_score: number | null;
}

/** A prompt that the model's family does not know. */
export type Refused = Pick<Answer, "prompt" | "multimask"> & { readonly refused: true };

export interface BundleCase {
  readonly files: Readonly<Record<string, string>>;
  readonly photo: Packed;
  readonly mask: Packed;
  readonly answers: readonly (Answer | Refused)[];
}

export const FAMILIES = ["sam_2", "sam_hq", "efficient_sam", "efficientvit_sam", "words"] as const;
export type Family = (typeof FAMILIES)[number];

interface Fixtures {
  readonly geometry: readonly Geometry[];
  readonly frames: readonly { frames: Size[]; original: Size; frame: Size; resized: Size }[];
  readonly prompts: readonly {
    name: string;
    conventions: Conventions;
    prompt: Prompt;
    refused?: true;
    coords: [number, number][];
    labels: number[];
    fed_coords: Packed;
    fed_labels: Packed;
  }[];
  readonly selections: readonly {
    name: string;
    conventions: Conventions;
    multimask: boolean;
    decoded: { lowRes: Packed; iou: Packed };
    iou: number[][];
    low_res: Packed;
  }[];
  readonly masks: readonly {
    mask: Packed;
    lengths: number[];
    string: string;
    cleaned: number[];
    changed: boolean;
    box: number[];
  }[];
  readonly nms: { boxes: [number, number, number, number][]; scores: number[]; kept: Record<string, number[]> };
  readonly radii: readonly number[];
  readonly refined_radius: number;
  readonly automatic: readonly {
    settings: Record<string, unknown>;
    covered: Packed | null;
    records: MaskRecord[];
  }[];
  readonly crops: readonly { size: Size; layers: number; crops: number[][] }[];
  readonly bundles: Readonly<Record<"any" | "fixed" | Family, BundleCase>>;
  readonly manifests: Readonly<Record<string, string>>;
  readonly unknown_words: readonly { text: string; message: string }[];
}

export const fixtures = JSON.parse(readFileSync(FIXTURES, "utf-8")) as Fixtures;

export function decoded(text: string): Bytes {
  return new Uint8Array(Buffer.from(text, "base64"));
}

export function floats({ data }: Packed): Floats {
  return new Float32Array(decoded(data).buffer);
}

export function photo({ shape, data }: Packed): Photo {
  return { height: shape[0]!, width: shape[1]!, data: decoded(data) };
}

export const mask: (packed: Packed) => Mask = photo;

/** The parts of an array along its first axis. */
export function parts(packed: Packed): Floats[] {
  const all = floats(packed);
  const size = all.length / packed.shape[0]!;
  return Array.from({ length: packed.shape[0]! }, (_, index) => all.slice(index * size, (index + 1) * size));
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let largest = 0;
  for (let index = 0; index < a.length; index++) largest = Math.max(largest, Math.abs(a[index]! - b[index]!));
  return largest;
}

/** A bundle's files, by their paths. */
export function files({ files: all }: BundleCase): Map<string, Blob> {
  return new Map(Object.entries(all).map(([name, text]) => [name, new Blob([decoded(text)])]));
}

/** A manifest with other fields, and the digest that belongs to them. */
export async function changed(json: string, change: (document: Record<string, unknown>) => void): Promise<string> {
  const document = JSON.parse(json) as Record<string, unknown>;
  change(document);
  delete document.digest;
  const digest = await sha256(new TextEncoder().encode(canonical(parseJson(JSON.stringify(document)))));
  return JSON.stringify({ ...document, digest });
}
