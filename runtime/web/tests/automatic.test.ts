/** Automatic mask generation equals the Python runtime's. */

import { describe, expect, test } from "vitest";

import type { Manifest } from "../src/bundle/manifest.ts";
import { SAM } from "../src/bundle/conventions.ts";
import { MASK_STRIDE } from "../src/contract.ts";
import type { Backend } from "../src/decoding.ts";
import { AutomaticMaskGenerator } from "../src/automatic/generator.ts";
import { generateCrops } from "../src/automatic/grids.ts";
import { nms } from "../src/automatic/nms.ts";
import { boundingBox, removeSmallRegions } from "../src/automatic/regions.ts";
import { settingsFor } from "../src/automatic/settings.ts";
import { MaskStatistics } from "../src/automatic/statistics.ts";
import { Frame } from "../src/photo/frame.ts";
import { fixtures, mask, parts } from "./fixtures.ts";

const SIDE = 256;
const CELLS = SIDE / MASK_STRIDE;

/** Discs around each prompt's first point, as `tests/runtime/automatic/discs.py` draws them. */
const discs: Backend = {
  encode: () => Promise.resolve([{ data: new Float32Array(4 * 16 * 16), shape: [1, 4, 16, 16] }]),
  decode: (_, feed) => {
    const lowRes = new Float32Array(feed.rows * 4 * CELLS * CELLS);
    let at = 0;
    for (let row = 0; row < feed.rows; row++) {
      const [x, y] = [feed.coords[2 * row * feed.slots]!, feed.coords[2 * row * feed.slots + 1]!];
      const first = fixtures.radii[0]! + fixtures.refined_radius * feed.hasMask[row]!;
      for (const radius of [first, ...fixtures.radii.slice(1)]) {
        for (let cell = 0; cell < CELLS * CELLS; cell++) {
          const [dx, dy] = [4 * (cell % CELLS) + 2 - x, 4 * Math.floor(cell / CELLS) + 2 - y];
          lowRes[at++] = 2 * (radius - Math.hypot(dx, dy));
        }
      }
    }
    const iou = Float32Array.from(
      { length: 4 * feed.rows },
      (_, index) => [0.9 * feed.hasMask[index >> 2]!, 0.97, 0.95, 0.93][index % 4]!,
    );
    return Promise.resolve({ lowRes, iou, objectScores: null });
  },
};

const CAPACITY = {
  frames: [{ frame: { height: SIDE, width: SIDE } }],
  conventions: SAM,
  prompts: null,
  points: null,
} as unknown as Manifest;

test.each(fixtures.automatic)("the records with $settings", async ({ settings, covered, records }) => {
  const generator = AutomaticMaskGenerator.fromBackend(discs, CAPACITY, settingsFor("vit_b", settings));
  const shares: number[] = [];
  const photo = { width: 200, height: 150, data: new Uint8Array(3 * 200 * 150) };
  const found = await generator.generate(photo, {
    covered: covered ? mask(covered) : undefined,
    onProgress: (share) => shares.push(share),
  });
  expect(records.length).toBeGreaterThan(1);
  expect(found.map(({ segmentation }) => segmentation)).toEqual(records.map(({ segmentation }) => segmentation));
  const rest = ({ segmentation, stability_score, predicted_iou, ...others }: (typeof found)[number]): unknown => {
    expect(segmentation).toBeDefined();
    return { ...others, stability: stability_score.toFixed(6), iou: predicted_iou.toFixed(6) };
  };
  expect(found.map(rest)).toEqual(records.map(rest));
  expect(shares.at(-1)).toBe(1);
});

describe.each(fixtures.geometry)("masks of $original in $frame", (each) => {
  const statistics = new MaskStatistics(new Frame(each.frame, each.original, each.conventions));

  test("have the stability, the boxes and the runs of the full-size masks", () => {
    parts(each.low_res).forEach((lowRes, index) => {
      expect(statistics.stability(lowRes, 0, 0.7, 0)).toBeCloseTo(each.stability[index]!, 3);
      expect(statistics.box(lowRes, 0)).toEqual(each.boxes[index]);
      const lengths = statistics.runLengths(lowRes, 0, each.at, each.large);
      expect(lengths.length).toBe(each.run_lengths[index]!.length);
      const moved = lengths.reduce((sum, length, run) => sum + Math.abs(length - each.run_lengths[index]![run]!), 0);
      expect(moved).toBeLessThanOrEqual(4); // a pixel whose logit is 0 but for rounding
    });
  });

  test("have a bound in place of a stability that is too low", () => {
    const [lowRes] = parts(each.low_res);
    const exact = statistics.stability(lowRes!, 0, 0.7, 0);
    const bound = statistics.stability(lowRes!, 0, 0.7, 1);
    expect(bound).toBeGreaterThanOrEqual(exact);
    expect(bound).toBeLessThan(1);
  });
});

test.each(fixtures.masks)("small regions of a mask", (each) => {
  const [height, width] = each.mask.shape as [number, number];
  const { lengths, changed } = removeSmallRegions(each.lengths, { height, width }, 6);
  expect({ lengths, changed }).toEqual({ lengths: each.cleaned, changed: each.changed });
  expect(boundingBox(each.lengths, height)).toEqual(each.box);
});

test.each(Object.entries(fixtures.nms.kept))("non-maximum suppression at %s", (limit, kept) => {
  expect(nms(fixtures.nms.boxes, fixtures.nms.scores, Number(limit))).toEqual(kept);
});

test.each(fixtures.crops)("the crops of $size in $layers layers", ({ size, layers, crops }) => {
  const found = generateCrops(size, layers, 512 / 1500);
  expect(found.map(({ x0, y0, x1, y1, layer }) => [x0, y0, x1, y1, layer])).toEqual(crops);
});

test("settings have the variant's defaults, and wrong ones are refused", () => {
  expect(settingsFor("vit_b")).toMatchObject({ pointsPerSide: 32, predIouThresh: 0.88 });
  expect(settingsFor("nano", { pointsPerSide: 8 })).toMatchObject({ pointsPerSide: 8, minMaskRegionArea: 100 });
  expect(() => settingsFor("nano", { predIouThresh: 2 })).toThrow(/predIouThresh 2 is out of range: use 0 to 1/);
  expect(() => settingsFor("nano", { pointsPerSide: 1.5 })).toThrow(/an integer from 1 to 1024/);
  expect(() => settingsFor("nano", { pointsPerSide: 3, cropNLayers: 2, cropNPointsDownscaleFactor: 2 })).toThrow(
    /ends without a point/,
  );
  expect(() => settingsFor("nano", { pointPerSide: 3 } as object)).toThrow(/no setting 'pointPerSide'/);
  expect(() => settingsFor("nano", { pointGrids: [[[0.5, 2]]] })).toThrow(/holds \(0.5, 2\)/);
});
