/** One frame of the stage: photo, masks, prompts. */

import { differenceOf, rasterOf, SHOWN_SIDE, shownSize, type Colour } from "../masks/raster.ts";
import type { Runs } from "../masks/runs.ts";
import type { Picture } from "../photo/picture.ts";
import type { Box, Draft } from "../prompt/draft.ts";
import { kept, outlineOf, pathOf, tintedRaster, tints, type Shown } from "./paint.ts";
import { toScreen, type Size, type Spot, type View } from "./view.ts";

export const ACCENT: Colour = [47, 128, 255];
export const RIVAL: Colour = [240, 140, 0];
const BOTH: Colour = [120, 200, 140];
const POSITIVE = "#1a9b5f";
const NEGATIVE = "#d33a3a";
const TINT = 105;
const LAYER_TINT = 90;
const POINT_RADIUS = 6;
/** Screen pixels per photo pixel from which the photo's pixels are shown as squares. */
const SMOOTH_BELOW = 3;

/** The stroke under the pointer: screen points and the brush. */
export interface LiveStroke {
  readonly points: readonly Spot[];
  readonly radius: number;
  readonly erase: boolean;
}

export interface Scene {
  readonly view: View;
  readonly stage: Size;
  readonly picture: Picture;
  /** Masks that are kept, the largest first. */
  readonly masks: readonly Shown[];
  readonly selected: Runs | null;
  readonly hover: Runs | null;
  readonly current: Runs | null;
  readonly rival: Runs | null;
  readonly draft: Draft;
  readonly box: Box | null;
  readonly stroke: LiveStroke | null;
  /** Centre of the brush, in screen pixels. */
  readonly brush: { readonly at: Spot; readonly radius: number } | null;
  readonly cursor: Spot | null;
  readonly shown: boolean;
}

let layer: HTMLCanvasElement | null = null; // one, however often it is drawn anew
/** The photo as the stage shows it, at the screen's resolution: a large one takes longer to scale than a mask to compute. */
const photoLayer = kept((picture: Picture, view: View, stage: Size, ratio: number) => {
  const canvas = (layer ??= document.createElement("canvas"));
  canvas.width = Math.round(stage.width * ratio);
  canvas.height = Math.round(stage.height * ratio);
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = view.scale < SMOOTH_BELOW;
  context.drawImage(picture.bitmap, view.x, view.y, picture.width * view.scale, picture.height * view.scale);
  return canvas;
});
/** A mask that follows the pointer, with no more pixels than the screen shows. */
const hoverLayer = kept((mask: Runs, side: number) => {
  const raster = rasterOf(mask, side);
  return { tint: tintedRaster(raster, ACCENT, TINT), outline: pathOf(raster) };
});
const layerTints = kept((masks: readonly Shown[], picture: Picture) => tints(masks, picture, LAYER_TINT));
const currentTint = kept((mask: Runs) => tintedRaster(rasterOf(mask), ACCENT, TINT));
const difference = kept((a: Runs, b: Runs) => {
  const { both, onlyA, onlyB } = differenceOf(rasterOf(a), rasterOf(b));
  return [tintedRaster(both, BOTH, 80), tintedRaster(onlyA, ACCENT, 170), tintedRaster(onlyB, RIVAL, 170)];
});

export function draw(context: CanvasRenderingContext2D, ratio: number, scene: Scene): void {
  const { view, stage, picture } = scene;
  const photo = photoLayer(picture, view, stage, ratio);
  if (photo.width === 0 || photo.height === 0) return; // a stage that is not laid out yet
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "copy"; // replaces everything that was there
  context.drawImage(photo, 0, 0);
  context.globalCompositeOperation = "source-over";
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = view.scale < SMOOTH_BELOW;
  if (scene.shown) drawMasks(context, scene, ratio);
  if (scene.stroke !== null) drawStroke(context, scene.stroke);
  if (scene.box !== null) drawBox(context, view, scene.box, true);
  drawPrompt(context, view, scene.draft);
  if (scene.brush !== null) drawBrush(context, scene.brush.at, scene.brush.radius);
  if (scene.cursor !== null) drawCursor(context, toScreen(view, scene.cursor));
}

