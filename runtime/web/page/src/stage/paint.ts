/** Masks on a canvas: tints and outlines, each made once for a mask. */

import { edgesOf, fillRuns, rasterOf, shownSize, tintOf, type Colour, type Raster } from "../masks/raster.ts";
import type { Runs } from "../masks/runs.ts";

export interface Shown {
  readonly mask: Runs;
  readonly colour: Colour;
}

const paths = new WeakMap<Runs, Path2D>();

/** The outline of a mask, in pixels of its raster. */
export function outlineOf(mask: Runs): Path2D {
  const kept = paths.get(mask);
  if (kept !== undefined) return kept;
  const path = pathOf(rasterOf(mask));
  paths.set(mask, path);
  return path;
}

/** The outline of a raster, in its pixels. */
export function pathOf(raster: Raster): Path2D {
  const path = new Path2D();
  const edges = edgesOf(raster);
  for (let i = 0; i < edges.length; i += 4) {
    path.moveTo(edges[i]!, edges[i + 1]!);
    path.lineTo(edges[i + 2]!, edges[i + 3]!);
  }
  return path;
}

/** All masks as one picture at the scale of the screen; later ones cover earlier ones. */
export function tints(
  masks: readonly Shown[],
  photo: { width: number; height: number },
  alpha: number,
): HTMLCanvasElement {
  const { width, height } = shownSize(photo.width, photo.height);
  const pixels = new Uint32Array(width * height);
  for (const { mask, colour } of masks) {
    const value = ((alpha << 24) | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
    fillRuns({ width, height, data: pixels }, mask, value);
  }
  return canvasOf(new Uint8ClampedArray(pixels.buffer), width, height);
}

/** A raster as a tinted picture. */
export function tintedRaster(raster: Raster, colour: Colour, alpha: number): HTMLCanvasElement {
  return canvasOf(tintOf(raster, colour, alpha), raster.width, raster.height);
}

function canvasOf(pixels: Uint8ClampedArray<ArrayBuffer>, width: number, height: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}

/** The last result of a function, kept as long as its arguments are the same objects. */
export function kept<A extends readonly unknown[], R>(make: (...args: A) => R): (...args: A) => R {
  let before: A | null = null;
  let result: R;
  return (...args) => {
    if (before?.length !== args.length || args.some((each, i) => each !== before![i])) {
      result = make(...args);
      before = args;
    }
    return result;
  };
}
