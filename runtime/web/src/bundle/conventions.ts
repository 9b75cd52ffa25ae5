/** What a family of models does differently from SAM 1, as the manifest says it. */

import {
  DEFAULT_CONVENTIONS,
  FEATURE_STRIDES,
  IMAGE_STRIDES,
  LARGEST_FEATURE_CHANNELS,
  LARGEST_TEXT,
  MOST_FEATURES,
  MOST_SLOTS,
} from "../contract.ts";
import type { Fields } from "./fields.ts";
import { INPUTS } from "./tensors.ts";

/** A map that the encoder returns beside the embedding: `(1, channels, H/stride, W/stride)`. */
export interface FeatureMap {
  readonly name: string;
  readonly channels: number;
  readonly stride: number;
}

/** How a family takes photos and returns masks; the fields are those of the Python runtime's `Conventions`. */
export interface Conventions {
  readonly features: readonly FeatureMap[];
  /** Whether a photo is resized to the whole frame and loses its aspect ratio; else padding fills the frame. */
  readonly stretched: boolean;
  /** Whether the decoder returns a logit that is above 0 where the prompt has an object. */
  readonly objectScore: boolean;
  readonly boundedIou: boolean;
  /** Whether a single mask is output 0 only where it is stable, else the best of 1, 2, 3. */
  readonly stabilityFallback: boolean;
  /** Whether three masks are never returned, but the best of them. */
  readonly bestOnly: boolean;
  readonly hqTokenOnly: boolean;
  /** Low-resolution logits are returned within this distance of 0; null: unlimited. */
  readonly logitLimit: number | null;
  /** Whether photos are resized with antialiasing; only photos that are stretched can be without. */
  readonly antialiased: boolean;
  /** Whether masks are resized to the photo bicubically, else bilinearly. Automatic masks always are bilinearly. */
  readonly bicubicMasks: boolean;
  /** Whether the decoder knows points outside the object, label 0. */
  readonly backgroundPoints: boolean;
  /** Whether the decoder takes mask prompts; else it lacks the inputs for them. */
  readonly maskPrompts: boolean;
  /** Slots that each prompt has, in use or not; null: any number, and those not in use have no effect. */
  readonly slots: number | null;
  /** Frame pixels per pixel of the encoder's image: with 2, photos are resized and padded to half of the frame. */
  readonly imageStride: number;
  /** Numbers of a text embedding, where the decoder takes one; null: it takes no text. */
  readonly textChannels: number | null;
}

/** Those of SAM 1, which its bundles do not name. */
export const SAM: Conventions = DEFAULT_CONVENTIONS;

/** The conventions in a manifest's section; a `BundleError` where a field is missing or of the wrong type. */
export function readConventions(fields: Fields): Conventions {
  const features = fields.sections("features", MOST_FEATURES).map((each) => ({
    name: each.identifier("name"),
    channels: each.integer("channels", 1, LARGEST_FEATURE_CHANNELS),
    stride: each.choice("stride", FEATURE_STRIDES),
  }));
  const names = features.map((each) => each.name);
  if (new Set([...names, ...INPUTS]).size < names.length + INPUTS.size) {
    throw fields.error("features", "names that no other tensor has are expected");
  }
  return {
    features,
    stretched: fields.flag("stretched"),
    objectScore: fields.flag("object_score"),
    boundedIou: fields.flag("bounded_iou"),
    stabilityFallback: fields.flag("stability_fallback"),
    bestOnly: fields.flag("best_only"),
    hqTokenOnly: fields.flag("hq_token_only"),
    logitLimit: fields.optionalPositive("logit_limit"),
    antialiased: fields.flag("antialiased", SAM.antialiased),
    bicubicMasks: fields.flag("bicubic_masks", SAM.bicubicMasks),
    backgroundPoints: fields.flag("background_points", SAM.backgroundPoints),
    maskPrompts: fields.flag("mask_prompts", SAM.maskPrompts),
    slots: fields.optionalInteger("slots", MOST_SLOTS),
    imageStride: fields.members.has("image_stride") ? fields.choice("image_stride", IMAGE_STRIDES) : SAM.imageStride,
    textChannels: fields.optionalInteger("text_channels", LARGEST_TEXT),
  } satisfies Record<keyof typeof DEFAULT_CONVENTIONS, unknown>; // a field that Python adds does not compile without
}
