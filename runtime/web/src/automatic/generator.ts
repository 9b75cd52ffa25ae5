/**
 * Automatic mask generation, as `segment_anything.SamAutomaticMaskGenerator` does it.
 *
 * A grid of points prompts the model, and each point gives three masks. Masks with a high predicted IoU and stability
 * score stay; non-maximum suppression removes duplicates. Masks stay at low resolution until all filters have passed, and
 * then become run lengths directly.
 */

import type { Floats, Mask, Size } from "../arrays.ts";
import type { Manifest } from "../bundle/manifest.ts";
import { CROP_EDGE_DISTANCE, MASK_THRESHOLD } from "../contract.ts";
import { decodePrompts, limited, requireFinite, selectMasks, type Backend, type Choice } from "../decoding.ts";
import { UsageError } from "../errors.ts";
import { areaOf, segmentationOf, type OutputMode, type Segmentations } from "../masks/rle.ts";
import { fittingFrame, type Frame } from "../photo/frame.ts";
import { cutOf, type Pixels } from "../photo/pixels.ts";
import { usePhoto, type PhotoSource } from "../photo/read.ts";
import type { SamPredictor } from "../predictor.ts";
import { arrange, type Slots } from "../prompts.ts";
import { cropSize, generateCrops, type Crop } from "./grids.ts";
import { nms } from "./nms.ts";
import { boundingBox, pixelsWithin, removeSmallRegions, xywh } from "./regions.ts";
import { gridsOf, settingsFor, type AutomaticSettings } from "./settings.ts";
import { MaskStatistics, type Box } from "./statistics.ts";

/** One mask, with the keys of segment_anything's records, so that it can be written as SA-1B's JSON. */
export interface MaskRecord {
  readonly segmentation: Segmentations[OutputMode];
  /** Pixels inside. */
  readonly area: number;
  /** x, y, width, height in pixels, where width is last minus first column. */
  readonly bbox: readonly [number, number, number, number];
  readonly predicted_iou: number;
  /** x, y of the point that prompted the mask, in pixels. */
  readonly point_coords: readonly (readonly [number, number])[];
  /** IoU of the mask at a higher and at a lower threshold, 0 to 1. */
  readonly stability_score: number;
  /** x, y, width, height of the crop that the mask was found in, in pixels. */
  readonly crop_box: readonly [number, number, number, number];
}

