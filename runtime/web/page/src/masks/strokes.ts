/** Brush and eraser: strokes of a round brush over a mask. */

import type { Mask } from "@sam-edge/runtime";
import { fromMask, toMask, type Runs } from "./runs.ts";

export interface Stroke {
  /** x, y in pixels of the photo. */
  readonly points: readonly (readonly [number, number])[];
  readonly radius: number;
  readonly erase: boolean;
}

/** The mask with the strokes over it, in their order. A pixel counts if its centre lies under the brush. */
export function painted(mask: Runs, strokes: readonly Stroke[]): Runs {
  if (strokes.length === 0) return mask;
  const canvas = toMask(mask);
  for (const stroke of strokes) {
    const value = stroke.erase ? 0 : 1;
    stroke.points.forEach((point, i) => {
      const before = stroke.points[Math.max(0, i - 1)]!;
      paintCapsule(canvas, before, point, stroke.radius, value);
    });
  }
  return fromMask(canvas);
}

type Spot = readonly [number, number];

/** Sets the pixels within `radius` of the line from `a` to `b`. */
function paintCapsule(canvas: Mask, a: Spot, b: Spot, radius: number, value: number): void {
  const [ax, ay] = a;
  const dx = b[0] - ax;
  const dy = b[1] - ay;
  const length = dx * dx + dy * dy;
  const top = Math.max(0, Math.floor(Math.min(ay, b[1]) - radius));
  const bottom = Math.min(canvas.height - 1, Math.ceil(Math.max(ay, b[1]) + radius));
  const left = Math.max(0, Math.floor(Math.min(ax, b[0]) - radius));
  const right = Math.min(canvas.width - 1, Math.ceil(Math.max(ax, b[0]) + radius));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const px = x + 0.5 - ax;
      const py = y + 0.5 - ay;
      const t = length === 0 ? 0 : Math.min(1, Math.max(0, (px * dx + py * dy) / length));
      const ex = px - t * dx;
      const ey = py - t * dy;
      if (ex * ex + ey * ey <= radius * radius) canvas.data[y * canvas.width + x] = value;
    }
  }
}

/** A mask without a pixel. */
export function emptyMask(width: number, height: number): Runs {
  return { width, height, counts: Uint32Array.of(width * height) };
}
