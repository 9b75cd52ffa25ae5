/** Settings of automatic mask generation, with the names, defaults and meaning of segment_anything 1.0 and SAM 2. */

import { AUTOMATIC_DEFAULTS, AUTOMATIC_RANGES, AUTOMATIC_SHARES, VARIANT_DEFAULTS } from "../contract.ts";
import { UsageError } from "../errors.ts";
import { checkOutputMode, type OutputMode } from "../masks/rle.ts";
import { layerGrids, type Grid } from "./grids.ts";

export interface AutomaticSettings {
  /** Points along each side of the point grid. */
  readonly pointsPerSide: number;
  /** Points whose masks are in memory at once. */
  readonly pointsPerBatch: number;
  /** Masks stay if their predicted IoU is above it, 0 to 1; 0 keeps all. */
  readonly predIouThresh: number;
  /** Masks stay if their stability score is at least this, 0 to 1; 0 keeps all. */
  readonly stabilityScoreThresh: number;
  /** Distance of the stability score's two thresholds from the mask's own, in logits. */
  readonly stabilityScoreOffset: number;
  /** Of two masks of a crop whose boxes overlap with an IoU above it, the one with the lower predicted IoU goes. */
  readonly boxNmsThresh: number;
  /** Layers of crops besides the whole photo; layer n has 4 ** n crops. */
  readonly cropNLayers: number;
  /** Like `boxNmsThresh`, between crops; masks of smaller crops stay. */
  readonly cropNmsThresh: number;
  /** Overlap of the crops of layer 1 as a share of the photo's shorter side; half of it in each further layer. */
  readonly cropOverlapRatio: number;
  /** Layer n has `pointsPerSide` divided by this to the power of n. */
  readonly cropNPointsDownscaleFactor: number;
  /** Instead of `pointsPerSide`, for each layer the points x, y from 0 to 1. */
  readonly pointGrids: readonly Grid[] | null;
  /** Holes and islands with fewer pixels are filled or removed; 0: none. */
  readonly minMaskRegionArea: number;
  /** Form of a record's `segmentation`. */
  readonly outputMode: OutputMode;
  /** Whether each mask is refined once, with its own logits as a mask prompt beside its point. */
  readonly useM2m: boolean;
  /** Whether a point gets three masks; else one. */
  readonly multimaskOutput: boolean;
}

const SHARES: ReadonlySet<string> = new Set(AUTOMATIC_SHARES);

/**
 * Settings with the defaults of a model variant, and those that are given.
 *
 * @throws UsageError - a setting is unknown or out of range.
 */
export function settingsFor(variant: string, given: Partial<AutomaticSettings> = {}): AutomaticSettings {
  const unknown = Object.keys(given).find((name) => !Object.hasOwn(AUTOMATIC_DEFAULTS, name));
  if (unknown !== undefined) {
    throw new UsageError(
      `there is no setting '${unknown}': choose one of ${Object.keys(AUTOMATIC_DEFAULTS).join(", ")}`,
    );
  }
  const own = Object.hasOwn(VARIANT_DEFAULTS, variant) ? VARIANT_DEFAULTS[variant] : {};
  const settings: AutomaticSettings = { ...AUTOMATIC_DEFAULTS, ...own, ...given };
  for (const [name, [least, most]] of Object.entries(AUTOMATIC_RANGES)) {
    const value = settings[name as keyof AutomaticSettings] as number;
    const fits = Number.isFinite(value) && value >= least && value <= most;
    if (!fits || !(SHARES.has(name) || Number.isInteger(value))) {
      throw new UsageError(
        `${name} ${value} is out of range: use ${SHARES.has(name) ? "" : "an integer from "}${least} to ${most}`,
      );
    }
  }
  if (settings.cropOverlapRatio === 1) throw new UsageError("cropOverlapRatio 1 is out of range: use 0 to below 1");
  checkOutputMode(settings.outputMode);
  gridsOf(settings);
  return settings;
}

/** The points of each layer, beginning with the whole photo's. */
export function gridsOf(settings: AutomaticSettings): readonly Grid[] {
  const { pointGrids, cropNLayers } = settings;
  if (!pointGrids) return layerGrids(settings.pointsPerSide, cropNLayers, settings.cropNPointsDownscaleFactor);
  if (pointGrids.length <= cropNLayers) {
    throw new UsageError(
      `${pointGrids.length} pointGrids are too few for the photo and ${cropNLayers} layers of crops: give one for each`,
    );
  }
  pointGrids.forEach((grid, layer) => {
    const wrong = grid.find(([x, y]) => !(x >= 0 && x <= 1 && y >= 0 && y <= 1));
    if (wrong) throw new UsageError(`point grid ${layer} holds (${wrong.join(", ")}): give x and y from 0 to 1`);
    if (!grid.length) throw new UsageError(`point grid ${layer} is empty: give x, y pairs`);
  });
  return pointGrids;
}
