/**
 * Picture files as photos: upright RGB, as the Python runtime's `read_photo` gives them.
 *
 * The browser decodes. The EXIF orientation is applied, the colour profile is ignored, and transparency is blended with
 * white, each as `read_photo` does it. Blending may round a partly transparent pixel to a neighbouring value. Of 16-bit
 * pictures a browser keeps the upper 8 bits, where `read_photo` looks for the depth that the picture uses.
 */

import type { Bytes, Photo } from "../arrays.ts";
import { LARGEST_PHOTO_PIXELS } from "../contract.ts";
import { firstLine, PhotoError } from "../errors.ts";

/** Rows that are read from a canvas at once: browsers limit the area of a canvas, some to 16 million pixels. */
const STRIP = 256;

/** What a photo can be made of. An `ImageData` is RGBA, with straight alpha. */
export type PhotoSource = Photo | ImageData | ImageBitmap | Blob;

/**
 * A photo from whatever a page has.
 *
 * @throws PhotoError - a file that the browser cannot decode; an empty or too large picture; an array of another size.
 */
export async function readPhoto(source: PhotoSource): Promise<Photo> {
  if (source instanceof Blob) return decode(source);
  if (typeof ImageBitmap !== "undefined" && source instanceof ImageBitmap) return drawn(source);
  const { width, height, data } = source as Photo | ImageData;
  const channels = (data?.length ?? 0) / (width * height);
  if (!(width > 0 && height > 0) || (channels !== 3 && channels !== 4)) {
    throw new PhotoError(
      `the photo of ${width}x${height} pixels has ${data?.length} values: give RGB (three a pixel) or an ImageData`,
    );
  }
  checkSize(width, height);
  if (channels === 4) return onWhite(data, width, height);
  return { width, height, data: data instanceof Uint8Array ? data : new Uint8Array(data) };
}

async function decode(file: Blob): Promise<Photo> {
  if (!file.size) throw new PhotoError("the photo is empty (0 bytes); copy it again");
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (error) {
    throw new PhotoError(
      `this browser cannot decode the photo (${firstLine(error)}): it is damaged, or of a format that it lacks; save it ` +
        "as JPEG or PNG",
      { cause: error },
    );
  }
  try {
    return drawn(bitmap);
  } finally {
    bitmap.close();
  }
}

function checkSize(width: number, height: number): void {
  if (width * height > LARGEST_PHOTO_PIXELS) {
    throw new PhotoError(
      `the photo is too large: ${width}x${height} is more than ${LARGEST_PHOTO_PIXELS} pixels; scale it down`,
    );
  }
}

/** The pixels of a bitmap on white, strip by strip. */
function drawn(bitmap: ImageBitmap): Photo {
  const { width, height } = bitmap;
  checkSize(width, height);
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  if (!context) throw new PhotoError(`this browser has no canvas ${width} pixels wide; scale the photo down`);
  const data = new Uint8Array(3 * width * height);
  context.fillStyle = "#fff";
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
    withoutAlpha(context.getImageData(0, 0, width, rows).data, data, top * width);
  }
  return { width, height, data };
}

function withoutAlpha(rgba: ArrayLike<number>, data: Bytes, firstPixel: number): void {
  for (let from = 0, to = 3 * firstPixel; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from]!;
    data[to + 1] = rgba[from + 1]!;
    data[to + 2] = rgba[from + 2]!;
  }
}

/** RGBA of straight alpha blended with white, rounded as Pillow's `alpha_composite` rounds it. */
function onWhite(rgba: ArrayLike<number>, width: number, height: number): Photo {
  const data = new Uint8Array(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const alpha = rgba[4 * pixel + 3]!;
    for (let channel = 0; channel < 3; channel++) {
      const value = rgba[4 * pixel + channel]!;
      data[3 * pixel + channel] = alpha === 255 ? value : blended(value, alpha);
    }
  }
  return { width, height, data };
}

/** libImaging/AlphaComposite.c, over an opaque white pixel. */
function blended(value: number, alpha: number): number {
  const ratio = alpha * 128; // the share of the upper picture, of 255 * 128
  const sum = value * ratio + 255 * (255 * 128 - ratio) + (0x80 << 7);
  return (((sum >> 8) + sum) >> 8) >> 7;
}