export interface GenerateOptions {
  /** Where masks are known already: no point is placed there, and masks that lie there by more than half are left out. */
  readonly covered?: Mask | undefined;
  /** Called with the share of all points that were tried, 0..1. */
  readonly onProgress?: ((share: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

type Capacity = Pick<Manifest, "frames" | "conventions" | "prompts" | "points">;

interface Candidate {
  readonly lowRes: Floats;
  readonly iou: number;
  readonly stability: number;
  /** In pixels of the crop. */
  readonly point: readonly [number, number];
  /** In pixels of the crop. */
  readonly box: Box;
}

interface Found {
  readonly crop: Crop;
  readonly statistics: MaskStatistics;
  readonly candidate: Candidate;
  readonly box: Box;
}

/** Generates masks for everything in a photo. */
export class AutomaticMaskGenerator {
  readonly settings: AutomaticSettings;
  readonly #backend: Backend;
  readonly #capacity: Capacity;

  /**
   * @param predictor - whose engine computes; its photo stays set.
   * @param settings - those that differ from the defaults for the bundle's variant.
   * @throws UsageError - a setting is unknown or out of range; `useM2m` for a model without mask prompts.
   */
  constructor(predictor: Pick<SamPredictor, "bundle" | "backend">, settings: Partial<AutomaticSettings> = {}) {
    const { manifest } = predictor.bundle;
    this.settings = settingsFor(manifest.variant, settings);
    if (this.settings.useM2m && !manifest.conventions.maskPrompts) {
      throw new UsageError("useM2m refines masks by mask prompts, which this model does not take: leave it out");
    }
    this.#backend = predictor.backend;
    this.#capacity = manifest;
  }

  /** A generator for a backend of your own. */
  static fromBackend(backend: Backend, capacity: Capacity, settings: AutomaticSettings): AutomaticMaskGenerator {
    const manifest = capacity as Manifest;
    const predictor = { bundle: { manifest }, backend } as unknown as SamPredictor;
    return new AutomaticMaskGenerator(predictor, settings);
  }

  /**
   * Generate the masks of one photo.
   *
   * @returns a record for each mask, by descending predicted IoU; with crops, masks of smaller crops come first.
   * @throws PhotoError - the photo cannot be decoded, is empty, or is too narrow for the model's input.
   * @throws BackendError - the engine failed.
   */
  generate(source: PhotoSource, options: GenerateOptions = {}): Promise<MaskRecord[]> {
    return usePhoto(source, (photo) => this.#generate(photo, options));
  }

  async #generate(photo: Pixels, options: GenerateOptions): Promise<MaskRecord[]> {
    const { covered } = options;
    if (covered && (covered.width !== photo.width || covered.height !== photo.height)) {
      throw new UsageError(`covered has ${covered.width}x${covered.height} pixels: give a mask of the photo's size`);
    }
    const crops = generateCrops(photo, this.settings.cropNLayers, this.settings.cropOverlapRatio);
    const grids = gridsOf(this.settings);
    for (const crop of crops) fittingFrame(this.#capacity, cropSize(crop)); // refuses crops that are too narrow
    const points = crops.map((crop) => uncovered(grids[crop.layer]!, crop, covered));
    const total = points.reduce((sum, each) => sum + each.length, 0);
    let done = 0;
    const report = (count: number): void => {
      done += count;
      options.onProgress?.(total ? done / total : 1);
      options.signal?.throwIfAborted();
    };
    const found: Found[] = [];
    for (const [index, crop] of crops.entries()) {
      found.push(...(await this.#search(photo, crop, points[index]!, report)));
    }
    return this.#records(found, crops.length > 1, photo, covered);
  }

  /** The masks of a crop after all filters, by descending predicted IoU. */
  async #search(
    photo: Pixels,
    crop: Crop,
    points: readonly (readonly [number, number])[],
    report: (count: number) => void,
  ): Promise<Found[]> {
    const { frame } = fittingFrame(this.#capacity, cropSize(crop));
    const features = await this.#backend.encode(frame.image(cutOf(photo, crop)));
    for (const { data } of features) requireFinite("the embeddings of the photo", data);
    const statistics = new MaskStatistics(frame);
    const candidates: Candidate[] = [];
    for (let start = 0; start < points.length; start += this.settings.pointsPerBatch) {
      const batch = points.slice(start, start + this.settings.pointsPerBatch);
      const masks = await this.#masks(features, frame, batch);
      candidates.push(...this.#filtered(masks, statistics, crop, photo));
      report(batch.length);
    }
    const boxes = candidates.map((each) => each.box);
    const kept = nms(
      boxes,
      candidates.map((each) => each.iou),
      this.settings.boxNmsThresh,
    );
    return kept.map((index) => {
      const [candidate, [x0, y0, x1, y1]] = [candidates[index]!, boxes[index]!];
      return { crop, statistics, candidate, box: [x0 + crop.x0, y0 + crop.y0, x1 + crop.x0, y1 + crop.y0] };
    });
  }

  /** The masks of a batch of points, refined where that is wanted. */
  async #masks(
    features: Parameters<Backend["decode"]>[0],
    frame: Frame,
    points: readonly (readonly [number, number])[],
  ): Promise<Omit<Candidate, "stability" | "box">[]> {
    const { conventions } = this.#capacity;
    const ask = async (slots: Slots[], multimask: boolean): Promise<Choice[]> =>
      selectMasks(await decodePrompts(this.#backend, this.#capacity, features, slots, frame), conventions, multimask);
    const slots = points.map((point) => arrange({ pointCoords: [point], pointLabels: [1] }, frame));
    const choices = await ask(slots, this.settings.multimaskOutput);
    const masks = choices.flatMap((choice, row) => choice.masks.map((mask) => ({ ...mask, point: points[row]! })));
    if (!this.settings.useM2m) return masks;
    const again = masks.map(({ lowRes, point }) =>
      arrange({ pointCoords: [point], pointLabels: [1], maskInput: limited(lowRes, conventions) }, frame),
    );
    return (await ask(again, false)).map((choice, row) => ({ ...choice.masks[0]!, point: masks[row]!.point }));
  }

  /** Those masks that pass the filters of predicted IoU, stability and crop edges. */
  #filtered(
    masks: readonly Omit<Candidate, "stability" | "box">[],
    statistics: MaskStatistics,
    crop: Crop,
    photo: Size,
  ): Candidate[] {
    const { predIouThresh, stabilityScoreThresh, stabilityScoreOffset } = this.settings;
    const [leastIou, leastStability] = [Math.fround(predIouThresh), Math.fround(stabilityScoreThresh)];
    const kept: Candidate[] = [];
    for (const mask of masks) {
      if (leastIou > 0 && !(mask.iou > leastIou)) continue;
      const stability = statistics.stability(mask.lowRes, MASK_THRESHOLD, stabilityScoreOffset, stabilityScoreThresh);
      if (leastStability > 0 && !(stability >= leastStability)) continue;
      const box = statistics.box(mask.lowRes, MASK_THRESHOLD);
      if (!isNearCropEdge(box, crop, photo)) kept.push({ ...mask, stability, box });
    }
    return kept;
  }

  #records(found: Found[], several: boolean, photo: Size, covered: Mask | undefined): MaskRecord[] {
    const { cropNmsThresh, boxNmsThresh, minMaskRegionArea } = this.settings;
    if (several) {
      // Masks of smaller crops are finer.
      const scores = found.map(({ crop }) => Math.fround(1 / (cropSize(crop).height * cropSize(crop).width)));
      found = nms(
        found.map(({ box }) => box),
        scores,
        cropNmsThresh,
      ).map((index) => found[index]!);
    }
    let masks = found.map((each) => {
      const at = [each.crop.x0, each.crop.y0] as const;
      return { ...each, lengths: each.statistics.runLengths(each.candidate.lowRes, MASK_THRESHOLD, at, photo) };
    });
    if (minMaskRegionArea && masks.length) {
      const cleaned = masks.map((each) => {
        const { lengths, changed } = removeSmallRegions(each.lengths, photo, minMaskRegionArea);
        return { ...each, lengths, changed, box: boundingBox(lengths, photo.height) };
      });
      const scores = cleaned.map(({ changed }) => (changed ? 0 : 1));
      const limit = Math.max(boxNmsThresh, cropNmsThresh);
      masks = nms(
        cleaned.map(({ box }) => box),
        scores,
        limit,
      ).map((index) => cleaned[index]!);
    }
    return masks
      .filter(({ lengths }) => !covered || 2 * pixelsWithin(lengths, covered) <= areaOf(lengths))
      .map(({ lengths, box, crop, candidate }) => ({
        segmentation: segmentationOf(lengths, photo, this.settings.outputMode),
        area: areaOf(lengths),
        bbox: xywh(box),
        predicted_iou: candidate.iou,
        point_coords: [[candidate.point[0] + crop.x0, candidate.point[1] + crop.y0] as const],
        stability_score: candidate.stability,
        crop_box: xywh([crop.x0, crop.y0, crop.x1, crop.y1]),
      }));
  }
}

/** The points of a grid in pixels of a crop, without those that lie where masks are known. */
function uncovered(
  grid: readonly (readonly [number, number])[],
  crop: Crop,
  covered: Mask | undefined,
): (readonly [number, number])[] {
  const { height, width } = cropSize(crop);
  const points = grid.map(([x, y]) => [x * width, y * height] as const);
  if (!covered) return points;
  return points.filter(([x, y]) => {
    const column = Math.min(Math.trunc(x + crop.x0), covered.width - 1);
    return !covered.data[Math.min(Math.trunc(y + crop.y0), covered.height - 1) * covered.width + column];
  });
}

/** Whether a box ends near an edge of the crop that is no edge of the photo: then it is cut off. */
function isNearCropEdge([x0, y0, x1, y1]: Box, crop: Crop, { height, width }: Size): boolean {
  const box = [x0 + crop.x0, y0 + crop.y0, x1 + crop.x0, y1 + crop.y0];
  const edges = [crop.x0, crop.y0, crop.x1, crop.y1];
  const photo = [0, 0, width, height];
  return box.some((side, index) => {
    const near = (edge: number): boolean => Math.abs(side - edge) <= CROP_EDGE_DISTANCE;
    return near(edges[index]!) && !near(photo[index]!);
  });
}
