/** `SamPredictor`: encodes a photo once and answers any number of prompts on it, as the Python runtime does. */

import type { Features, Floats, Size } from "./arrays.ts";
import { MaskStatistics } from "./automatic/statistics.ts";
import { Bundle, type OpenOptions } from "./bundle/bundle.ts";
import type { BundleSource } from "./bundle/source.ts";
import type { Word } from "./bundle/vocabulary.ts";
import { decodePrompts, limited, requireFinite, selectMasks } from "./decoding.ts";
import type { EngineInfo, EngineOptions } from "./engine/choice.ts";
import { Engine } from "./engine/engine.ts";
import { MASK_THRESHOLD, VOCABULARY } from "./contract.ts";
import { StateError, UsageError } from "./errors.ts";
import { checkOutputMode, runLengths, segmentationOf, type OutputMode, type Segmentations } from "./masks/rle.ts";
import { fittingFrame, Frame, type Placed } from "./photo/frame.ts";
import { usePhoto, type PhotoSource } from "./photo/read.ts";
import { upscale, upscaleBinary } from "./photo/upscale.ts";
import { arrange, type Prompt } from "./prompts.ts";

export interface PredictOptions<Mode extends OutputMode = OutputMode> {
  /** Whether to return three masks (whole, part, subpart; the default), for an ambiguous prompt such as one click. */
  readonly multimaskOutput?: boolean | undefined;
  /** Whether to return only the best of the three, as a preview shows it: no mask is made of the others. */
  readonly bestOnly?: boolean | undefined;
  /** Whether to return the logits at the photo's size, too. */
  readonly returnLogits?: boolean | undefined;
  /**
   * The form of the masks: arrays of a byte a pixel (`binary_mask`, the default), or COCO's run lengths, which are made
   * without such an array and take a few kilobytes where a photo of 12 megapixels has 12 MB for each mask.
   */
  readonly outputMode?: Mode | undefined;
}

/** The masks for one prompt. */
export interface Prediction<Mode extends OutputMode = "binary_mask"> {
  /** At the photo's size: three with `multimaskOutput` (SAM-HQ and `bestOnly`: the best of them), else one. */
  readonly masks: readonly Segmentations[Mode][];
  /** The model's estimate of each mask's IoU. */
  readonly scores: readonly number[];
  /** For each mask the `H/4 x W/4` logits of the frame, for `maskInput` of a later prompt. */
  readonly lowRes: readonly Floats[];
  /** Rows and columns of `lowRes`. */
  readonly lowResSize: Size;
  /** A logit, above 0 where the prompt has an object; null for models without one. */
  readonly objectScore: number | null;
  /** With `returnLogits`, for each mask its logits at the photo's size, row by row. */
  readonly logits?: readonly Floats[];
}

interface Encoded extends Placed {
  readonly features: Features;
}

/**
 * Encodes a photo once and answers any number of prompts on it.
 *
 *     const predictor = await SamPredictor.open("/nano/");
 *     await predictor.setImage(file);
 *     const { masks, scores } = await predictor.predict({ pointCoords: [[500, 375]], pointLabels: [1] });
 *
 * It computes on the thread that calls it: on a page use `SamWorker`, which has the same methods.
 */
export class SamPredictor {
  readonly bundle: Bundle;
  readonly #engine: Engine;
  #current: Encoded | null = null;

  private constructor(bundle: Bundle, engine: Engine) {
    this.bundle = bundle;
    this.#engine = engine;
  }

  /**
   * A predictor for an opened bundle.
   *
   * @throws BackendError - the engine is missing, or rejects a graph.
   * @throws BundleError - a graph breaks the manifest's contract.
   */
  static async create(bundle: Bundle, options: EngineOptions = {}): Promise<SamPredictor> {
    return new SamPredictor(bundle, await Engine.start(bundle, options));
  }

  /** Open a bundle and make a predictor for it; see `Bundle.open` and `create`. */
  static async open(from: BundleSource, options: OpenOptions & EngineOptions = {}): Promise<SamPredictor> {
    let chosen: ReturnType<typeof Engine.choose> | undefined;
    const bundle = await Bundle.open(from, {
      ...options,
      onManifest: (manifest) => {
        options.onManifest?.(manifest);
        chosen = Engine.choose(manifest, options);
        chosen.catch(() => undefined); // told by `start`, unless the bundle is refused before
      },
    });
    return new SamPredictor(bundle, await Engine.start(bundle, options, chosen));
  }

  /** Which engine computes, with how many threads, and why. */
  get engine(): EngineInfo {
    return this.#engine.info;
  }

  /** Runs the graphs; for `AutomaticMaskGenerator` and `verify`. */
  get backend(): Engine {
    return this.#engine;
  }

  /** The words that the bundle knows, for `text` of a prompt; none where it takes no words. */
  get words(): readonly Word[] {
    return this.bundle.manifest.text?.kind === VOCABULARY ? this.bundle.vocabulary.words : [];
  }

  get isImageSet(): boolean {
    return this.#current !== null;
  }

  /** Of the photo, in pixels. */
  get originalSize(): Size {
    return this.#image("originalSize").frame.original;
  }

  /**
   * Encode a photo; later prompts refer to it. After an error the previous photo is still set.
   *
   * @throws PhotoError - it cannot be decoded, is empty, too large, or too narrow.
   * @throws BackendError - the engine failed.
   */
  async setImage(source: PhotoSource): Promise<void> {
    const { placed, image } = await usePhoto(source, (photo) => {
      const placed = fittingFrame(this.bundle.manifest, photo);
      return { placed, image: placed.frame.image(photo) };
    });
    const features = await this.#engine.encode(image);
    features.forEach((each, index) => {
      requireFinite(index ? "the features of the photo" : "the embeddings of the photo", each.data);
    });
    this.#current = { ...placed, features };
  }

