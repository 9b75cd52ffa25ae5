/** Masks as they are shown: bytes at the scale of the screen, their tint and their outline. */

import { eachColumnRun, type Runs } from "./runs.ts";

/** Longer side of what is drawn; larger photos are drawn from fewer pixels. */
export const SHOWN_SIDE = 1400;

export interface Raster {
  readonly width: number;
  readonly height: number;
  /** A byte a pixel, row by row, 1 inside. */
  readonly data: Uint8Array;
}

export type Colour = readonly [number, number, number];

/** Size at which a photo is drawn: not above `SHOWN_SIDE`, never enlarged. */
export function shownSize(width: number, height: number, side = SHOWN_SIDE): { width: number; height: number } {
  const scale = Math.min(1, side / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** The mask at the scale of the screen: a pixel is inside if any of its column's photo pixels is. */
export function rasterOf(runs: Runs, side = SHOWN_SIDE): Raster {
  const { width, height } = shownSize(runs.width, runs.height, side);
  const data = new Uint8Array(width * height);
  fillRuns({ width, height, data }, runs, 1);
  return { width, height, data };
}

/** Writes `value` into every pixel of the target in which a column of the mask has a photo pixel. */
export function fillRuns(
  { width, height, data }: { width: number; height: number; data: Uint8Array | Uint32Array },
  runs: Runs,
  value: number,
): void {
  const across = width / runs.width;
  const down = height / runs.height;
  eachColumnRun(runs, (x, top, bottom) => {
    const column = Math.min(width - 1, Math.floor((x + 0.5) * across));
    const from = Math.floor(top * down);
    const to = Math.min(height, Math.max(from + 1, Math.floor(bottom * down)));
    for (let i = from * width + column, end = to * width; i < end; i += width) data[i] = value;
  });
}

/** The pixels of a tint, RGBA; `alpha` 0..255 inside and 0 outside. */
export function tintOf(raster: Raster, colour: Colour, alpha: number): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint32Array(raster.width * raster.height);
  const value = ((alpha << 24) | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
  for (let i = 0; i < pixels.length; i++) if (raster.data[i] === 1) pixels[i] = value;
  return new Uint8ClampedArray(pixels.buffer);
}

/** Straight pieces of the border between inside and outside, x0, y0, x1, y1 in pixels of the raster. */
export function edgesOf(raster: Raster): Float32Array {
  const edges: number[] = [];
  // With a border of zeros every pixel has neighbours.
  const [width, height] = [raster.width + 1, raster.height + 1];
  const data = new Uint8Array((width + 1) * (height + 1));
  const across = width + 1;
  for (let y = 1; y < height; y++) {
    data.set(raster.data.subarray((y - 1) * raster.width, y * raster.width), y * across + 1);
  }
  // A run of one border goes on as long as the inside stays on its side: +1 below or right of it, -1 above or left.
  for (let y = 1; y <= height; y++) {
    for (let x = 1, side = 0, from = 0, at = y * across + 1; x <= width; x++, at++) {
      const next = data[at]! - data[at - across]!;
      if (next === side) continue;
      if (side !== 0) edges.push(from, y - 1, x - 1, y - 1);
      side = next;
      from = x - 1;
    }
  }
  for (let x = 1; x <= width; x++) {
    for (let y = 1, side = 0, from = 0, at = across + x; y <= height; y++, at += across) {
      const next = data[at]! - data[at - 1]!;
      if (next === side) continue;
      if (side !== 0) edges.push(x - 1, from, x - 1, y - 1);
      side = next;
      from = y - 1;
    }
  }
  return Float32Array.from(edges);
}

/** What both have, what only `a` has and what only `b` has, as three rasters of one size. */
export function differenceOf(a: Raster, b: Raster): { both: Raster; onlyA: Raster; onlyB: Raster } {
  const part = (keep: (inA: boolean, inB: boolean) => boolean): Raster => ({
    width: a.width,
    height: a.height,
    data: a.data.map((value, i) => (keep(value === 1, b.data[i] === 1) ? 1 : 0)),
  });
  return {
    both: part((inA, inB) => inA && inB),
    onlyA: part((inA, inB) => inA && !inB),
    onlyB: part((inA, inB) => !inA && inB),
  };
}
