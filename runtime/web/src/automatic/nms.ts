/** Non-maximum suppression: of boxes that overlap, the one with the best score stays. */

import type { Box } from "./statistics.ts";

const f32 = Math.fround;

/** The indices of the scores, descending; of equal ones the earlier comes first. */
export function descending(scores: readonly number[]): number[] {
  return scores.map((_, index) => index).sort((a, b) => scores[b]! - scores[a]! || a - b);
}

/**
 * Greedy non-maximum suppression, computed in float32 like torchvision's.
 *
 * @param threshold - a box is removed if its IoU with a better one is larger.
 * @returns indices of the remaining boxes, by descending score.
 */
export function nms(boxes: readonly Box[], scores: readonly number[], threshold: number): number[] {
  const limit = f32(threshold);
  const areas = boxes.map(([x0, y0, x1, y1]) => f32(f32(x1 - x0) * f32(y1 - y0)));
  const kept: number[] = [];
  let order = descending(scores);
  while (order.length) {
    const [best, ...rest] = order as [number, ...number[]];
    kept.push(best);
    const [x0, y0, x1, y1] = boxes[best]!;
    order = rest.filter((index) => {
      const other = boxes[index]!;
      const width = Math.max(Math.min(x1, other[2]) - Math.max(x0, other[0]), 0);
      const height = Math.max(Math.min(y1, other[3]) - Math.max(y0, other[1]), 0);
      const overlap = f32(width * height);
      // Without the division, which two boxes without area would make 0 / 0: both stay.
      return !(overlap > f32(limit * f32(f32(areas[best]! + areas[index]!) - overlap)));
    });
  }
  return kept;
}