  /**
   * Compute once on nothing. A browser compiles an engine's code while it first runs, which takes several times longer: a
   * page that has no photo yet spends that time before its user waits.
   */
  async warmUp(): Promise<void> {
    const { manifest } = this.bundle;
    const { frame: size, encoderContract } = manifest.frames[0]!;
    const frame = new Frame(size, size, manifest.conventions);
    const shape = encoderContract.inputs[0]!.shape as readonly number[];
    const data = new Float32Array(shape.reduce((product, each) => product * each, 1));
    const features = await this.#engine.encode({ data, shape });
    await decodePrompts(this.#engine, manifest, features, [arrange({}, frame)], frame);
  }

  /** Forget the photo. */
  resetImage(): void {
    this.#current = null;
  }

  /**
   * Copies of all that the encoder made of the photo: the embedding, then the family's further features.
   *
   * @throws StateError - no photo is set.
   */
  getImageFeatures(): Features {
    return this.#image("getImageFeatures").features.map(({ data, shape }) => ({ data: data.slice(), shape }));
  }

  /**
   * Set a photo by what `getImageFeatures` returned, without encoding it again.
   *
   * @throws UsageError - the arrays are not those of this bundle and a photo of that size.
   */
  setImageFeatures(features: Features, original: Size): void {
    const placed = fittingFrame(this.bundle.manifest, original);
    const specs = placed.graphs.encoderContract.outputs;
    const fits =
      features.length === specs.length &&
      specs.every((spec, index) => spec.shape.join() === features[index]!.shape.join());
    if (!fits) {
      const given = features.map(({ shape }) => `(${shape.join(", ")})`).join(", ");
      throw new UsageError(
        `features of the shapes ${given} are given, and this bundle's are ${specs.map(({ shape }) => `(${shape.join(", ")})`).join(", ")}: ` +
          "give what getImageFeatures returned, and the photo's size",
      );
    }
    for (const { data } of features) {
      if (!data.every(Number.isFinite))
        throw new UsageError("features hold values that are not finite; encode the photo again");
    }
    this.#current = { ...placed, features: features.map(({ data, shape }) => ({ data: data.slice(), shape })) };
  }

  /**
   * Masks for one prompt.
   *
   * @throws StateError - no photo is set.
   * @throws PromptError - the prompt is malformed, lies outside the photo, exceeds the decoder's capacity, or is of a
   *   kind that the model's family does not know.
   * @throws UsageError - there is no such output mode.
   * @throws BackendError - the engine failed.
   */
  async predict<Mode extends OutputMode = "binary_mask">(
    prompt: Prompt,
    options: PredictOptions<Mode> = {},
  ): Promise<Prediction<Mode>> {
    const [prediction] = await this.predictBatch([prompt], options);
    return prediction!;
  }

  /** Masks for many prompts on the photo, in as few calls of the decoder as its capacity allows; see `predict`. */
  async predictBatch<Mode extends OutputMode = "binary_mask">(
    prompts: readonly Prompt[],
    options: PredictOptions<Mode> = {},
  ): Promise<Prediction<Mode>[]> {
    const image = this.#image("predict");
    const { multimaskOutput = true, bestOnly, returnLogits = false, outputMode = "binary_mask" as Mode } = options;
    checkOutputMode(outputMode);
    const slots = prompts.map((prompt) => arrange(prompt, image.frame, (word) => this.bundle.vocabulary.vector(word)));
    const { manifest } = this.bundle;
    const decoded = await decodePrompts(this.#engine, manifest, image.features, slots, image.frame);
    const maskOf = maskMaker(image.frame, outputMode);
    const best = bestOnly === true || manifest.conventions.bestOnly;
    return selectMasks(decoded, manifest.conventions, multimaskOutput, best).map(({ masks, objectScore }) => ({
      masks: masks.map(({ lowRes }) => maskOf(lowRes)),
      scores: masks.map(({ iou }) => iou),
      lowRes: masks.map(({ lowRes }) => limited(lowRes, manifest.conventions)),
      lowResSize: image.frame.cells,
      objectScore,
      ...(returnLogits ? { logits: masks.map(({ lowRes }) => upscale(lowRes, image.frame)) } : {}),
    }));
  }

  /** Free the memory of the graphs. The predictor cannot be used any more. */
  async dispose(): Promise<void> {
    this.#current = null;
    await this.#engine.dispose();
  }

  #image(wanted: string): Encoded {
    if (!this.#current) throw new StateError(`no image is set; call setImage(photo) before ${wanted}`);
    return this.#current;
  }
}

/** Makes masks of the photo's size in the form that is wanted. */
function maskMaker<Mode extends OutputMode>(frame: Frame, mode: Mode): (lowRes: Floats) => Segmentations[Mode] {
  const size = frame.original;
  if (mode === "binary_mask") return (lowRes) => upscaleBinary(lowRes, frame) as Segmentations[Mode];
  if (frame.down.bicubic) {
    return (lowRes) => segmentationOf(runLengths(upscaleBinary(lowRes, frame)), size, mode);
  }
  const statistics = new MaskStatistics(frame);
  return (lowRes) => segmentationOf(statistics.runLengths(lowRes, MASK_THRESHOLD, [0, 0], size), size, mode);
}
