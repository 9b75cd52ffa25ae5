import { describe, expect, it } from "vitest";
import { describe as described, type Current } from "../../src/photo/said.ts";
import { Workbench } from "../../src/photo/workbench.ts";
import { fromMask } from "../../src/masks/runs.ts";
import type { Picture } from "../../src/photo/picture.ts";
import { parseSession } from "../../src/session.ts";
import { SESSION } from "./session.ts";

const session = parseSession(SESSION);

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
    expect(
      described(current, { candidates: [candidate, candidate, candidate], objectScore: null, ms: 1 }, picture),
    ).toBe("Part, predicted IoU 0.88, 20 percent of the photo, 10 by 2 pixels, 2 of 3 masks");
    expect(described({ ...current, index: 0 }, { candidates: [candidate], objectScore: null, ms: 1 }, picture)).toBe(
      "Mask, predicted IoU 0.88, 20 percent of the photo, 10 by 2 pixels",
    );
  });
});
