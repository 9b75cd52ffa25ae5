/** Which part of a photo a thumbnail shows. */

import type { Bounds } from "../masks/runs.ts";

const MARGIN = 0.15;
/** Pixels that a thumbnail shows at least. */
const LEAST = 24;

/** The smallest part of the photo around a box that has the wanted shape, with a margin. */
export function cropOf(
  box: Bounds | null,
  photo: { readonly width: number; readonly height: number },
  shape: number,
): { x: number; y: number; width: number; height: number } {
  const part = box ?? { x0: 0, y0: 0, x1: photo.width, y1: photo.height };
  let width = (part.x1 - part.x0) * (1 + 2 * MARGIN);
  let height = (part.y1 - part.y0) * (1 + 2 * MARGIN);
  width = Math.max(width, height * shape, LEAST);
  height = width / shape;
  return { x: (part.x0 + part.x1 - width) / 2, y: (part.y0 + part.y1 - height) / 2, width, height };
}
