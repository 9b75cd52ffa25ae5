/**
 * The acceptance test of a bundle, `golden.npz`: small drawn pictures, prompts of every kind, and what the fp32 model
 * answered.
 */

import type { Bytes, Features, Floats, Photo, Size, Tensor } from "../arrays.ts";
import type { FrameGraphs, Manifest } from "../bundle/manifest.ts";
import {
  EMBEDDING_SAMPLING,
  LARGEST_GOLDEN,
  LOGIT_SAMPLING,
  MASK_OUTPUTS,
  MASK_PROMPT_SCALE,
  MASK_STRIDE,
} from "../contract.ts";
import { BundleError, firstLine } from "../errors.ts";
import type { Slots } from "../prompts.ts";
import { readNpz, type NpyArray } from "./npz.ts";

/** The fp32 model's outputs for one prompt. */
export interface Expected {
  /** `(4, H/16, W/16)`: every fourth low-resolution logit along both axes. */
  readonly logits: Floats;
  /** `(4, H/4, W/4)`: 1 inside, 0 outside. */
  readonly inside: Bytes;
  readonly iou: Floats;
  readonly objectScore: number | null;
}

/** One prompt on a picture, in pixels of the frame. */
export interface Case {
  readonly name: string;
  readonly slots: Slots;
  readonly expected: Expected;
}

/** A picture, every fourth cell of its features, and the prompts on it. */
export interface GoldenPicture {
  readonly photo: Photo;
  readonly graphs: FrameGraphs;
  readonly features: Features;
  readonly cases: readonly Case[];
}

function sampled(size: number, step: number): number {
  return Math.ceil(size / step);
}

/** Every fourth cell of a map `(1, C, H, W)`, along both axes. */
export function sample({ data, shape }: Tensor, step: number = EMBEDDING_SAMPLING): Tensor {
  const [, channels, height, width] = shape as [number, number, number, number];
  const [rows, columns] = [sampled(height, step), sampled(width, step)];
  const cells = new Float32Array(channels * rows * columns);
  for (let channel = 0, to = 0; channel < channels; channel++) {
    for (let row = 0; row < rows; row++) {
      const from = (channel * height + row * step) * width;
      for (let column = 0; column < columns; column++) cells[to++] = data[from + column * step]!;
    }
  }
  return { data: cells, shape: [1, channels, rows, columns] };
}

class Arrays {
  readonly #stored: ReadonlyMap<string, NpyArray>;

  constructor(stored: ReadonlyMap<string, NpyArray>) {
    this.#stored = stored;
  }

