/**
 * Low-resolution logits to masks at the photo's size.
 *
 * The reference interpolates the H/4 x W/4 logits to the frame, crops the padding, and interpolates to the photo. Every
 * step is linear and separable, so along each axis a pixel of the photo is a mean of at most three neighbouring cells.
 * Where the photo was stretched, one interpolation leads from the cells to the photo, of two cells; or of four
 * (`cubic.ts`), where the model's masks are resized bicubically.
 */

import type { Bytes, Floats, Ints, Mask, Size } from "../arrays.ts";
import { MASK_STRIDE, MASK_THRESHOLD } from "../contract.ts";
import { UsageError } from "../errors.ts";
import { eachRowCubic } from "./cubic.ts";
import type { Axis, Frame } from "./frame.ts";
import { bilinear } from "./interpolation.ts";

/** Cells of an axis that a pixel depends on. */
export const REACH = 3;

/** The weights of one axis. */
export interface Taps {
  /** Cells in use; the rest lies in the padding. */
  readonly cells: number;
  /** First cell of each pixel of the photo. */
  readonly first: Ints;
  /** `REACH` weights for each pixel; zero where there is no such cell. */
  readonly weights: Floats;
  /** Where stretches of pixels with the same first cell begin; at last the number of pixels. */
  readonly starts: Ints;
}

/** The taps of an axis, for bilinear masks. */
export function tapsOf({ size, resized, original }: Axis): Taps {
  const cells = Math.floor(size / MASK_STRIDE);
  const toFrame = bilinear(cells, resized === null ? original : size);
  const toPhoto = resized === null ? null : bilinear(resized, original);
  const first = new Int32Array(original);
  const weights = new Float32Array(REACH * original);
  const sums = new Float64Array(REACH + 1);
  let used = 0;
  for (let pixel = 0; pixel < original; pixel++) {
    sums.fill(0);
    const start = toPhoto ? toPhoto.lower[pixel]! : pixel;
    const base = toFrame.lower[start]!;
    const add = (position: number, share: number): void => {
      const cell = toFrame.lower[position]!;
      const weight = toFrame.weight[position]!;
      sums[cell - base]! += share * (1 - weight);
      sums[Math.min(cell + 1, cells - 1) - base]! += share * weight;
    };
    if (toPhoto) {
      const weight = toPhoto.weight[pixel]!;
      add(start, 1 - weight);
      add(Math.min(start + 1, resized! - 1), weight);
    } else add(start, 1);
    // Rounded to float32 before zeros are looked for, as the Python runtime does it.
    const skipped = Math.fround(sums[0]!) === 0 ? 1 : 0;
    first[pixel] = base + skipped;
    for (let index = 0; index < REACH; index++) {
      weights[pixel * REACH + index] = sums[index + skipped]!;
      if (weights[pixel * REACH + index]) used = Math.max(used, base + skipped + index + 1);
    }
  }
  const starts = [...first.keys()].filter((pixel) => !pixel || first[pixel] !== first[pixel - 1]);
  return { cells: used, first, weights, starts: Int32Array.from([...starts, original]) };
}

const CACHED = 16;
const cache = new Map<string, Taps>();

/** `tapsOf`, with the last few kept. */
export function cachedTaps(axis: Axis): Taps {
  const key = `${axis.size} ${axis.resized} ${axis.original}`;
  const found = cache.get(key) ?? tapsOf(axis);
  cache.delete(key);
  cache.set(key, found);
  if (cache.size > CACHED) cache.delete(cache.keys().next().value!);
  return found;
}

/** Takes a row of logits, or a part of it, which has none where the `side` of the threshold is known. */
type Use = (y: number, logits: Floats, start?: number, end?: number, side?: number) => void;

/**
 * Call `use` with each row of the photo's logits, top down; the array is used again for the next row. With a threshold,
 * rows come in stretches, and those that lie on one side of it have no logits.
 */
