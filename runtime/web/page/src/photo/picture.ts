/** A photo as the page shows it. */

import type { PhotoSource } from "../engine/engine.ts";
import { PageError } from "../errors.ts";

export interface Picture {
  readonly source: PhotoSource;
  /** Size of the upright photo in pixels, which all coordinates refer to. */
  readonly width: number;
  readonly height: number;
  /** What is drawn; of a large photo a smaller copy. */
  readonly bitmap: ImageBitmap;
}

/** Longer side of what is drawn. Beyond it, browsers need gigabytes for a photo of 100 megapixels. */
const DRAWN_SIDE = 4096;

/** Decodes a photo. Throws `PageError` if the browser cannot, or if it is larger than `most` pixels. */
export async function decodePicture(source: PhotoSource, most: number): Promise<Picture> {
  if (source.file.size === 0) throw new PageError(`${source.name} is empty: copy it again`);
  let full: ImageBitmap;
  try {
    full = await createImageBitmap(source.file, { imageOrientation: "from-image" });
  } catch (error) {
    throw new PageError(`This browser cannot read ${source.name}: save it as JPEG, PNG or WebP`, null, {
      cause: error,
    });
  }
  const { width, height } = full;
  if (width * height > most) {
    full.close();
    throw new PageError(`${source.name} has ${width} × ${height} pixels, more than ${most}: scale it down`);
  }
  const scale = DRAWN_SIDE / Math.max(width, height);
  if (scale >= 1) return { source, width, height, bitmap: full };
  try {
    const bitmap = await createImageBitmap(full, {
      resizeWidth: Math.max(1, Math.round(width * scale)),
      resizeHeight: Math.max(1, Math.round(height * scale)),
      resizeQuality: "high",
    });
    return { source, width, height, bitmap };
  } finally {
    full.close();
  }
}

/** The name of a photo without folders and ending, fit for the names of files made from it. */
export function stemOf(name: string): string {
  const base = name.split(/[\\/]/).pop() ?? "";
  const stem = base
    .replace(/\.[^.]*$/, "")
    .replace(/[\p{C}<>:"/\\|?*]/gu, "_")
    .trim();
  return stem === "" ? "photo" : stem.slice(0, 100);
}
