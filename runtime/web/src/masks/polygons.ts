/**
 * Masks as polygons: their outlines along the edges of pixels.
 *
 * Filled by the even-odd rule, the rings give exactly the mask again. Outer rings run clockwise on the screen, holes
 * counter-clockwise. Pixels that touch at a corner alone belong to different rings.
 */

import type { Mask } from "../arrays.ts";

/** A closed line: x0, y0, x1, y1, ... in pixels of the photo; (0, 0) is the corner of the first pixel. */
export type Ring = number[];

/** Directions of an edge: right, down, left, up. The mask lies to its right, as one walks. */
const STEPS = [
  [1, 0],
  [0, 1],
  [-1, 0],
  [0, -1],
] as const;

/** The rings of a mask, in the order of their first corner, row by row. */
export function toRings({ width, height, data }: Mask): Ring[] {
  const inside = (x: number, y: number): boolean =>
    x >= 0 && y >= 0 && x < width && y < height && data[y * width + x] !== 0;
  // Whether the edge that leaves a corner in a direction has the mask to its right and not to its left.
  const isEdge = (x: number, y: number, direction: number): boolean => {
    switch (direction) {
      case 0:
        return inside(x, y) && !inside(x, y - 1);
      case 1:
        return inside(x - 1, y) && !inside(x, y);
      case 2:
        return inside(x - 1, y - 1) && !inside(x - 1, y);
      default:
        return inside(x, y - 1) && !inside(x - 1, y - 1);
    }
  };
  const seen = new Uint8Array(width * height); // top edges, one of which every ring has
  const rings: Ring[] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!seen[y * width + x] && isEdge(x, y, 0)) rings.push(ringFrom(x, y, isEdge, seen, width));
    }
  }
  return rings;
}

/** Follow the outline from the top edge of a pixel back to it. */
function ringFrom(
  startX: number,
  startY: number,
  isEdge: (x: number, y: number, direction: number) => boolean,
  seen: Uint8Array,
  width: number,
): Ring {
  const ring: Ring = [];
  let [x, y, direction, last] = [startX, startY, 0, -1];
  do {
    if (direction !== last) ring.push(x, y);
    if (direction === 0) seen[y * width + x] = 1;
    last = direction;
    const [dx, dy] = STEPS[direction]!;
    [x, y] = [x + dx, y + dy];
    // A turn to the right comes first: pixels that touch at a corner stay apart.
    direction = [(last + 1) % 4, last, (last + 3) % 4].find((turn) => isEdge(x, y, turn))!;
  } while (x !== startX || y !== startY || direction !== 0);
  if (last === 0) ring.splice(0, 2); // the start lies within a straight edge
  return ring;
}

/** The part of a ring that `tolerance` pixels allow to leave out (Douglas and Peucker's method). */
export function simplified(ring: Ring, tolerance: number): Ring {
  const points = ring.length / 2;
  if (tolerance <= 0 || points < 4) return ring;
  const kept = new Uint8Array(points + 1);
  const [x, y] = [(index: number) => ring[2 * (index % points)]!, (index: number) => ring[2 * (index % points) + 1]!];
  const away = (index: number, from: number, to: number): number => {
    const [dx, dy] = [x(to) - x(from), y(to) - y(from)];
    const length = Math.hypot(dx, dy);
    const [px, py] = [x(index) - x(from), y(index) - y(from)];
    return length ? Math.abs(dx * py - dy * px) / length : Math.hypot(px, py);
  };
  const farthest = (from: number, to: number): [number, number] => {
    let [best, distance] = [-1, -1];
    for (let index = from + 1; index < to; index++) {
      const own = away(index, from, to);
      if (own > distance) [best, distance] = [index, own];
    }
    return [best, distance];
  };
  const [opposite] = farthest(0, points); // a ring begins where it ends: this is the point farthest from there
  kept[0] = kept[opposite] = 1;
  const parts: [number, number][] = [
    [0, opposite],
    [opposite, points],
  ];
  for (let part = parts.pop(); part; part = parts.pop()) {
    const [from, to] = part;
    const [index, distance] = farthest(from, to);
    if (index < 0 || distance <= tolerance) continue;
    kept[index] = 1;
    parts.push([from, index], [index, to]);
  }
  const result: Ring = [];
  for (let index = 0; index < points; index++) if (kept[index]) result.push(x(index), y(index));
  return result.length < 6 ? ring : result;
}

/**
 * The polygons of a mask, as COCO's `segmentation` has them. COCO has no holes: take RLE for masks that have some.
 *
 * @param tolerance - pixels that a line may be off, to leave corners out; 0 is exact.
 */
export function toPolygons(mask: Mask, tolerance = 0): Ring[] {
  return toRings(mask).map((ring) => simplified(ring, tolerance));
}

/**
 * The mask as the `d` of an SVG path, in pixels of the photo; draw it with `fill-rule="evenodd"`.
 *
 * @param tolerance - as in `toPolygons`.
 */
export function toSvgPath(mask: Mask, tolerance = 0): string {
  return toPolygons(mask, tolerance)
    .map((ring) => {
      const corners: string[] = [];
      for (let index = 0; index < ring.length; index += 2) corners.push(`${ring[index]} ${ring[index + 1]}`);
      return `M${corners.join("L")}Z`;
    })
    .join("");
}
