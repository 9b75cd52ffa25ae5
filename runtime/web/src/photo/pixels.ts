/**
 * The pixels of a photo, a few rows at a time.
 *
 * A photo of 100 megapixels takes 0.4 GB where the browser decodes it. Whoever resizes it needs each row once, so its
 * RGB copy (0.3 GB) is never made.
 */

import type { Bytes, Photo } from "../arrays.ts";

/** Rows that are read at once: browsers limit the area of a canvas, some to 16 million pixels. */
export const STRIP = 256;

/** An upright photo in RGB. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  /** Rows `top` to `top + count - 1`, three bytes a pixel; at most `STRIP` of them. A later call may overwrite them. */
  rows(top: number, count: number): Bytes;
}

/** The pixels of a photo in memory. */
export function pixelsOf({ width, height, data }: Photo): Pixels {
  return { width, height, rows: (top, count) => data.subarray(3 * width * top, 3 * width * (top + count)) };
}

/** Call `use` with the strips of a photo, top down. */
export function eachStrip(photo: Pixels, use: (rows: Bytes, top: number, count: number) => void): void {
  for (let top = 0; top < photo.height; top += STRIP) {
    const count = Math.min(STRIP, photo.height - top);
    use(photo.rows(top, count), top, count);
  }
}

/** The whole photo in memory. */
export function wholeOf(photo: Pixels): Photo {
  const { width, height } = photo;
  const data = new Uint8Array(3 * width * height);
  eachStrip(photo, (rows, top) => data.set(rows, 3 * width * top));
  return { width, height, data };
}

/** The rectangle of a photo from x0, y0 to without x1, y1. */
export function cutOf(photo: Pixels, { x0, y0, x1, y1 }: Readonly<Record<"x0" | "y0" | "x1" | "y1", number>>): Pixels {
  const width = x1 - x0;
  if (width === photo.width) {
    return { width, height: y1 - y0, rows: (top, count) => photo.rows(y0 + top, count) };
  }
  const rows = (top: number, count: number): Bytes => {
    const all = photo.rows(y0 + top, count);
    const data = new Uint8Array(3 * width * count);
    for (let row = 0; row < count; row++) {
      const from = 3 * (row * photo.width + x0);
      data.set(all.subarray(from, from + 3 * width), 3 * row * width);
    }
    return data;
  };
  return { width, height: y1 - y0, rows };
}
