/** Masks as pictures: ImageData for a canvas, PNG files. */

import type { Bytes, Mask, Photo } from "../arrays.ts";
import { UsageError } from "../errors.ts";

/** A mask as RGBA: `colour` (R, G, B, A, each 0..255) inside, transparent outside. */
export function toImageData({ width, height, data }: Mask, colour: readonly number[] = [0, 114, 178, 140]): ImageData {
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < data.length; pixel++) if (data[pixel]) picture.data.set(colour, 4 * pixel);
  return picture;
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes: Bytes): number {
  let value = 0xffffffff;
  for (let index = 0; index < bytes.length; index++) value = CRC[(value ^ bytes[index]!) & 255]! ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function chunk(kind: string, content: Bytes): Bytes {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(content, 8);
  view.setUint32(content.length + 8, crc32(bytes.subarray(4, content.length + 8)));
  return bytes;
}

const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
const [GREY, RGBA] = [0, 6];

async function png(pixels: Bytes, { width, height }: Mask | Photo, colour: number, channels: number): Promise<Blob> {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, colour], 8);
  const row = channels * width;
  const lines = new Uint8Array(height * (row + 1)); // each line begins with its filter: 0, none
  for (let y = 0; y < height; y++) lines.set(pixels.subarray(y * row, (y + 1) * row), y * (row + 1) + 1);
  const packed = await new Response(
    new Blob([lines]).stream().pipeThrough(new CompressionStream("deflate")),
  ).arrayBuffer();
  const parts = [
    SIGNATURE,
    chunk("IHDR", header),
    chunk("IDAT", new Uint8Array(packed)),
    chunk("IEND", new Uint8Array()),
  ];
  return new Blob(parts, { type: "image/png" });
}

/** A PNG file of a mask: 255 inside, 0 outside. */
export function toPng(mask: Mask): Promise<Blob> {
  return png(
    mask.data.map((value) => (value ? 255 : 0)),
    mask,
    GREY,
    1,
  );
}

/**
 * A PNG file of what the mask shows of a photo; everything else is transparent.
 *
 * @throws UsageError - the photo has another size.
 */
export function toCutout(mask: Mask, photo: Photo): Promise<Blob> {
  if (photo.width !== mask.width || photo.height !== mask.height) {
    throw new UsageError(
      `a mask of ${mask.width}x${mask.height} pixels is not of the photo, which has ${photo.width}x${photo.height}`,
    );
  }
  const pixels = new Uint8Array(4 * mask.data.length);
  for (let pixel = 0; pixel < mask.data.length; pixel++) {
    if (!mask.data[pixel]) continue;
    pixels.set(photo.data.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
    pixels[4 * pixel + 3] = 255;
  }
  return png(pixels, mask, RGBA, 4);
}
