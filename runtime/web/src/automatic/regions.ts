/**
 * Connected regions of a mask, computed on its run lengths: small holes are filled, small islands removed.
 *
 * The result is that of segment_anything's `remove_small_regions`. Regions are 8-connected: pixels that touch at a corner
 * belong together. Runs are split at the ends of columns, and touching runs of neighbouring columns are joined.
 */

import type { Mask } from "../arrays.ts";
import { lengthsBetween } from "../masks/rle.ts";
import type { Box } from "./statistics.ts";

/** First pixel and the one after the last, ascending; pixels are numbered column by column. */
type Run = readonly [number, number];

function runsOf(lengths: readonly number[]): Run[] {
  const runs: Run[] = [];
  let at = 0;
  lengths.forEach((length, index) => {
    if (index % 2 && length) runs.push([at, at + length]);
    at += length;
  });
  return runs;
}

function complement(runs: readonly Run[], pixels: number): Run[] {
  const gaps: Run[] = [];
  let at = 0;
  for (const [start, end] of runs) {
    if (start > at) gaps.push([at, start]);
    at = end;
  }
  if (pixels > at) gaps.push([at, pixels]);
  return gaps;
}

/** The same runs, split where a column of `height` pixels ends. */
function split(runs: readonly Run[], height: number): Run[] {
  return runs.flatMap(([start, end]) => {
    const parts: Run[] = [];
    for (let at = start; at < end;) {
      const next = Math.min(end, (Math.floor(at / height) + 1) * height);
      parts.push([at, next]);
      at = next;
    }
    return parts;
  });
}

/** Adjacent runs joined. */
function joined(runs: readonly Run[]): Run[] {
  const whole: [number, number][] = [];
  for (const [start, end] of runs) {
    const last = whole.at(-1);
    if (last?.[1] === start) last[1] = end;
    else whole.push([start, end]);
  }
  return whole;
}

/** For each run, which is split, the index of its region's first run. */
function labels(runs: readonly Run[], height: number): number[] {
  const parent = runs.map((_, index) => index);
  const root = (index: number): number => {
    while (parent[index] !== index) {
      parent[index] = parent[parent[index]!]!;
      index = parent[index]!;
    }
    return index;
  };
  let other = 0; // the first run of the column before that can still touch
  runs.forEach(([start, end], index) => {
    const column = Math.floor(start / height);
    const [top, bottom] = [start - height, end - height]; // of the same rows in the column before
    while (other < index && (Math.floor(runs[other]![0] / height) < column - 1 || runs[other]![1] < top)) other++;
    for (let each = other; each < index; each++) {
      const [from, to] = runs[each]!;
      if (Math.floor(from / height) !== column - 1 || from > bottom) break;
      if (to < top) continue;
      const [a, b] = [root(each), root(index)];
      parent[Math.max(a, b)] = Math.min(a, b);
    }
  });
  return runs.map((_, index) => root(index));
}

/** For each run the number of pixels of its region, and the region's label. */
function areas(runs: readonly Run[], height: number): { area: number[]; label: number[] } {
  const label = labels(runs, height);
  const sums = new Array<number>(runs.length).fill(0);
  runs.forEach(([start, end], index) => (sums[label[index]!]! += end - start));
  return { area: label.map((each) => sums[each]!), label };
}

/**
 * Fill small holes of a mask, then remove small islands. Of a mask with small islands alone, the largest stays.
 *
 * @param least - holes and islands with fewer pixels are small.
 * @returns the new run lengths, and whether there was a small hole or island.
 */
export function removeSmallRegions(
  lengths: readonly number[],
  { height, width }: { height: number; width: number },
  least: number,
): { lengths: number[]; changed: boolean } {
  const pixels = height * width;
  let inside = runsOf(lengths);
  const outside = split(complement(inside, pixels), height);
  const holes = areas(outside, height).area.map((area) => area < least);
  if (holes.includes(true)) inside = complement(joined(outside.filter((_, index) => !holes[index])), pixels);
  inside = split(inside, height);
  const { area, label } = areas(inside, height);
  let kept = area.map((each) => each >= least);
  const islands = kept.includes(false);
  if (area.length && !kept.includes(true)) {
    const largest = label[area.indexOf(area.reduce((a, b) => Math.max(a, b)))];
    kept = label.map((each) => each === largest);
  }
  const runs = joined(inside.filter((_, index) => kept[index]));
  return { lengths: lengthsBetween(runs.flat(), pixels), changed: islands || holes.includes(true) };
}

/** The bounding box of a mask, given by its run lengths and height; zeros for an empty one. */
export function boundingBox(lengths: readonly number[], height: number): Box {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -1, -1];
  for (const [start, end] of split(runsOf(lengths), height)) {
    const x = Math.floor(start / height);
    [x0, x1] = [Math.min(x0, x), Math.max(x1, x)];
    [y0, y1] = [Math.min(y0, start - x * height), Math.max(y1, end - 1 - x * height)];
  }
  return x1 < 0 ? [0, 0, 0, 0] : [x0, y0, x1, y1];
}

/** A box x0, y0, x1, y1 as x, y, x1 - x0, y1 - y0: the form of segment_anything's records. */
export function xywh([x0, y0, x1, y1]: Box): [number, number, number, number] {
  return [x0, y0, x1 - x0, y1 - y0];
}

/** The pixels of a mask, given by its run lengths, that lie in another mask. */
export function pixelsWithin(lengths: readonly number[], { data, width, height }: Mask): number {
  let count = 0;
  for (const [start, end] of runsOf(lengths)) {
    for (let at = start; at < end; at++) if (data[(at % height) * width + Math.floor(at / height)]) count++;
  }
  return count;
}
