/** Files that the person takes away. */

import { readPhoto, toPng, type Mask, type Photo } from "@sam-edge/runtime";
import { PageError } from "../errors.ts";
import { bounds, toMask, union, type Bounds, type Runs } from "../masks/runs.ts";
import type { Layer } from "../photo/layers.ts";
import { stemOf, type Picture } from "../photo/picture.ts";
import { cocoJson, sa1bJson, svgText, type PhotoRecord } from "./records.ts";

export type Format = "cutout" | "mask" | "svg" | "coco" | "sa1b";

export const FORMATS: readonly { readonly format: Format; readonly title: string; readonly ending: string }[] = [
  { format: "cutout", title: "Cut-out PNG", ending: "_cutout.png" },
  { format: "mask", title: "Mask PNG", ending: "_mask.png" },
  { format: "svg", title: "SVG", ending: ".svg" },
  { format: "coco", title: "COCO JSON", ending: "_coco.json" },
  { format: "sa1b", title: "SA-1B JSON", ending: ".json" },
];

/** A file of the layers and its name. Throws `PageError` if there is no layer, or no pixel in them. */
export async function exported(
  format: Format,
  picture: Picture,
  layers: readonly Layer[],
): Promise<{ blob: Blob; name: string }> {
  if (layers.length === 0) throw new PageError("There is no mask yet: click on the photo");
  const record: PhotoRecord = { name: picture.source.name, width: picture.width, height: picture.height };
  const ending = FORMATS.find((each) => each.format === format)!.ending;
  const name = stemOf(picture.source.name) + ending;
  const all = (): Runs => union(layers.map(({ mask }) => mask));
  switch (format) {
    case "cutout":
      return { name, blob: await cutout(picture, all()) };
    case "mask":
      return { name, blob: await toPng(toMask(all())) };
    case "svg":
      return { name, blob: new Blob([svgText(record, layers)], { type: "image/svg+xml" }) };
    case "coco":
      return { name, blob: new Blob([cocoJson(record, layers)], { type: "application/json" }) };
    case "sa1b":
      return { name, blob: new Blob([sa1bJson(record, layers)], { type: "application/json" }) };
  }
}

/** The photo inside the mask, cropped to it, transparent around it. */
async function cutout(picture: Picture, mask: Runs): Promise<Blob> {
  const box = bounds(mask);
  if (box === null) throw new PageError("The mask is empty: add a point inside the object");
  const photo = await readPhoto(picture.source.file);
  const canvas = new OffscreenCanvas(box.x1 - box.x0, box.y1 - box.y0);
  const context = canvas.getContext("2d");
  if (context === null) throw new PageError("The cut-out is too large for this browser: cut out a smaller part");
  context.putImageData(new ImageData(cropped(photo, toMask(mask), box), canvas.width, canvas.height), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** RGBA of the box: the photo inside the mask, transparent outside. */
export function cropped(photo: Photo, mask: Mask, box: Bounds): Uint8ClampedArray<ArrayBuffer> {
  const [width, height] = [box.x1 - box.x0, box.y1 - box.y0];
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y + box.y0) * photo.width + x + box.x0;
      if (mask.data[from] !== 1) continue;
      const to = 4 * (y * width + x);
      pixels.set(photo.data.subarray(3 * from, 3 * from + 3), to);
      pixels[to + 3] = 255;
    }
  }
  return pixels;
}

/** Hands a file to the person. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
