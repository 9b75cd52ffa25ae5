import { describe, expect, it } from "vitest";
import { describe as described, Workbench, type Current } from "../../src/photo/workbench.ts";
import { fromMask } from "../../src/masks/runs.ts";
import type { Picture } from "../../src/photo/picture.ts";
import { parseSession } from "../../src/session.ts";

const session = parseSession({
  format: "sam-edge-session",
  api: 1,
  version: "0",
  server: false,
  mode: "photo",
  engine: "browser",
  bundles: [
    {
      name: "nano",
      title: "nano",
      url: "bundles/nano/",
      variant: "nano",
      target: "onnx",
      precision: "fp32",
      input_side: 1024,
      bytes: 1,
      random_weights: false,
      engines: ["browser"],
    },
  ],
  limits: { upload_bytes: 1, photo_pixels: 1, prompts: 1 },
});

describe("what a screen reader is told", () => {
  it("differs from what it was told before, or it would say nothing", () => {
    const bench = new Workbench(session);
    const told: string[] = [];
    bench.said.subscribe((text) => told.push(text));
    for (let i = 0; i < 3; i++) bench.say("Undone");
    expect(told.map((text) => text.trim())).toEqual(["", "Undone", "Undone", "Undone"]);
    told.forEach((text, i) => expect(text).not.toBe(told[i - 1]));
  });

  it("has the mask's name, score, size and place among the candidates", () => {
    const mask = fromMask({ width: 10, height: 10, data: new Uint8Array(100).fill(1, 20, 40) });
    const candidate = { mask, predictedIou: 0.876, lowRes: null };
    const current: Current = { ...candidate, index: 1 };
    const picture = { width: 10, height: 10 } as Picture;
    expect(described(current, { candidates: [candidate, candidate, candidate], ms: 1 }, picture)).toBe(
      "Part, predicted IoU 0.88, 20 percent of the photo, 10 by 2 pixels, 2 of 3 masks",
    );
    expect(described({ ...current, index: 0 }, { candidates: [candidate], ms: 1 }, picture)).toBe(
      "Mask, predicted IoU 0.88, 20 percent of the photo, 10 by 2 pixels",
    );
  });
});