function drawMasks(context: CanvasRenderingContext2D, scene: Scene, ratio: number): void {
  const { view, picture, masks, current, rival, hover, selected } = scene;
  const [width, height] = [picture.width * view.scale, picture.height * view.scale];
  const paste = (canvas: HTMLCanvasElement): void => context.drawImage(canvas, view.x, view.y, width, height);
  if (masks.length > 0) {
    paste(layerTints(masks, picture));
    for (const { mask, colour } of masks) drawOutline(context, scene, outlineOf(mask), colour, mask === selected);
  }
  if (current !== null && rival !== null) difference(current, rival).forEach(paste);
  else if (current !== null) paste(currentTint(current));
  if (current !== null) drawOutline(context, scene, outlineOf(current), ACCENT, true);
  if (rival !== null) drawOutline(context, scene, outlineOf(rival), RIVAL, false);
  if (hover !== null && current === null) {
    const side = Math.min(SHOWN_SIDE, Math.ceil(Math.max(width, height) * ratio));
    const { tint, outline } = hoverLayer(hover, side);
    context.globalAlpha = 0.8;
    paste(tint);
    drawOutline(context, scene, outline, ACCENT, false, side);
    context.globalAlpha = 1;
  }
}

function drawOutline(
  context: CanvasRenderingContext2D,
  scene: Scene,
  outline: Path2D,
  colour: Colour,
  strong: boolean,
  side = SHOWN_SIDE,
): void {
  const { view, picture } = scene;
  const scale = (picture.width * view.scale) / shownSize(picture.width, picture.height, side).width;
  context.save();
  context.translate(view.x, view.y);
  context.scale(scale, scale);
  context.lineCap = "square";
  if (strong) {
    context.strokeStyle = "#ffffff";
    context.lineWidth = 3.5 / scale;
    context.stroke(outline);
  }
  context.strokeStyle = `rgb(${colour.join(" ")})`;
  context.lineWidth = 1.5 / scale;
  context.stroke(outline);
  context.restore();
}

function drawStroke(context: CanvasRenderingContext2D, { points, radius, erase }: LiveStroke): void {
  const [first] = points;
  if (first === undefined) return;
  context.save();
  context.globalAlpha = 0.45;
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * radius;
  context.strokeStyle = erase ? "#ffffff" : `rgb(${ACCENT.join(" ")})`;
  context.beginPath();
  context.moveTo(first.x, first.y);
  for (const { x, y } of points) context.lineTo(x, y);
  context.stroke();
  context.restore();
}

function drawPrompt(context: CanvasRenderingContext2D, view: View, draft: Draft): void {
  const prompt = draft.prompt;
  if (prompt === null) return;
  if (prompt.box !== null) drawBox(context, view, prompt.box, false);
  for (const point of prompt.points) {
    const { x, y } = toScreen(view, point);
    context.beginPath();
    context.arc(x, y, POINT_RADIUS, 0, 2 * Math.PI);
    context.fillStyle = point.label === 1 ? POSITIVE : NEGATIVE;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#ffffff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3, y);
    context.lineTo(x + 3, y);
    if (point.label === 1) {
      context.moveTo(x, y - 3);
      context.lineTo(x, y + 3);
    }
    context.lineWidth = 1.5;
    context.stroke();
  }
}

function drawBox(context: CanvasRenderingContext2D, view: View, box: Box, live: boolean): void {
  const from = toScreen(view, { x: box.x0, y: box.y0 });
  const to = toScreen(view, { x: box.x1, y: box.y1 });
  context.save();
  context.lineWidth = 3.5;
  context.strokeStyle = "#ffffff";
  context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  context.lineWidth = 1.5;
  context.strokeStyle = POSITIVE;
  if (live) context.setLineDash([6, 4]);
  context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  context.restore();
}

function drawBrush(context: CanvasRenderingContext2D, at: Spot, radius: number): void {
  for (const [colour, width] of [
    ["#ffffff", 3],
    ["#222222", 1],
  ] as const) {
    context.beginPath();
    context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}

function drawCursor(context: CanvasRenderingContext2D, { x, y }: Spot): void {
  for (const [colour, width] of [
    ["#ffffff", 4],
    ["#111111", 1.5],
  ] as const) {
    context.beginPath();
    context.moveTo(x - 16, y);
    context.lineTo(x - 4, y);
    context.moveTo(x + 4, y);
    context.lineTo(x + 16, y);
    context.moveTo(x, y - 16);
    context.lineTo(x, y - 4);
    context.moveTo(x, y + 4);
    context.lineTo(x, y + 16);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}
