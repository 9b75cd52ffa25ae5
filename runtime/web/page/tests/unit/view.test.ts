import { describe, expect, it } from "vitest";
import { fitted, isInside, panned, revealing, toPhoto, toScreen, zoomed } from "../../src/stage/view.ts";
import { cropOf } from "../../src/ui/crop.ts";

const photo = { width: 400, height: 200 };
const stage = { width: 832, height: 632 };

describe("the view", () => {
  it("fits the photo in the middle, with a margin of 16", () => {
    expect(fitted(photo, stage)).toEqual({ scale: 2, x: 16, y: 116 });
    expect(fitted({ width: 10, height: 10 }, stage).scale).toBe(4);
  });

  it("zooms about a spot, which stays where it is", () => {
    const at = { x: 216, y: 216 };
    const before = toPhoto(fitted(photo, stage), at);
    const view = zoomed(fitted(photo, stage), 3, at, photo, stage);
    expect(view.scale).toBe(6);
    expect(before).toEqual({ x: 100, y: 50 });
    expect(toPhoto(view, at)).toEqual({ x: 100, y: 50 });
    expect(toScreen(view, { x: 100, y: 50 })).toEqual(at);
  });

  it("has a smallest and a largest scale", () => {
    expect(zoomed(fitted(photo, stage), 1e9, { x: 0, y: 0 }, photo, stage).scale).toBe(40);
    expect(zoomed(fitted(photo, stage), 1e-9, { x: 0, y: 0 }, photo, stage).scale).toBe(0.5);
  });

  it("keeps a part of the photo on the stage", () => {
    const far = panned(fitted(photo, stage), 1e6, -1e6, photo, stage);
    expect([far.x, far.y]).toEqual([832 - 48, 48 - 400]);
  });

  it("knows the photo's border", () => {
    expect([
      isInside(photo, { x: 0, y: 0 }),
      isInside(photo, { x: 399.9, y: 199.9 }),
      isInside(photo, { x: 400, y: 0 }),
    ]).toEqual([true, true, false]);
  });

  it("moves to a spot that is off the stage, and only then", () => {
    const view = { scale: 10, x: 0, y: 0 };
    expect(revealing(view, { x: 20, y: 20 }, stage)).toEqual(view);
    expect(revealing(view, { x: 100, y: 20 }, stage)).toEqual({ scale: 10, x: 784 - 1000, y: 0 });
  });
});

describe("the crop of a thumbnail", () => {
  it("has the wanted shape around the middle of the mask", () => {
    const crop = cropOf({ x0: 100, y0: 50, x1: 200, y1: 100 }, photo, 1);
    expect(crop.width).toBeCloseTo(130);
    expect(crop.height).toBeCloseTo(130);
    expect(crop.x + crop.width / 2).toBeCloseTo(150);
    expect(crop.y + crop.height / 2).toBeCloseTo(75);
  });
});
