/**
 * Segment Anything in the browser: a bundle of sam-edge and a photo in, masks out.
 *
 * On a page use `SamWorker`. `SamPredictor` has the same methods on the thread that calls it, in Node too.
 */

export type { Bytes, Decoded, Features, Floats, Mask, Photo, Size, Tensor } from "./arrays.ts";
export { AutomaticMaskGenerator, type GenerateOptions, type MaskRecord } from "./automatic/generator.ts";
export type { Grid } from "./automatic/grids.ts";
export { settingsFor, type AutomaticSettings } from "./automatic/settings.ts";
export { verify, type Check, type Verification } from "./agreement/verify.ts";
export { Bundle, type OpenOptions, type Progress } from "./bundle/bundle.ts";
export type { TextPart } from "./bundle/text.ts";
export type { Word } from "./bundle/vocabulary.ts";
export type { Conventions, FeatureMap } from "./bundle/conventions.ts";
export type { FileRecord, FrameGraphs, Manifest } from "./bundle/manifest.ts";
export type { BundleSource } from "./bundle/source.ts";
export { clearStore } from "./bundle/store.ts";
export type { GraphContract, TensorSpec } from "./bundle/tensors.ts";
export { Label } from "./contract.ts";
export type { Backend } from "./decoding.ts";
export type { EngineInfo, EngineName, EngineOptions } from "./engine/choice.ts";
export { BackendError, BundleError, PhotoError, PromptError, SamEdgeError, StateError, UsageError } from "./errors.ts";
export { toCutout, toImageData, toPng } from "./masks/pictures.ts";
export { toPolygons, toSvgPath, type Ring } from "./masks/polygons.ts";
export {
  fromRle,
  toRle,
  toUncompressedRle,
  type OutputMode,
  type Rle,
  type Segmentations,
  type UncompressedRle,
} from "./masks/rle.ts";
export { readPhoto, type PhotoSource } from "./photo/read.ts";
export { SamPredictor, type Prediction, type PredictOptions } from "./predictor.ts";
export type { Feed, Prompt } from "./prompts.ts";
export { SamWorker, type WorkerOptions } from "./worker/client.ts";
