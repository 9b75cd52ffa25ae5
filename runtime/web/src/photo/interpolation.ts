/**
 * Interpolation along one axis, as torch's `interpolate` computes it without aligned corners and without antialiasing.
 *
 * Positions are float32, as torch computes them; product and subtraction are rounded once, because torch fuses them.
 */

import type { Ints } from "../arrays.ts";
import { CUBIC } from "../contract.ts";

/** Inputs that an output of bicubic interpolation depends on. */
export const CUBIC_TAPS = 4;

/** For each output two inputs: the lower one, the one after it if there is one, and the weight of the second. */
export interface Bilinear {
  readonly lower: Ints;
  /** 0..1. */
  readonly weight: Float64Array;
}

/** For each output `CUBIC_TAPS` inputs from the first on, and their weights; some weights are negative. */
export interface Bicubic {
  readonly first: Ints;
  readonly weights: Float64Array;
}

function positionIn(inputs: number, outputs: number): (output: number) => number {
  const scale = Math.fround(inputs / outputs);
  return (output) => Math.fround(scale * (output + 0.5) - 0.5);
}

export function bilinear(inputs: number, outputs: number): Bilinear {
  const positionOf = positionIn(inputs, outputs);
  const lower = new Int32Array(outputs);
  const weight = new Float64Array(outputs);
  for (let output = 0; output < outputs; output++) {
    const position = Math.max(positionOf(output), 0);
    lower[output] = Math.min(Math.floor(position), inputs - 1);
    weight[output] = Math.min(Math.max(position - lower[output]!, 0), 1);
  }
  return { lower, weight };
}

/** Beyond an edge, inputs repeat the one at the edge. */
export function bicubic(inputs: number, outputs: number): Bicubic {
  const positionOf = positionIn(inputs, outputs);
  const clipped = (place: number): number => Math.min(Math.max(place, 0), inputs - 1);
  const first = new Int32Array(outputs);
  const weights = new Float64Array(outputs * CUBIC_TAPS);
  for (let output = 0; output < outputs; output++) {
    const position = positionOf(output);
    const below = Math.floor(position);
    const offset = position - below;
    first[output] = clipped(below - 1);
    [1 + offset, offset, 1 - offset, 2 - offset].forEach((distance, tap) => {
      weights[output * CUBIC_TAPS + clipped(below - 1 + tap) - first[output]!]! += keys(distance);
    });
  }
  return { first, weights };
}

/** Keys' kernel (doi 10.1109/TASSP.1981.1163711) at a distance of 0 to 2. */
function keys(distance: number): number {
  if (distance <= 1) return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1;
  return ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC;
}
