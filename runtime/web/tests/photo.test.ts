/** Resizing, frames and masks at the photo's size equal the Python runtime's. */

import { describe, expect, test } from "vitest";

import type { Manifest } from "../src/bundle/manifest.ts";
import { SAM } from "../src/bundle/conventions.ts";
import { maskIou } from "../src/agreement/metrics.ts";
import { fittingFrame, Frame } from "../src/photo/frame.ts";
import { cutOf, pixelsOf, STRIP, wholeOf, type Pixels } from "../src/photo/pixels.ts";
import { readPhoto } from "../src/photo/read.ts";
import { upscale, upscaleBinary } from "../src/photo/upscale.ts";
import { fixtures, floats, largestDifference, parts, photo } from "./fixtures.ts";

describe.each(fixtures.geometry)("a photo of $original.width x $original.height in $frame", (each) => {
  const frame = new Frame(each.frame, each.original, each.conventions);

  test("is resized to the bit", () => {
    expect(frame.resized).toEqual(each.resized);
    const image = frame.image(photo(each.photo));
    expect(image.shape).toEqual(each.image.shape);
    expect(largestDifference(image.data, floats(each.across_then_down))).toBe(0);
    // Where Pillow 13 begins with the other axis, a value may be rounded to the next one.
    expect(largestDifference(image.data, floats(each.image))).toBeLessThanOrEqual(
      each.conventions.stretched ? 2e-5 : 1,
    );
  });

  test("has its prompts where the Python runtime has them", () => {
    expect(each.coords.map((point) => frame.toFrame(point))).toEqual(each.in_frame);
  });

  test("has the same logits and masks", () => {
    const expected = parts(each.logits);
    parts(each.low_res).forEach((lowRes, index) => {
      expect(largestDifference(upscale(lowRes, frame), expected[index]!)).toBeLessThan(2e-5);
      const inside = Uint8Array.from(expected[index]!, (logit) => (logit > 0 ? 1 : 0));
      expect(maskIou(upscaleBinary(lowRes, frame).data, inside)).toBeGreaterThan(0.9999);
    });
  });
});

test.each(fixtures.frames)("a photo of $original.width x $original.height goes into $frame", (each) => {
  const manifest = { frames: each.frames.map((frame) => ({ frame })), conventions: SAM } as unknown as Manifest;
  const { frame } = fittingFrame(manifest, each.original);
  expect(frame.size).toEqual(each.frame);
  expect(frame.resized).toEqual(each.resized);
});

test("transparency is blended with white, and arrays of another size are refused", async () => {
  const data = Uint8ClampedArray.of(10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 128);
  const { data: rgb } = await readPhoto({ width: 3, height: 1, data } as unknown as ImageData);
  expect([...rgb]).toEqual([10, 20, 30, 255, 255, 255, 127, 177, 227]);
  await expect(readPhoto({ width: 2, height: 2, data: new Uint8Array(5) })).rejects.toThrow(/2x2 pixels has 5 values/);
  expect(() => new Frame({ height: 256, width: 256 }, { height: 1, width: 5000 })).toThrow(/too narrow/);
});

test("a large photo is read a few rows at a time, each of them once", () => {
  const [width, height] = [30, 5 * STRIP + 7];
  const whole = pixelsOf({ width, height, data: new Uint8Array(3 * width * height).fill(9) });
  const asked: number[] = [];
  const counted: Pixels = {
    ...whole,
    rows: (top, count) => {
      asked.push(...Array.from({ length: count }, (_, row) => top + row));
      expect(count).toBeLessThanOrEqual(STRIP);
      return whole.rows(top, count);
    },
  };
  const frame = new Frame({ height: 256, width: 256 }, whole);
  expect(largestDifference(frame.image(counted).data, frame.image(wholeOf(whole)).data)).toBe(0);
  expect(asked).toEqual(Array.from({ length: height }, (_, row) => row));
});

test("a crop is the rectangle of its photo", () => {
  const whole = { width: 4, height: 3, data: Uint8Array.from({ length: 36 }, (_, index) => index) };
  const [narrow, wide] = [
    { x0: 1, y0: 1, x1: 3, y1: 3 },
    { x0: 0, y0: 2, x1: 4, y1: 3 },
  ];
  expect([...wholeOf(cutOf(pixelsOf(whole), narrow)).data]).toEqual([15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32]);
  expect([...wholeOf(cutOf(pixelsOf(whole), wide)).data]).toEqual([...whole.data.subarray(24)]);
});
