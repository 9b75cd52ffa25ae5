/**
 * COCO's run-length encoding of masks.
 *
 * A mask is read column by column and stored as the lengths of its runs, of zeros first. The compressed form is a string:
 * each length, from the fourth on minus the length two before, in groups of five bits, lowest first; a sixth bit marks
 * that more groups follow, the highest bit of the last is the sign, and 48 is added (cocoapi, common/maskApi.c).
 */

import type { Mask, Size } from "../arrays.ts";
import { OUTPUT_MODES } from "../contract.ts";
import { UsageError } from "../errors.ts";

/** A mask in COCO's uncompressed form: `size` is [height, width], `counts` the run lengths, zeros first. */
export interface UncompressedRle {
  readonly size: readonly [number, number];
  readonly counts: readonly number[];
}

/** A mask in COCO's compressed form; `counts` equals the string of pycocotools. */
export interface Rle {
  readonly size: readonly [number, number];
  readonly counts: string;
}

/** How masks are returned: as arrays of a byte a pixel, or as either form of RLE. */
export type OutputMode = (typeof OUTPUT_MODES)[number];

/** A mask in each form. */
export interface Segmentations {
  readonly binary_mask: Mask;
  readonly uncompressed_rle: UncompressedRle;
  readonly coco_rle: Rle;
}

const [GROUP_BITS, MORE, SIGN, FIRST_CHARACTER] = [5, 32, 16, 48];
const FIRST_DIFFERENCE = 3; // index of the first length that is stored as a difference
const MOST_GROUPS = 10; // 50 bits, which a number holds exactly
const LARGEST_MASK = 2 ** 28; // pixels

/** The run lengths of a mask, column by column, zeros first. */
export function runLengths({ width, height, data }: Mask): number[] {
  const lengths: number[] = [];
  let [value, length] = [0, 0];
  for (let x = 0; x < width; x++) {
    for (let y = 0, place = x; y < height; y++, place += width) {
      if ((data[place] ? 1 : 0) === value) length++;
      else {
        lengths.push(length);
        value = 1 - value;
        length = 1;
      }
    }
  }
  lengths.push(length);
  return lengths;
}

/** Run lengths from the pixels where a mask changes, ascending; before the first, all are zero. */
export function lengthsBetween(changes: readonly number[], pixels: number): number[] {
  const lengths = [...changes, pixels].map((change, index) => change - (index ? changes[index - 1]! : 0));
  if (lengths.length > 1 && !lengths.at(-1)) lengths.pop();
  return lengths;
}

/** Pixels inside a mask. */
export function areaOf(lengths: readonly number[]): number {
  let area = 0;
  for (let index = 1; index < lengths.length; index += 2) area += lengths[index]!;
  return area;
}

/** Run lengths to COCO's string. */
export function compress(lengths: readonly number[]): string {
  let text = "";
  lengths.forEach((length, index) => {
    let value = index < FIRST_DIFFERENCE ? length : length - lengths[index - 2]!;
    for (let more = true; more;) {
      const bits = ((value % MORE) + MORE) % MORE;
      value = Math.floor(value / MORE);
      more = bits & SIGN ? value !== -1 : value !== 0;
      text += String.fromCharCode(bits + (more ? MORE : 0) + FIRST_CHARACTER);
    }
  });
  return text;
}

/**
 * COCO's string to run lengths.
 *
 * @throws UsageError - a character that COCO does not use, a number that is too long, or one that is cut off.
 */
export function decompress(text: string): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < text.length;) {
    let [value, scale, more] = [0, 1, true];
    for (let group = 0; more; group++) {
      const code = text.charCodeAt(at++) - FIRST_CHARACTER;
      if (Number.isNaN(code)) throw new UsageError("the counts of an RLE end within a number; the string was cut off");
      if (code < 0 || code >= 2 * MORE || group >= MOST_GROUPS) {
        throw new UsageError("the counts of an RLE are damaged, or are not COCO's string");
      }
      value += (code % MORE) * scale;
      scale *= 2 ** GROUP_BITS;
      more = (code & MORE) !== 0;
      if (!more && code & SIGN) value -= scale;
    }
    lengths.push(lengths.length < FIRST_DIFFERENCE ? value : value + lengths.at(-2)!);
  }
  return lengths;
}

/**
 * Refuse an output mode that there is not.
 *
 * @throws UsageError - it is none of `OUTPUT_MODES`.
 */
export function checkOutputMode(mode: unknown): asserts mode is OutputMode {
  if (!(OUTPUT_MODES as readonly unknown[]).includes(mode)) {
    throw new UsageError(`outputMode '${String(mode)}' is not one of ${OUTPUT_MODES.join(", ")}`);
  }
}

/** Run lengths of a photo of `size` in the form that is wanted. */
export function segmentationOf<Mode extends OutputMode>(
  lengths: readonly number[],
  { height, width }: Size,
  mode: Mode,
): Segmentations[Mode];
export function segmentationOf(
  lengths: readonly number[],
  { height, width }: Size,
  mode: OutputMode,
): Segmentations[OutputMode] {
  const size = [height, width] as const;
  if (mode === "coco_rle") return { size, counts: compress(lengths) };
  const uncompressed = { size, counts: lengths };
  return mode === "uncompressed_rle" ? uncompressed : fromRle(uncompressed);
}

/** A mask to COCO's uncompressed form. */
export function toUncompressedRle(mask: Mask): UncompressedRle {
  return { size: [mask.height, mask.width], counts: runLengths(mask) };
}

/** A mask to COCO's compressed form. */
export function toRle(mask: Mask): Rle {
  return { size: [mask.height, mask.width], counts: compress(runLengths(mask)) };
}

/**
 * Either form of RLE to a mask.
 *
 * @throws UsageError - the counts are damaged or do not cover the size, or the mask is larger than any photo.
 */
export function fromRle({ size, counts }: Rle | UncompressedRle): Mask {
  const [height, width] = size;
  const pixels = height * width;
  if (!Number.isInteger(height) || !Number.isInteger(width) || height < 0 || width < 0 || pixels > LARGEST_MASK) {
    throw new UsageError(`an RLE has the size ${height}x${width}; give [height, width] of a photo`);
  }
  const lengths = typeof counts === "string" ? decompress(counts) : counts;
  const total = lengths.reduce((sum, length) => (Number.isInteger(length) && length >= 0 ? sum + length : NaN), 0);
  if (total !== pixels) {
    throw new UsageError(
      `the runs of an RLE cover ${total} pixels, and its size ${height}x${width} has ${pixels}: it is damaged or belongs ` +
        "to another photo",
    );
  }
  const data = new Uint8Array(pixels);
  let place = 0;
  lengths.forEach((length, index) => {
    if (index % 2 === 0) place += length;
    else {
      for (const end = place + length; place < end; place++) {
        data[(place % height) * width + Math.floor(place / height)] = 1;
      }
    }
  });
  return { width, height, data };
}
