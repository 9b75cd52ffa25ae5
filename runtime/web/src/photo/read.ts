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
import { pixelsOf, STRIP, wholeOf, type Pixels } from "./pixels.ts";

/** What a photo can be made of. An `ImageData` is RGBA, with straight alpha; a `Blob` is a picture file. */
export type PhotoSource = Photo | ImageData | ImageBitmap | Blob;

/**
 * A photo from whatever a page has, as an array of RGB.
 *
 * @throws PhotoError - a file that the browser cannot decode; an empty or too large picture; an array of another size.
 */
export async function readPhoto(source: PhotoSource): Promise<Photo> {
  return usePhoto(source, wholeOf);
}

/**
 * Let `use` read the pixels of a photo. They are there until it returns; a file's are never in memory as a whole beside
 * what the browser decoded.
 *
 * @throws PhotoError - as `readPhoto`.
 */
export async function usePhoto<T>(source: PhotoSource, use: (photo: Pixels) => T | Promise<T>): Promise<T> {
  if (source instanceof Blob) return useFile(source, use);
  if (typeof ImageBitmap !== "undefined" && source instanceof ImageBitmap) return use(pixelsOfBitmap(source));
  const { width, height, data } = source as Photo | ImageData;
  const channels = (data?.length ?? 0) / (width * height);
  if (!(width > 0 && height > 0) || (channels !== 3 && channels !== 4)) {
    throw new PhotoError(
      `the photo of ${width}x${height} pixels has ${data?.length} values: give RGB (three a pixel) or an ImageData`,
    );
  }
  checkSize(width, height);
  if (channels === 4) return use(pixelsOnWhite(data, width, height));
  return use(pixelsOf({ width, height, data: data instanceof Uint8Array ? data : new Uint8Array(data) }));
}

async function useFile<T>(file: Blob, use: (photo: Pixels) => T | Promise<T>): Promise<T> {
  if (!file.size) throw new PhotoError("the photo is empty (0 bytes); copy it again");
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (error) {
    throw new PhotoError(
      `this browser cannot decode the photo (${firstLine(error)}): it is damaged, of a format that it lacks, or larger ` +
        "than its memory; save it as JPEG or PNG, or scale it down",
      { cause: error },
    );
  }
  try {
    return await use(pixelsOfBitmap(bitmap));
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

/** The pixels of a bitmap on white, drawn strip by strip. */
function pixelsOfBitmap(bitmap: ImageBitmap): Pixels {
  const { width, height } = bitmap;
  checkSize(width, height);
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  if (!context) throw new PhotoError(`this browser has no canvas ${width} pixels wide; scale the photo down`);
  context.fillStyle = "#fff";
  const strip = new Uint8Array(3 * canvas.width * canvas.height);
  const rows = (top: number, count: number): Bytes => {
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    const rgba = context.getImageData(0, 0, width, count).data;
    for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
      strip[to] = rgba[from]!;
      strip[to + 1] = rgba[from + 1]!;
      strip[to + 2] = rgba[from + 2]!;
    }
    return strip.subarray(0, 3 * width * count);
  };
  return { width, height, rows };
}

/** RGBA of straight alpha blended with white, rounded as Pillow's `alpha_composite` rounds it. */
function pixelsOnWhite(rgba: ArrayLike<number>, width: number, height: number): Pixels {
  const rows = (top: number, count: number): Bytes => {
    const data = new Uint8Array(3 * width * count);
    for (let pixel = 0, from = 4 * width * top; pixel < width * count; pixel++, from += 4) {
      const alpha = rgba[from + 3]!;
      for (let channel = 0; channel < 3; channel++) {
        const value = rgba[from + channel]!;
        data[3 * pixel + channel] = alpha === 255 ? value : blended(value, alpha);
      }
    }
    return data;
  };
  return { width, height, rows };
}

/** libImaging/AlphaComposite.c, over an opaque white pixel. */
function blended(value: number, alpha: number): number {
  const ratio = alpha * 128; // the share of the upper picture, of 255 * 128
  const sum = value * ratio + 255 * (255 * 128 - ratio) + (0x80 << 7);
  return (((sum >> 8) + sum) >> 8) >> 7;
}
