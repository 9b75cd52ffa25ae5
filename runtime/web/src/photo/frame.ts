/**
 * The geometry between a photo and the frame: the H x W pixels that the encoder takes.
 *
 * The photo is resized to fit and padded at the bottom and right with the pixel mean; for models that want it (SAM 2,
 * EfficientSAM) it is stretched to the whole frame. Of several frames a photo goes into the one that it wastes least of. Rounding, filter
 * and scaling are those of the Python runtime.
 */

import type { Photo, Size, Tensor } from "../arrays.ts";
import { SAM, type Conventions } from "../bundle/conventions.ts";
import type { FrameGraphs, Manifest } from "../bundle/manifest.ts";
import { imageSize } from "../bundle/tensors.ts";
import { MASK_STRIDE, PIXEL_MEAN } from "../contract.ts";
import { PhotoError } from "../errors.ts";
import { pixelsOf, type Pixels } from "./pixels.ts";
import { resize, resizeAliased, resizeFloat } from "./resample.ts";

/** One axis of the geometry, in pixels; `resized` is null where the photo is stretched to the whole frame. */
export interface Axis {
  readonly size: number;
  readonly resized: number | null;
  readonly original: number;
  /** Whether masks are resized bicubically; only where the photo is stretched. */
  readonly bicubic: boolean;
}

/** How a photo lies in a frame. */
export class Frame {
  readonly size: Size;
  readonly original: Size;
  /** Of the model's family. */
  readonly conventions: Conventions;
  /** Of the photo in the frame, in pixels. */
  readonly resized: Size;

  /** @throws PhotoError - the photo has no pixels, or is so narrow that its short side would have none in the frame. */
  constructor(size: Size, original: Size, conventions: Conventions = SAM) {
    this.size = size;
    this.original = original;
    this.conventions = conventions;
    const { width, height } = original;
    if (height < 1 || width < 1) {
      throw new PhotoError(`a photo of ${width}x${height} pixels is empty; use one with at least one pixel`);
    }
    this.resized = conventions.stretched ? size : fitted(size, original);
    if (Math.min(this.resized.width, this.resized.height) < 1) {
      throw new PhotoError(
        `a photo of ${width}x${height} pixels is too narrow: resized to a longest side of ` +
          `${Math.max(size.width, size.height)}, its short side has no pixel; crop it to a squarer part`,
      );
    }
  }

  /** Share of the frame that is padding, 0..1. */
  get waste(): number {
    return 1 - (this.resized.height * this.resized.width) / (this.size.height * this.size.width);
  }

  /** Rows and columns of a low-resolution mask. */
  get cells(): Size {
    return {
      height: Math.floor(this.size.height / MASK_STRIDE),
      width: Math.floor(this.size.width / MASK_STRIDE),
    };
  }

  get down(): Axis {
    return this.#axis("height");
  }

  get across(): Axis {
    return this.#axis("width");
  }

  #axis(side: keyof Size): Axis {
    const { stretched, bicubicMasks } = this.conventions;
    return {
      size: this.size[side],
      resized: stretched ? null : this.resized[side],
      original: this.original[side],
      bicubic: stretched && bicubicMasks,
    };
  }

  /**
   * The encoder's input `(1, 3, H, W)`: RGB in 0..255, not normalized; H and W are the frame's, or half of them where
   * the model takes photos so.
   */
  image(source: Photo | Pixels): Tensor {
    const { stretched, antialiased, imageStride } = this.conventions;
    if (imageStride > 1) {
      const whole = { ...this.conventions, imageStride: 1 };
      return new Frame(imageSize(this.size, this.conventions), this.original, whole).image(source);
    }
    const photo = "rows" in source ? source : pixelsOf(source);
    const { width, height } = this.size;
    const shape = [1, 3, height, width];
    if (stretched) return { data: (antialiased ? resizeFloat : resizeAliased)(photo, this.size), shape };
    const small = resize(photo, this.resized);
    const data = new Float32Array(3 * height * width);
    for (let channel = 0; channel < 3; channel++) {
      const plane = data.subarray(channel * height * width, (channel + 1) * height * width).fill(PIXEL_MEAN[channel]!);
      for (let y = 0; y < small.height; y++) {
        const [to, from] = [y * width, 3 * y * small.width + channel];
        for (let x = 0; x < small.width; x++) plane[to + x] = small.data[from + 3 * x]!;
      }
    }
    return { data, shape };
  }

  /** A position in pixels of the photo, in pixels of the frame, rounded to float32 as the Python runtime rounds it. */
  toFrame([x, y]: readonly [number, number]): [number, number] {
    const scaled = (value: number, from: number, to: number): number =>
      this.conventions.stretched
        ? Math.fround(Math.fround(Math.fround(value) / Math.fround(from)) * to)
        : Math.fround(value * (to / from));
    return [scaled(x, this.original.width, this.resized.width), scaled(y, this.original.height, this.resized.height)];
  }
}

/** The photo's size in the frame: one side is the frame's, the other is rounded half up. */
function fitted(frame: Size, { height, width }: Size): Size {
  const scale = frame.height * width <= frame.width * height ? frame.height / height : frame.width / width;
  return { height: Math.floor(height * scale + 0.5), width: Math.floor(width * scale + 0.5) };
}

/** A frame of a bundle, and how a photo lies in it. */
export interface Placed {
  readonly frame: Frame;
  readonly graphs: FrameGraphs;
}

/**
 * How a photo lies in the frame that it wastes least of; of equals the one with the larger scale, then the first.
 *
 * @throws PhotoError - the photo is empty, or too narrow for a frame.
 */
export function fittingFrame(manifest: Pick<Manifest, "frames" | "conventions">, original: Size): Placed {
  const placed = manifest.frames.map((graphs) => ({
    graphs,
    frame: new Frame(graphs.frame, original, manifest.conventions),
  }));
  const longest = ({ frame }: Placed): number => Math.max(frame.resized.height, frame.resized.width);
  return placed.reduce((best, each) => {
    const less = each.frame.waste - best.frame.waste;
    return less < 0 || (less === 0 && longest(each) > longest(best)) ? each : best;
  });
}
