/** Files that the person takes away. */

import { readPhoto, toCutout, toPng, type Mask, type Photo } from "@sam-edge/runtime";
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
  return toCutout(cropped(toMask(mask), 1, box), cropped(photo, 3, box));
}

/** The box of a picture with `channels` values a pixel. */
export function cropped({ width, data }: Mask | Photo, channels: number, box: Bounds): Mask & Photo {
  const row = channels * (box.x1 - box.x0);
  const pixels = new Uint8Array(row * (box.y1 - box.y0));
  for (let y = box.y0; y < box.y1; y++) {
    const from = channels * (y * width + box.x0);
    pixels.set(data.subarray(from, from + row), row * (y - box.y0));
  }
  return { width: box.x1 - box.x0, height: box.y1 - box.y0, data: pixels };
}

/** Hands a file to the person. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
