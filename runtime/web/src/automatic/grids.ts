/** Point grids and crops: where the model is prompted to find everything in a photo, as segment_anything does it. */

import type { Size } from "../arrays.ts";
import { UsageError } from "../errors.ts";

/** Points x, y from 0 to 1. */
export type Grid = readonly (readonly [number, number])[];

/** A part of the photo; `x1` and `y1` are the first pixels outside. */
export interface Crop {
  readonly x0: number;
  readonly y0: number;
  readonly x1: number;
  readonly y1: number;
  /** 0 is the whole photo. */
  readonly layer: number;
}

/** A grid of points, each in the middle of its cell, row by row. */
export function pointGrid(side: number): Grid {
  return Array.from({ length: side * side }, (_, index) => [
    ((index % side) + 0.5) / side,
    (Math.floor(index / side) + 0.5) / side,
  ]);
}

/**
 * A point grid for the photo and each layer of crops.
 *
 * @throws UsageError - the grid of a layer would have no point.
 */
export function layerGrids(pointsPerSide: number, layers: number, downscale: number): Grid[] {
  const sides = Array.from({ length: layers + 1 }, (_, layer) => Math.floor(pointsPerSide / downscale ** layer));
  if (!sides.at(-1)) {
    throw new UsageError(
      `a grid of ${pointsPerSide} points per side, divided by ${downscale} for each of ${layers} layers, ends without a ` +
        "point: use fewer layers, a smaller divisor or more points",
    );
  }
  return sides.map(pointGrid);
}

/** The whole photo, and in layer n its 4 ** n overlapping parts. */
export function generateCrops({ height, width }: Size, layers: number, overlapRatio: number): Crop[] {
  const crops: Crop[] = [{ x0: 0, y0: 0, x1: width, y1: height, layer: 0 }];
  for (let layer = 1; layer <= layers; layer++) {
    const perSide = 2 ** layer;
    const overlap = Math.trunc(overlapRatio * Math.min(height, width) * (2 / perSide));
    const part = (length: number): number => Math.ceil((overlap * (perSide - 1) + length) / perSide);
    for (let column = 0; column < perSide; column++) {
      for (let row = 0; row < perSide; row++) {
        const [x0, y0] = [(part(width) - overlap) * column, (part(height) - overlap) * row];
        const [x1, y1] = [Math.min(x0 + part(width), width), Math.min(y0 + part(height), height)];
        crops.push({ x0, y0, x1, y1, layer });
      }
    }
  }
  return crops;
}

export function cropSize({ x0, y0, x1, y1 }: Crop): Size {
  return { height: y1 - y0, width: x1 - x0 };
}
