/**
 * A mask as COCO's run lengths: column by column, starting with the pixels outside of the object.
 *
 * This is the form that the page keeps and exchanges: a mask of a 12-megapixel photo takes a few kilobytes.
 */

import type { Mask } from "@sam-edge/runtime";
import { compress, decompress, runLengths, type Rle, type UncompressedRle } from "@sam-edge/runtime/masks/rle.ts";
import { PageError } from "../errors.ts";

export interface Runs {
  readonly width: number;
  readonly height: number;
  /** Lengths in pixels; their sum is `width * height`. */
  readonly counts: Uint32Array;
}

export interface Bounds {
  readonly x0: number;
  readonly y0: number;
  /** One past the last column and row. */
  readonly x1: number;
  readonly y1: number;
}

/** Runs from COCO's compressed string. Throws `UsageError` for damaged counts, `PageError` if they do not fit the photo. */
export function fromCoco({ size: [height, width], counts }: Rle): Runs {
  return runsOf(decompress(counts), width, height);
}

/** Runs from COCO's uncompressed form, as the runtime's worker sends them. Throws `PageError` if they do not fit. */
export function fromLengths({ size: [height, width], counts }: UncompressedRle): Runs {
  return runsOf(counts, width, height);
}

/** COCO's compressed string of runs. */
export function toCoco(runs: Runs): Rle {
  return { size: [runs.height, runs.width], counts: compress([...runs.counts]) };
}

/** Runs of a mask of bytes, row by row, non-zero inside. */
export function fromMask(mask: Mask): Runs {
  return { width: mask.width, height: mask.height, counts: Uint32Array.from(runLengths(mask)) };
}

/** The mask as bytes, row by row: 1 inside and 0 outside. */
export function toMask(runs: Runs): Mask {
  const data = new Uint8Array(runs.width * runs.height);
  fill(data, runs);
  return { width: runs.width, height: runs.height, data };
}

function runsOf(counts: readonly number[], width: number, height: number): Runs {
  const total = counts.reduce((sum, each) => (each >= 0 ? sum + each : NaN), 0);
  if (total !== width * height) {
    throw new PageError("A mask is broken: its run lengths do not fit its photo. Load the photo again");
  }
  return { width, height, counts: Uint32Array.from(counts) };
}

function fill(data: Uint8Array, runs: Runs): void {
  eachColumnRun(runs, (x, top, bottom) => {
    for (let i = top * runs.width + x, end = bottom * runs.width; i < end; i += runs.width) data[i] = 1;
  });
}

/** Calls back for every stretch of a column inside the mask: rows `top` up to but without `bottom`. */
export function eachColumnRun(runs: Runs, visit: (x: number, top: number, bottom: number) => void): void {
  const { height, counts } = runs;
  let at = 0;
  for (let i = 0; i < counts.length; i++) {
    const end = at + counts[i]!;
    if (i % 2 === 1) {
      for (let from = at; from < end;) {
        const x = Math.floor(from / height);
        const to = Math.min(end, (x + 1) * height);
        visit(x, from - x * height, to - x * height);
        from = to;
      }
    }
    at = end;
  }
}

/** Pixels inside. */
export function area(runs: Runs): number {
  let sum = 0;
  for (let i = 1; i < runs.counts.length; i += 2) sum += runs.counts[i]!;
  return sum;
}

/** The smallest box around the mask, or null if it is empty. */
export function bounds(runs: Runs): Bounds | null {
  let x0 = Infinity;
  let y0 = Infinity;
  let x1 = 0;
  let y1 = 0;
  eachColumnRun(runs, (x, top, bottom) => {
    x0 = Math.min(x0, x);
    x1 = Math.max(x1, x + 1);
    y0 = Math.min(y0, top);
    y1 = Math.max(y1, bottom);
  });
  return x1 === 0 ? null : { x0, y0, x1, y1 };
}

/** Whether a pixel lies inside. */
export function contains(runs: Runs, x: number, y: number): boolean {
  if (x < 0 || y < 0 || x >= runs.width || y >= runs.height) return false;
  const wanted = Math.floor(x) * runs.height + Math.floor(y);
  let at = 0;
  for (let i = 0; i < runs.counts.length; i++) {
    at += runs.counts[i]!;
    if (wanted < at) return i % 2 === 1;
  }
  return false;
}

/** Pixels in both masks, and pixels in at least one. Both have the same size. */
export function overlap(a: Runs, b: Runs): { both: number; either: number } {
  let both = 0;
  let i = 0;
  let j = 0;
  let leftA = a.counts[0] ?? 0;
  let leftB = b.counts[0] ?? 0;
  while (i < a.counts.length && j < b.counts.length) {
    const step = Math.min(leftA, leftB);
    if (i % 2 === 1 && j % 2 === 1) both += step;
    leftA -= step;
    leftB -= step;
    if (leftA === 0) leftA = a.counts[++i] ?? 0;
    if (leftB === 0) leftB = b.counts[++j] ?? 0;
  }
  return { both, either: area(a) + area(b) - both };
}

/** Intersection over union, 0..1; 1 for two empty masks. */
export function iou(a: Runs, b: Runs): number {
  const { both, either } = overlap(a, b);
  return either === 0 ? 1 : both / either;
}

/** All masks as one; they have the same size. */
export function union(masks: readonly Runs[]): Runs {
  const first = masks[0];
  if (first === undefined) throw new RangeError("the union of no masks has no size");
  if (masks.length === 1) return first;
  const all = toMask(first);
  for (const mask of masks.slice(1)) fill(all.data, mask);
  return fromMask(all);
}