  get names(): string[] {
    return [...this.#stored.keys()];
  }

  has(name: string): boolean {
    return this.#stored.has(name);
  }

  /** An array of that type and shape; null in a shape is any size above 0. */
  array(name: string, dtype: string, ...shape: (number | null)[]): NpyArray {
    const array = this.#stored.get(name);
    const fits =
      array?.dtype === dtype &&
      array.shape.length === shape.length &&
      shape.every((want, axis) => (want === null ? array.shape[axis]! > 0 : array.shape[axis] === want));
    if (!fits)
      throw new Error(`${name} is ${array ? `${array.dtype} of shape (${array.shape.join(", ")})` : "missing"}`);
    return array;
  }

  floats(name: string, ...shape: (number | null)[]): Tensor {
    const array = this.array(name, "f4", ...shape);
    return { data: array.data as Floats, shape: array.shape };
  }

  integers(name: string, ...shape: (number | null)[]): number[] {
    return Array.from(this.array(name, "i8", ...shape).data as BigInt64Array, Number);
  }
}

/**
 * Read the `golden.npz` of a bundle.
 *
 * @throws BundleError - the file is damaged, or its arrays are not those that the exporter writes.
 */
export async function readGolden(content: Bytes, manifest: Manifest): Promise<GoldenPicture[]> {
  try {
    const stored = new Arrays(await readNpz(content, LARGEST_GOLDEN));
    const names = stored.array("names", "U", null).data as string[];
    const owners = names.map((_, index) => stored.integers(`case_${index}_picture`)[0]!);
    const count = stored.names.filter((name) => /^picture_\d+$/.test(name)).length;
    const wrong = owners.find((owner) => owner < 0 || owner >= count);
    if (wrong !== undefined) throw new Error(`a prompt is on picture ${wrong} of ${count}`);
    return Array.from({ length: count }, (_, index) => {
      const graphs = frameOf(stored, index, manifest);
      const cases = names.flatMap((name, row) =>
        owners[row] === index ? [readCase(stored, name, row, graphs.frame, manifest)] : [],
      );
      const { shape, data } = stored.array(`picture_${index}`, "u1", null, null, 3);
      const photo = { height: shape[0]!, width: shape[1]!, data: data as Bytes };
      return { photo, graphs, features: featuresOf(stored, index, graphs), cases };
    });
  } catch (error) {
    throw new BundleError(`golden.npz is no golden test (${firstLine(error)}): export the bundle again`, {
      cause: error,
    });
  }
}

function frameOf(stored: Arrays, index: number, manifest: Manifest): FrameGraphs {
  const name = `picture_${index}_frame`;
  const [height, width] = stored.has(name) ? stored.integers(name, 2) : [manifest.inputSide, manifest.inputSide];
  const found = manifest.frames.find(({ frame }) => frame.height === height && frame.width === width);
  if (!found) throw new Error(`picture ${index} lies in a frame of ${width}x${height}, which the bundle does not have`);
  return found;
}

function featuresOf(stored: Arrays, index: number, graphs: FrameGraphs): Features {
  return graphs.encoderContract.outputs.map((spec, number) => {
    const [batch, channels, height, width] = spec.shape as [number, number, number, number];
    const name = `picture_${index}_${number ? `feature_${number - 1}` : "embedding"}`;
    const [rows, columns] = [sampled(height, EMBEDDING_SAMPLING), sampled(width, EMBEDDING_SAMPLING)];
    return stored.floats(name, batch, channels, rows, columns);
  });
}

function readCase(stored: Arrays, name: string, index: number, frame: Size, manifest: Manifest): Case {
  const prefix = `case_${index}_`;
  const [rows, columns] = [frame.height / MASK_STRIDE, frame.width / MASK_STRIDE];
  const coords = stored.floats(`${prefix}point_coords`, null, 2);
  const labels = stored.floats(`${prefix}point_labels`, coords.shape[0]!);
  const masked = stored.has(`${prefix}mask_input`);
  const eighths = masked ? (stored.array(`${prefix}mask_input`, "i1", 1, rows, columns).data as Int8Array) : null;
  const bits = stored.array(`${prefix}inside`, "u1", (MASK_OUTPUTS * rows * columns) / 8).data as Bytes;
  const score = manifest.conventions.objectScore ? stored.floats(`${prefix}object_score`, 1).data[0]! : null;
  const [few, fewer] = [sampled(rows, LOGIT_SAMPLING), sampled(columns, LOGIT_SAMPLING)];
  return {
    name,
    slots: {
      coords: Array.from(labels.data, (_, slot) => [coords.data[2 * slot]!, coords.data[2 * slot + 1]!] as const),
      labels: Array.from(labels.data),
      mask: eighths ? Float32Array.from(eighths, (value) => value / MASK_PROMPT_SCALE) : null,
      text: stored.has(`${prefix}text_embedding`)
        ? stored.floats(`${prefix}text_embedding`, manifest.conventions.textChannels ?? 0).data
        : null,
    },
    expected: {
      logits: stored.floats(`${prefix}logits`, MASK_OUTPUTS, few, fewer).data,
      inside: Uint8Array.from({ length: 8 * bits.length }, (_, bit) => (bits[bit >> 3]! >> (7 - (bit & 7))) & 1),
      iou: stored.floats(`${prefix}iou_predictions`, MASK_OUTPUTS).data,
      objectScore: score,
    },
  };
}
