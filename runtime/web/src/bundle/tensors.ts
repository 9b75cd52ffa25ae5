/** The tensor contract of the two graphs for a bundle's sizes, from the templates of `contract.ts`. */

import type { Size } from "../arrays.ts";
import {
  DECODER,
  ENCODER,
  MASK_PROMPT_INPUTS,
  OBJECT_SCORE,
  TEXT_INPUTS,
  type GraphTemplate,
  type TensorTemplate,
} from "../contract.ts";
import type { Conventions, FeatureMap } from "./conventions.ts";

/** One input or output: a number for each fixed axis, a letter (B prompts, N slots) for each free one. */
export type TensorSpec = TensorTemplate;
export type GraphContract = GraphTemplate;

/** The sizes that the contract's letters stand for; null: any. */
export interface Sizes {
  readonly frame: Size;
  readonly channels: number;
  readonly prompts: number | null;
  readonly points: number | null;
}

/** Names that no further feature may have. */
export const INPUTS: ReadonlySet<string> = new Set(
  [...ENCODER.inputs, ...DECODER.inputs].map((template) => template.name),
);

const OF_MASK_PROMPTS: ReadonlySet<string> = new Set(MASK_PROMPT_INPUTS);
const OF_TEXT: ReadonlySet<string> = new Set(TEXT_INPUTS);

/** Size of the encoder's image for a frame. */
export function imageSize({ height, width }: Size, { imageStride }: Pick<Conventions, "imageStride">): Size {
  return { height: Math.floor(height / imageStride), width: Math.floor(width / imageStride) };
}

function axis(size: number | string, sizes: Sizes, { textChannels }: Conventions): number | string {
  if (typeof size === "number") return size;
  const [letter, stride = "1"] = size.split("/");
  const { frame, channels, prompts, points } = sizes;
  const known = { H: frame.height, W: frame.width, C: channels, B: prompts, N: points, D: textChannels };
  const value = known[letter as keyof typeof known];
  return value === null ? size : value / Number(stride);
}

function specs(templates: readonly TensorTemplate[], sizes: Sizes, conventions: Conventions): TensorSpec[] {
  return templates
    .filter(({ name }) => name !== OBJECT_SCORE || conventions.objectScore)
    .filter(({ name }) => !OF_MASK_PROMPTS.has(name) || conventions.maskPrompts)
    .filter(({ name }) => !OF_TEXT.has(name) || conventions.textChannels !== null)
    .map((each) => ({ ...each, shape: each.shape.map((size) => axis(size, sizes, conventions)) }));
}

function features(maps: readonly FeatureMap[], { height, width }: Size): TensorSpec[] {
  return maps.map(({ name, channels, stride }) => ({
    name,
    shape: [1, channels, Math.floor(height / stride), Math.floor(width / stride)],
    dtype: "float32",
  }));
}

function contractOf(template: GraphTemplate, sizes: Sizes, conventions: Conventions): GraphContract {
  const further = features(conventions.features, sizes.frame);
  const outputs = specs(template.outputs, sizes, conventions);
  if (template !== ENCODER) {
    return { inputs: [...specs(template.inputs, sizes, conventions), ...further], outputs };
  }
  const ofImage = { ...sizes, frame: imageSize(sizes.frame, conventions) };
  return { inputs: specs(template.inputs, ofImage, conventions), outputs: [...outputs, ...further] };
}

export function encoderContract(sizes: Sizes, conventions: Conventions): GraphContract {
  return contractOf(ENCODER, sizes, conventions);
}

export function decoderContract(sizes: Sizes, conventions: Conventions): GraphContract {
  return contractOf(DECODER, sizes, conventions);
}
