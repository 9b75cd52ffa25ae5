/** Logits of masks that are resized bicubically: a pixel is a sum of 4 x 4 cells, with weights that may be negative. */

import type { Floats } from "../arrays.ts";
import type { Frame } from "./frame.ts";
import { bicubic, CUBIC_TAPS } from "./interpolation.ts";

/**
 * Call `use` with each row of the photo's logits, top down; the array is used again for the next row.
 *
 * @param lowRes - logits `(H/4, W/4)` of the frame, to the whole of which the photo was stretched.
 */
export function eachRowCubic(lowRes: Floats, frame: Frame, use: (y: number, logits: Floats) => void): void {
  const [cells, photo] = [frame.cells, frame.original];
  const [down, across] = [bicubic(cells.height, photo.height), bicubic(cells.width, photo.width)];
  const [tall, wide] = [Float32Array.from(down.weights), Float32Array.from(across.weights)];
  const line = new Float32Array(cells.width + CUBIC_TAPS); // zeros behind, where weights are zero
  const rows = new Float32Array((cells.height + CUBIC_TAPS) * photo.width);
  for (let row = 0; row < cells.height; row++) {
    line.set(lowRes.subarray(row * cells.width, (row + 1) * cells.width));
    const to = row * photo.width;
    for (let x = 0; x < photo.width; x++) {
      const [cell, tap] = [across.first[x]!, x * CUBIC_TAPS];
      rows[to + x] =
        line[cell]! * wide[tap]! +
        line[cell + 1]! * wide[tap + 1]! +
        line[cell + 2]! * wide[tap + 2]! +
        line[cell + 3]! * wide[tap + 3]!;
    }
  }
  const logits = new Float32Array(photo.width);
  for (let y = 0; y < photo.height; y++) {
    const [a, b, c, d] = tall.subarray(y * CUBIC_TAPS, (y + 1) * CUBIC_TAPS) as unknown as [
      number,
      number,
      number,
      number,
    ];
    const one = down.first[y]! * photo.width;
    const [two, three, four] = [one + photo.width, one + 2 * photo.width, one + 3 * photo.width];
    for (let x = 0; x < photo.width; x++) {
      logits[x] = a * rows[one + x]! + b * rows[two + x]! + c * rows[three + x]! + d * rows[four + x]!;
    }
    use(y, logits);
  }
}
