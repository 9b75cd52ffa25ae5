/**
 * Pillow's bilinear resize: what the encoder was exported and verified with.
 *
 * The filter is a triangle that, when shrinking, reaches one output pixel to each side (antialiasing). 8-bit pictures are
 * computed with integer weights of 22 bits and rounded after each axis, as Pillow does it (libImaging/Resample.c). A
 * canvas or a texture read would give another picture.
 *
 * The result is Pillow's to the bit where that begins with the rows. Pillow 13.0 begins
 * with the columns for some shapes; then a value may be rounded to the next one.
 */

import type { Bytes, Floats, Ints, Photo, Size } from "../arrays.ts";

const PRECISION = 22; // bits of the integer weights
const ONE = 2 ** PRECISION;

/** The weights of one axis. */
interface Weights {
  /** First input of each output. */
  readonly first: Ints;
  /** Number of inputs of each output. */
  readonly count: Ints;
  /** `reach` weights for each output; their sum is 1. */
  readonly values: Float64Array;
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

/** One axis of a picture whose `lines` lines of `inputs` samples lie `lineStep` apart, and samples `step` apart. */
interface Pass {
  readonly inputs: number;
  readonly outputs: number;
  readonly lines: number;
  readonly step: number;
  readonly lineStep: number;
  readonly newStep: number;
  readonly newLineStep: number;
}

/** Interleaved channels, in 8 bits. */
function pass8(from: Bytes, { inputs, outputs, lines, ...at }: Pass, channels: number): Bytes {
  const { first, count, values, reach } = triangle(inputs, outputs);
  const weights = Int32Array.from(values, (weight) => Math.trunc(0.5 + weight * ONE));
  const to = new Uint8Array(lines * outputs * channels);
  for (let line = 0; line < lines; line++) {
    for (let output = 0; output < outputs; output++) {
      const [start, length, own] = [first[output]!, count[output]!, output * reach];
      for (let channel = 0; channel < channels; channel++) {
        let sum = ONE / 2;
        let place = line * at.lineStep + start * at.step + channel;
        for (let index = 0; index < length; index++, place += at.step) sum += from[place]! * weights[own + index]!;
        to[line * at.newLineStep + output * at.newStep + channel] = Math.min(255, sum >> PRECISION);
      }
    }
  }
  return to;
}

/**
 * A photo resized to `size`, as Pillow's `resize` with `BILINEAR` does it.
 */
export function resize(photo: Photo, size: Size): Photo {
  let { data, width, height } = photo;
  if (width !== size.width) {
    const pass = { inputs: width, outputs: size.width, lines: height };
    data = pass8(data, { ...pass, step: 3, lineStep: 3 * width, newStep: 3, newLineStep: 3 * size.width }, 3);
    width = size.width;
  }
  if (height !== size.height) {
    // Down the columns every sample is a line of its own: interleaved channels need no inner loop.
    const pass = { inputs: height, outputs: size.height, lines: 3 * width };
    const step = 3 * width;
    data = pass8(data, { ...pass, step, lineStep: 1, newStep: step, newLineStep: 1 }, 1);
    height = size.height;
  }
  return { data, width, height };
}

/** One float32 plane resized, as Pillow does it for pictures of mode F: sums in double precision. */
function resizePlane(plane: Floats, { width, height }: Size, size: Size): Floats {
  let data = plane;
  if (width !== size.width) {
    const { first, count, values, reach } = triangle(width, size.width);
    const wide = new Float32Array(height * size.width);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < size.width; x++) {
        let sum = 0;
        const place = y * width + first[x]!;
        for (let index = 0; index < count[x]!; index++) sum += data[place + index]! * values[x * reach + index]!;
        wide[y * size.width + x] = sum;
      }
    }
    data = wide;
  }
  if (height !== size.height) {
    const { first, count, values, reach } = triangle(height, size.height);
    const tall = new Float32Array(size.height * size.width);
    const line = new Float64Array(size.width);
    for (let y = 0; y < size.height; y++) {
      line.fill(0);
      for (let index = 0; index < count[y]!; index++) {
        const [weight, place] = [values[y * reach + index]!, (first[y]! + index) * size.width];
        for (let x = 0; x < size.width; x++) line[x]! += data[place + x]! * weight;
      }
      tall.set(line, y * size.width);
    }
    data = tall;
  }
  return data;
}

/** A photo resized to `size` in float, without rounding: `(3, height, width)`, planes of R, G and B. */
export function resizeFloat(photo: Photo, size: Size): Floats {
  const pixels = photo.width * photo.height;
  const planes = new Float32Array(3 * size.width * size.height);
  for (let channel = 0; channel < 3; channel++) {
    const plane = new Float32Array(pixels);
    for (let pixel = 0; pixel < pixels; pixel++) plane[pixel] = photo.data[3 * pixel + channel]!;
    planes.set(resizePlane(plane, photo, size), channel * size.width * size.height);
  }
  return planes;
}
