/** Layers as documents: COCO's and SA-1B's JSON, and SVG. */

import { toSvgPath } from "@sam-edge/runtime";
import { area, bounds, toCoco, toMask, type Runs } from "../masks/runs.ts";
import { titleOf, type Layer } from "../photo/layers.ts";
import { stemOf } from "../photo/picture.ts";

export interface PhotoRecord {
  readonly name: string;
  readonly width: number;
  readonly height: number;
}

const IDS_A_PHOTO = 1 << 16;

/** x, y, width, height as COCO counts them: edges of pixels. */
function cocoBox(mask: Runs): [number, number, number, number] {
  const box = bounds(mask);
  return box === null ? [0, 0, 0, 0] : [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0];
}

/** x, y, width, height as SAM counts them: last column minus first column. */
function samBox(mask: Runs): [number, number, number, number] {
  const [x, y, width, height] = cocoBox(mask);
  return [x, y, Math.max(0, width - 1), Math.max(0, height - 1)];
}

/** The number of the photo: the digits at the end of its name, as in SA-1B; else 0. */
export function imageId(name: string): number {
  const found = /(\d{1,15})$/.exec(stemOf(name));
  return found === null ? 0 : Number(found[1]);
}

/** COCO's instances JSON; layers of one name are one category, and those without a name are "object". */
export function cocoJson(photo: PhotoRecord, layers: readonly Layer[]): string {
  const nameOf = ({ name }: Layer): string => (name === "" ? "object" : name);
  const names = [...new Set(layers.map(nameOf))];
  return JSON.stringify({
    images: [{ id: 1, file_name: photo.name, width: photo.width, height: photo.height }],
    categories: names.map((name, i) => ({ id: i + 1, name })),
    annotations: layers.map((layer, i) => ({
      id: i + 1,
      image_id: 1,
      category_id: names.indexOf(nameOf(layer)) + 1,
      segmentation: toCoco(layer.mask),
      area: area(layer.mask),
      bbox: cocoBox(layer.mask),
      iscrowd: 0,
    })),
  });
}

/** SA-1B's record of a photo. */
export function sa1bJson(photo: PhotoRecord, layers: readonly Layer[]): string {
  const image = imageId(photo.name);
  return JSON.stringify({
    image: {
      image_id: image,
      width: photo.width,
      height: photo.height,
      file_name: photo.name,
      orientation: "upright",
    },
    annotations: layers.map((layer, i) => ({
      segmentation: toCoco(layer.mask),
      area: area(layer.mask),
      bbox: samBox(layer.mask),
      predicted_iou: layer.predictedIou,
      point_coords: layer.points,
      stability_score: layer.stabilityScore,
      crop_box: [0, 0, photo.width, photo.height],
      ...(layer.name === "" ? {} : { sam_edge: { name: layer.name } }),
      id: image * IDS_A_PHOTO + i,
    })),
  });
}

/** An SVG of the photo's size with one path a layer; colours and names are those of the page. */
export function svgText(photo: PhotoRecord, layers: readonly Layer[]): string {
  const paths = layers.map(
    (layer) =>
      `  <path fill="${layer.colour}" fill-rule="evenodd" d="${toSvgPath(toMask(layer.mask))}">` +
      `<title>${escaped(titleOf(layer))}</title></path>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${photo.width} ${photo.height}" width="${photo.width}" height="${photo.height}">`,
    ...paths,
    "</svg>",
    "",
  ].join("\n");
}

/** Text for an XML element: markup becomes text, and what XML forbids becomes a space. */
export function escaped(text: string): string {
  return text
    .replace(/\p{C}/gu, " ")
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;");
}
