/** The mask in hand, and what is said of masks. */

import type { Answer, LowRes } from "../engine/engine.ts";
import { area, bounds, type Runs } from "../masks/runs.ts";
import type { Picture } from "./picture.ts";

/** The mask in hand as it is shown. */
export interface Current {
  readonly mask: Runs;
  readonly predictedIou: number;
  readonly lowRes: LowRes | null;
  /** Index among the candidates; -1 for a mask that is only painted. */
  readonly index: number;
}

export const CANDIDATE_NAMES = ["Whole", "Part", "Subpart"] as const;

/** A mask in words. */
export function describe(current: Current, answer: Answer, picture: Picture | null): string {
  const box = bounds(current.mask);
  if (box === null || picture === null) return "The mask is empty";
  const share = area(current.mask) / (picture.width * picture.height);
  const three = answer.candidates.length === 3;
  const name = three ? (CANDIDATE_NAMES[current.index] ?? "Mask") : "Mask";
  const place = three ? `, ${current.index + 1} of 3 masks` : "";
  const percent = share < 0.01 ? "less than 1" : Math.round(100 * share).toString();
  return (
    `${name}, predicted IoU ${current.predictedIou.toFixed(2)}, ${percent} percent of the photo, ` +
    `${box.x1 - box.x0} by ${box.y1 - box.y0} pixels${place}`
  );
}

/** "1 mask", "2 masks". */
export function counted(count: number, what: string): string {
  return count === 1 ? `1 ${what}` : `${count} ${what}s`;
}
