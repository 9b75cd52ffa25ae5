/**
 * Photos resized as the model was exported and verified with; a canvas or a texture read would give another picture.
 *
 * Most families take Pillow's bilinear filter. It is a triangle that, when shrinking, reaches one output pixel to each
 * side (antialiasing). 8-bit pictures are computed with integer weights of 22 bits and rounded after each axis, as Pillow
 * does it (libImaging/Resample.c). EfficientSAM takes bilinear interpolation without antialiasing, as torch's.
 *
 * Each row is read once and added to the output rows that depend on it. The result is Pillow's to the bit where that
 * begins with the rows. Pillow 13.0 begins with the columns for some shapes; then a value may be rounded to the next one.
 */

import type { Bytes, Floats, Ints, Photo, Size } from "../arrays.ts";
import { bilinear } from "./interpolation.ts";
import { eachStrip, type Pixels } from "./pixels.ts";

const PRECISION = 22; // bits of the integer weights
const ONE = 2 ** PRECISION;
const RGB = 3;

/** The weights of one axis. */
interface Weights<Values = Float64Array> {
  /** First input of each output. */
  readonly first: Ints;
  /** Number of inputs of each output. */
  readonly count: Ints;
  /** `reach` weights for each output; their sum is 1. */
  readonly values: Values;
  readonly reach: number;
}

function triangle(inputs: number, outputs: number): Weights {
  const scale = inputs / outputs;
  const support = Math.max(scale, 1);
  const reach = Math.ceil(support) * 2 + 1;
  const [first, count] = [new Int32Array(outputs), new Int32Array(outputs)];
  const values = new Float64Array(outputs * reach);
  for (let output = 0; output < outputs; output++) {
    const centre = (output + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const length = Math.min(inputs, Math.trunc(centre + support + 0.5)) - start;
    let total = 0;
    for (let index = 0; index < length; index++) {
      const distance = Math.abs((index + start - centre + 0.5) * (1 / support));
      const weight = distance < 1 ? 1 - distance : 0;
      values[output * reach + index] = weight;
      total += weight;
    }
    for (let index = 0; index < length; index++) values[output * reach + index]! /= total;
    first[output] = start;
    count[output] = length;
  }
  return { first, count, values, reach };
}

/** The same with integers, whose sum is `ONE` but for rounding; sums of a byte times each stay below 2^31. */
function integerTriangle(inputs: number, outputs: number): Weights<Ints> {
  const weights = triangle(inputs, outputs);
  return { ...weights, values: Int32Array.from(weights.values, (weight) => Math.trunc(0.5 + weight * ONE)) };
}

/** A weight of a row of the photo in a row of the output. */
type Use = (output: number, weight: number, row: number) => void;

/** Call `use` for every output row that depends on rows `top` to `top + rows - 1`; `row` counts from `top`. */
function eachUse(
  { first, count, values, reach }: Weights<Float64Array | Ints>,
  top: number,
  rows: number,
  use: Use,
): void {
  for (let output = 0; output < first.length && first[output]! < top + rows; output++) {
    const start = first[output]!;
    const end = Math.min(start + count[output]!, top + rows);
    for (let y = Math.max(start, top); y < end; y++) {
      const weight = values[output * reach + y - start]!;
      if (weight) use(output, weight, y - top);
    }
  }
}

/** Rows of RGB in 8 bits, resized across. */
function across8(from: Bytes, rows: number, inputs: number, weights: Weights<Ints>, to: Bytes): void {
  const { first, count, values, reach } = weights;
  const outputs = first.length;
  for (let row = 0, place = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++, place += RGB) {
      const [own, length] = [output * reach, count[output]!];
      let at = RGB * (row * inputs + first[output]!);
      let [red, green, blue] = [ONE / 2, ONE / 2, ONE / 2];
      for (let index = 0; index < length; index++, at += RGB) {
        const weight = values[own + index]!;
        red = (red + Math.imul(from[at]!, weight)) | 0;
        green = (green + Math.imul(from[at + 1]!, weight)) | 0;
        blue = (blue + Math.imul(from[at + 2]!, weight)) | 0;
      }
      to[place] = Math.min(255, red >> PRECISION);
      to[place + 1] = Math.min(255, green >> PRECISION);
      to[place + 2] = Math.min(255, blue >> PRECISION);
    }
  }
}

