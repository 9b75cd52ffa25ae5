import { describe, expect, it } from "vitest";
import type { Answer } from "../../src/engine/engine.ts";
import { fromMask } from "../../src/masks/runs.ts";
import { foundText, withNamed } from "../../src/photo/layers.ts";

function answer(pixels: number, objectScore: number | null): Answer {
  const mask = fromMask({ width: 10, height: 10, data: new Uint8Array(100).fill(1, 0, pixels) });
  return { candidates: [{ mask, predictedIou: 0.8, lowRes: null }], objectScore, ms: 1 };
}

describe("what words find", () => {
  const found = [
    { word: "cat", answer: answer(20, 3) },
    { word: "dog", answer: answer(0, -5) },
    { word: "cup", answer: answer(7, null) },
  ];

  it("becomes layers of their names, but for what is not there", () => {
    const layers = withNamed(withNamed([], found, []), found.slice(2), [[3, 4]]);
    expect(layers.map(({ id, name, points }) => [id, name, points.length])).toEqual([
      [1, "cat", 0],
      [2, "cup", 0],
      [3, "cup", 1],
    ]);
  });

  it("is told with its share of the photo and how sure the model is", () => {
    expect(found.map(foundText)).toEqual([
      "cat: 20 percent of the photo, 95 percent sure",
      "no dog found",
      "cup: 7 percent of the photo",
    ]);
  });
});
