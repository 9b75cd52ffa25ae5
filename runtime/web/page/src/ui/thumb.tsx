/** A small picture of a mask on its photo, cropped to where it matters. */

import { useEffect, useRef } from "preact/hooks";
import { bounds, type Bounds, type Runs } from "../masks/runs.ts";
import { rasterOf, shownSize, type Colour } from "../masks/raster.ts";
import type { Picture } from "../photo/picture.ts";
import { tintedRaster } from "../stage/paint.ts";
import { cropOf } from "./crop.ts";

export interface ThumbProps {
  readonly picture: Picture;
  readonly mask: Runs;
  /** Part of the photo to show; the mask's own surroundings if it is null. */
  readonly around: Bounds | null;
  readonly colour: Colour;
  readonly width: number;
  readonly height: number;
}

/** Longer side of the masks that thumbnails are made of. */
const DETAIL = 400;

export function Thumb({ picture, mask, around, colour, width, height }: ThumbProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (picture.bitmap.width === 0) return; // closed: another photo is on its way
    const context = canvas.current!.getContext("2d")!;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    const area = cropOf(around ?? bounds(mask), picture, width / height);
    const onBitmap = picture.bitmap.width / picture.width;
    const size = shownSize(mask.width, mask.height, DETAIL);
    const onMask = size.width / mask.width;
    const paste = (image: CanvasImageSource, scale: number): void =>
      context.drawImage(
        image,
        area.x * scale,
        area.y * scale,
        area.width * scale,
        area.height * scale,
        0,
        0,
        width,
        height,
      );
    paste(picture.bitmap, onBitmap);
    paste(tintedRaster(rasterOf(mask, DETAIL), colour, 150), onMask);
  }, [picture, mask, around, colour, width, height]);
  return <canvas ref={canvas} class="thumb" width={width} height={height} aria-hidden="true" />;
}
