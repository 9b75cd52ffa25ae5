/** Decodes any number of prompts on one photo, in as many calls as the decoder's capacity requires; chooses masks. */

import type { Decoded, Features, Floats, Size, Tensor } from "./arrays.ts";
import type { Conventions } from "./bundle/conventions.ts";
import type { Manifest } from "./bundle/manifest.ts";
import { FIRST_MULTIMASK, LEAST_STABILITY, MASK_OUTPUTS, SINGLE_OUTPUT, STABILITY_OFFSET } from "./contract.ts";
import { BackendError } from "./errors.ts";
import type { Frame } from "./photo/frame.ts";
import { feeds, type Feed, type Slots } from "./prompts.ts";

/** The two graphs as functions; an engine is one. */
export interface Backend {
  /** The features of a photo, whose `image` is `(1, 3, H, W)` RGB in 0..255, not normalized. */
  encode(image: Tensor): Promise<Features>;
  /** The masks for the prompts of one call, on a photo in a frame of that size. */
  decode(features: Features, feed: Feed, frame: Size): Promise<Decoded>;
}

/** A mask that a user gets of the four, with its logits of the frame. */
export interface Chosen {
  /** `H/4 x W/4` logits. */
  readonly lowRes: Floats;
  readonly iou: number;
}

/** What is chosen for one prompt. */
export interface Choice {
  readonly masks: readonly Chosen[];
  /** Logit, above 0 where the prompt has an object; null where the model has none. */
  readonly objectScore: number | null;
}

/**
 * Refuse outputs of a network that no mask can be made of.
 *
 * @throws BackendError - NaN or infinity is among them.
 */
export function requireFinite(what: string, values: Floats): void {
  for (let index = 0; index < values.length; index++) {
    if (!Number.isFinite(values[index])) {
      throw new BackendError(
        `${what} contain NaN or infinity: this bundle is broken on this engine; try { engine: "wasm" }, or a bundle ` +
          "exported with --precision fp32",
      );
    }
  }
}

/** Low-resolution logits as a user gets them, and as mask prompts take them. */
export function limited(lowRes: Floats, { logitLimit }: Conventions): Floats {
  return logitLimit === null ? lowRes : lowRes.map((logit) => Math.min(Math.max(logit, -logitLimit), logitLimit));
}

/**
 * All four masks of every prompt.
 *
 * @throws PromptError - a prompt needs more slots than the decoder has.
 * @throws BackendError - the engine failed, or its outputs are not finite.
 */
export async function decodePrompts(
  backend: Backend,
  manifest: Pick<Manifest, "prompts" | "points">,
  features: Features,
  prompts: readonly Slots[],
  frame: Frame,
): Promise<Decoded> {
  const cells = frame.cells.height * frame.cells.width;
  const lowRes = new Float32Array(prompts.length * MASK_OUTPUTS * cells);
  const iou = new Float32Array(prompts.length * MASK_OUTPUTS);
  let scores: Floats | null = null;
  let done = 0;
  for (const feed of feeds(prompts, manifest, frame)) {
    const decoded = await backend.decode(features, feed, frame.size);
    lowRes.set(decoded.lowRes.subarray(0, feed.count * MASK_OUTPUTS * cells), done * MASK_OUTPUTS * cells);
    iou.set(decoded.iou.subarray(0, feed.count * MASK_OUTPUTS), done * MASK_OUTPUTS);
    if (decoded.objectScores) {
      scores ??= new Float32Array(prompts.length);
      scores.set(decoded.objectScores.subarray(0, feed.count), done);
    }
    done += feed.count;
  }
  requireFinite("the masks", lowRes);
  requireFinite("the IoU predictions", iou);
  if (scores) requireFinite("the object scores", scores);
  return { lowRes, iou, objectScores: scores };
}

/**
 * The masks that a user gets of the four, for each prompt.
 *
 * With `multimask` outputs 1, 2 and 3, or only the best of them (`bestOnly`, or where the family has that convention);
 * else output 0, or the best of the others where output 0 is not stable. The best has the highest IoU prediction.
 */
export function selectMasks(
  decoded: Decoded,
  conventions: Conventions,
  multimask: boolean,
  bestOnly = conventions.bestOnly,
): Choice[] {
  const prompts = decoded.iou.length / MASK_OUTPUTS;
  const cells = decoded.lowRes.length / decoded.iou.length;
  return Array.from({ length: prompts }, (_, row) => {
    const output = (index: number): Chosen => {
      const place = row * MASK_OUTPUTS + index;
      return { lowRes: decoded.lowRes.slice(place * cells, (place + 1) * cells), iou: decoded.iou[place]! };
    };
    const all = Array.from({ length: MASK_OUTPUTS }, (_, index) => output(index));
    return {
      masks: choose(all, { ...conventions, bestOnly }, multimask),
      objectScore: decoded.objectScores ? decoded.objectScores[row]! : null,
    };
  });
}

function choose(all: readonly Chosen[], conventions: Conventions, multimask: boolean): Chosen[] {
  const several = all.slice(FIRST_MULTIMASK);
  const best = several.reduce((one, other) => (other.iou > one.iou ? other : one));
  if (multimask) return conventions.bestOnly ? [best] : several;
  const single = all[SINGLE_OUTPUT]!;
  return [conventions.stabilityFallback && stability(single.lowRes) < Math.fround(LEAST_STABILITY) ? best : single];
}

/** How stable a mask is, from 0 to 1, in float32 as the Python runtime compares it; 1 for an empty one. */
function stability(logits: Floats): number {
  let [higher, lower] = [0, 0];
  const offset = Math.fround(STABILITY_OFFSET);
  for (let index = 0; index < logits.length; index++) {
    if (logits[index]! > offset) higher++;
    if (logits[index]! > -offset) lower++;
  }
  return lower ? Math.fround(higher / lower) : 1;
}
