/** Measures of agreement between two masks or two tensors. */

import type { Bytes, Floats, Size } from "../arrays.ts";
import { BOUNDARY_SHARE, LARGEST_SNR } from "../contract.ts";

/** Intersection over union of two masks of one size; 1 when both are empty. */
export function maskIou(a: Bytes, b: Bytes): number {
  let [common, union] = [0, 0];
  for (let index = 0; index < a.length; index++) {
    if (a[index] && b[index]) common++;
    if (a[index] || b[index]) union++;
  }
  return union ? common / union : 1;
}

/** The pixels whose square of side `2 * width + 1` lies inside the mask and the picture. */
function eroded(mask: Bytes, size: Size, width: number): Bytes {
  return erodedAcross(erodedAcross(mask, size, width, 1), size, width, size.width);
}

/** Erosion along one axis; `step` is 1 across and the picture's width down. */
function erodedAcross(mask: Bytes, { height, width }: Size, reach: number, step: number): Bytes {
  const across = step === 1;
  const [lines, length] = across ? [height, width] : [width, height];
  const result = new Uint8Array(mask.length);
  for (let line = 0; line < lines; line++) {
    const start = across ? line * width : line;
    let run = 0;
    for (let index = 0; index < length; index++) {
      run = mask[start + index * step] ? run + 1 : 0;
      if (run > 2 * reach) result[start + (index - reach) * step] = 1;
    }
  }
  return result;
}

function innerRim(mask: Bytes, size: Size): Bytes {
  const width = Math.max(1, Math.round(BOUNDARY_SHARE * Math.hypot(size.height, size.width)));
  const inner = eroded(mask, size, width);
  return mask.map((value, index) => (value && !inner[index] ? 1 : 0));
}

/** Boundary IoU of two masks (arXiv 2103.16562): that of their inner rims, 2 % of the diagonal wide. */
export function boundaryIou(a: Bytes, b: Bytes, size: Size): number {
  return maskIou(innerRim(a, size), innerRim(b, size));
}

/** Signal-to-noise ratio in dB, -200..200: power of the reference over power of the difference. */
export function snrDb(reference: Floats, output: Floats): number {
  let [signal, noise] = [0, 0];
  for (let index = 0; index < reference.length; index++) {
    signal += reference[index]! ** 2;
    noise += (reference[index]! - output[index]!) ** 2;
  }
  if (noise === 0) return LARGEST_SNR;
  if (!Number.isFinite(noise) || signal === 0) return -LARGEST_SNR;
  return Math.min(LARGEST_SNR, 10 * Math.log10(signal / noise));
}