/** A photo resized to `size`, as Pillow's `resize` with `BILINEAR` does it. */
export function resize(photo: Pixels, size: Size): Photo {
  const [across, down] = [integerTriangle(photo.width, size.width), integerTriangle(photo.height, size.height)];
  const length = RGB * size.width;
  const sums = new Int32Array(length * size.height).fill(ONE / 2);
  let wide = new Uint8Array();
  eachStrip(photo, (rows, top, count) => {
    if (wide.length < count * length) wide = new Uint8Array(count * length);
    across8(rows, count, photo.width, across, wide);
    eachUse(down, top, count, (output, weight, row) => {
      const [to, from] = [output * length, row * length];
      for (let index = 0; index < length; index++) {
        sums[to + index] = (sums[to + index]! + Math.imul(wide[from + index]!, weight)) | 0;
      }
    });
  });
  const data = Uint8Array.from(sums, (sum) => Math.min(255, sum >> PRECISION));
  return { width: size.width, height: size.height, data };
}

/** Rows of RGB resized across in double precision, and rounded to float32. */
function acrossFloat(from: Bytes, rows: number, inputs: number, weights: Weights, to: Floats): void {
  const { first, count, values, reach } = weights;
  for (let row = 0, place = 0; row < rows; row++) {
    for (let output = 0; output < first.length; output++, place += RGB) {
      const [own, length] = [output * reach, count[output]!];
      let at = RGB * (row * inputs + first[output]!);
      let [red, green, blue] = [0, 0, 0];
      for (let index = 0; index < length; index++, at += RGB) {
        const weight = values[own + index]!;
        red += from[at]! * weight;
        green += from[at + 1]! * weight;
        blue += from[at + 2]! * weight;
      }
      to[place] = red;
      to[place + 1] = green;
      to[place + 2] = blue;
    }
  }
}

/** Interleaved values as `(3, height, width)`: planes of R, G and B. */
function planesOf(values: ArrayLike<number>): Floats {
  const pixels = values.length / RGB;
  const planes = new Float32Array(values.length);
  for (let channel = 0; channel < RGB; channel++) {
    for (let pixel = 0; pixel < pixels; pixel++) planes[channel * pixels + pixel] = values[RGB * pixel + channel]!;
  }
  return planes;
}

/**
 * A photo resized to `size` in float, without rounding, as Pillow resizes pictures of mode F: `(3, height, width)`.
 */
export function resizeFloat(photo: Pixels, size: Size): Floats {
  const [across, down] = [triangle(photo.width, size.width), triangle(photo.height, size.height)];
  const length = RGB * size.width;
  const sums = new Float64Array(length * size.height);
  let wide = new Float32Array();
  eachStrip(photo, (rows, top, count) => {
    if (wide.length < count * length) wide = new Float32Array(count * length);
    acrossFloat(rows, count, photo.width, across, wide);
    eachUse(down, top, count, (output, weight, row) => {
      const [to, from] = [output * length, row * length];
      for (let index = 0; index < length; index++) sums[to + index]! += wide[from + index]! * weight;
    });
  });
  return planesOf(sums);
}

/** A photo resized to `size` in float without antialiasing, as torch's `interpolate` does it: `(3, height, width)`. */
export function resizeAliased(photo: Pixels, size: Size): Floats {
  const [down, across] = [bilinear(photo.height, size.height), bilinear(photo.width, size.width)];
  const length = RGB * photo.width;
  const mixed = new Float32Array(length);
  const resized = new Float32Array(RGB * size.width * size.height);
  // Every product and sum is rounded to float32, as numpy does it.
  const between = (lower: number, upper: number, weight: number): number =>
    Math.fround(lower * Math.fround(1 - weight)) + Math.fround(upper * weight);
  for (let y = 0, to = 0; y < size.height; y++) {
    const count = Math.min(2, photo.height - down.lower[y]!);
    const rows = photo.rows(down.lower[y]!, count);
    const upper = (count - 1) * length;
    for (let at = 0; at < length; at++) mixed[at] = between(rows[at]!, rows[upper + at]!, down.weight[y]!);
    for (let x = 0; x < size.width; x++) {
      const [left, right] = [across.lower[x]!, Math.min(across.lower[x]! + 1, photo.width - 1)];
      for (let channel = 0; channel < RGB; channel++, to++) {
        resized[to] = between(mixed[RGB * left + channel]!, mixed[RGB * right + channel]!, across.weight[x]!);
      }
    }
  }
  return planesOf(resized);
}