function eachRow(lowRes: Floats, frame: Frame, use: Use, threshold: number | null = null): void {
  const { height, width } = frame.cells;
  if (lowRes.length !== height * width) {
    throw new UsageError(
      `a low-resolution mask of ${lowRes.length} logits does not belong to a frame of ${frame.size.width}x` +
        `${frame.size.height} pixels, whose masks have ${height} x ${width}`,
    );
  }
  if (frame.down.bicubic) return eachRowCubic(lowRes, frame, use);
  const [rows, columns] = [cachedTaps(frame.down), cachedTaps(frame.across)];
  const photo: Size = frame.original;
  const line = new Float32Array(columns.cells + REACH);
  // Rows of cells, interpolated across; REACH more of zeros, so that no weight of zero reads beyond them.
  const wide = new Float32Array((rows.cells + REACH) * photo.width);
  for (let row = 0; row < rows.cells; row++) {
    line.set(lowRes.subarray(row * width, row * width + columns.cells));
    const to = row * photo.width;
    for (let x = 0; x < photo.width; x++) {
      const [cell, tap] = [columns.first[x]!, x * REACH];
      wide[to + x] =
        line[cell]! * columns.weights[tap]! +
        line[cell + 1]! * columns.weights[tap + 1]! +
        line[cell + 2]! * columns.weights[tap + 2]!;
    }
  }
  const logits = new Float32Array(photo.width);
  const stride = columns.cells + REACH;
  const sides = threshold === null ? new Uint8Array((rows.cells + REACH) * stride) : sidesOf(lowRes, frame, threshold);
  const { starts } = columns;
  for (let y = 0; y < photo.height; y++) {
    const [a, b, c] = [rows.weights[y * REACH]!, rows.weights[y * REACH + 1]!, rows.weights[y * REACH + 2]!];
    const [one, row] = [rows.first[y]! * photo.width, rows.first[y]! * stride];
    const [two, three] = [one + photo.width, one + 2 * photo.width];
    for (let stretch = 0; stretch < starts.length - 1;) {
      const start = starts[stretch]!;
      const side = sides[row + columns.first[start]!]!;
      do stretch++;
      while (stretch < starts.length - 1 && sides[row + columns.first[starts[stretch]!]!] === side);
      const end = starts[stretch]!;
      if (!side) {
        for (let x = start; x < end; x++) logits[x] = a * wide[one + x]! + b * wide[two + x]! + c * wide[three + x]!;
      }
      use(y, logits, start, end, side);
    }
  }
}

const [ABOVE, BELOW] = [1, 2];
/** Logits that are farther from the threshold than this decide without interpolation: rounding errors are far smaller. */
const CLEAR = 1e-3;

/**
 * For each cell on which side of the threshold all cells lie that a pixel whose first cell it is depends on: `ABOVE`,
 * `BELOW`, or 0 where both occur or a cell is too near. A pixel is a mean of them, so it lies on the same side.
 */
function sidesOf(lowRes: Floats, frame: Frame, threshold: number): Bytes {
  const [{ cells: rows }, { cells: columns }] = [cachedTaps(frame.down), cachedTaps(frame.across)];
  const stride = columns + REACH;
  const sides = new Uint8Array((rows + REACH) * stride).fill(ABOVE | BELOW);
  for (let row = 0; row < rows; row++) {
    const [from, to] = [row * frame.cells.width, row * stride];
    for (let column = 0; column < columns; column++) {
      const over = lowRes[from + column]! - threshold;
      sides[to + column] = over > CLEAR ? ABOVE : over < -CLEAR ? BELOW : 0;
    }
    for (let at = to; at < to + columns; at++) sides[at]! &= sides[at + 1]! & sides[at + 2]!;
  }
  for (let at = 0; at < rows * stride; at++) sides[at]! &= sides[at + stride]! & sides[at + 2 * stride]!;
  return sides;
}

/** The logits `(H, W)` of a mask at the photo's size. */
export function upscale(lowRes: Floats, frame: Frame): Floats {
  const { height, width } = frame.original;
  const logits = new Float32Array(height * width);
  eachRow(lowRes, frame, (y, row) => logits.set(row, y * width));
  return logits;
}

/** The mask at the photo's size: where the logits exceed `threshold`. Only one row of them is in memory at a time. */
export function upscaleBinary(lowRes: Floats, frame: Frame, threshold: number = MASK_THRESHOLD): Mask {
  const { height, width } = frame.original;
  const data = new Uint8Array(height * width);
  const binary: Use = (y, row, start = 0, end = width, side = 0) => {
    const at = y * width;
    if (side === ABOVE) data.fill(1, at + start, at + end);
    else if (side !== BELOW) for (let x = start; x < end; x++) data[at + x] = row[x]! > threshold ? 1 : 0;
  };
  eachRow(lowRes, frame, binary, threshold);
  return { width, height, data };
}
