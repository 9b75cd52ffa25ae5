import { describe, expect, it } from "vitest";
import { differenceOf, edgesOf, rasterOf } from "../../src/masks/raster.ts";
import {
  area,
  bounds,
  contains,
  fromCoco,
  fromLengths,
  fromMask,
  iou,
  overlap,
  toCoco,
  toMask,
  union,
  type Runs,
} from "../../src/masks/runs.ts";
import { emptyMask, painted } from "../../src/masks/strokes.ts";

/** A mask from rows of text; # is inside. */
function drawn(...rows: string[]): Runs {
  const width = rows[0]!.length;
  const data = Uint8Array.from(rows.join(""), (each) => (each === "#" ? 1 : 0));
  return fromMask({ width, height: rows.length, data });
}

function rowsOf(mask: Runs): string[] {
  const { width, height, data } = toMask(mask);
  return Array.from({ length: height }, (_, y) =>
    Array.from(data.subarray(y * width, (y + 1) * width), (value) => (value === 1 ? "#" : ".")).join(""),
  );
}

const RING = ["....", ".###", ".#.#", ".###"];

describe("runs", () => {
  it("read column by column, zeros first", () => {
    expect([...drawn(".#", "##").counts]).toEqual([1, 3]);
    expect([...drawn("#.", "..").counts]).toEqual([0, 1, 3]);
    expect(rowsOf(drawn(...RING))).toEqual(RING);
  });

  it("have the string of pycocotools", () => {
    // Runs 5 3 1 1 1 1 1 3; from the fourth on the difference to the one two before: -2 0 0 0 2.
    expect(toCoco(drawn(...RING))).toEqual({ size: [4, 4], counts: "531N0002" });
    expect(rowsOf(fromCoco({ size: [4, 4], counts: "531N0002" }))).toEqual(RING);
    expect(rowsOf(fromLengths({ size: [4, 4], counts: [5, 3, 1, 1, 1, 1, 1, 3] }))).toEqual(RING);
  });

  it("refuse what does not fit the photo", () => {
    expect(() => fromCoco({ size: [4, 5], counts: "531N0002" })).toThrow(/Load the photo again/);
    expect(() => fromCoco({ size: [4, 4], counts: "5\u007f" })).toThrow(/damaged/);
    expect(() => fromLengths({ size: [4, 4], counts: [5, 3] })).toThrow(/Load the photo again/);
  });

  it("count pixels, bounds and single pixels", () => {
    const mask = drawn(...RING);
    expect(area(mask)).toBe(8);
    expect(bounds(mask)).toEqual({ x0: 1, y0: 1, x1: 4, y1: 4 });
    expect(bounds(emptyMask(3, 2))).toBeNull();
    expect([contains(mask, 1, 1), contains(mask, 2, 2), contains(mask, 3.9, 3.9), contains(mask, 4, 0)]).toEqual([
      true,
      false,
      true,
      false,
    ]);
  });

  it("compare: two of six pixels are common", () => {
    const [a, b] = [drawn("###.", "#..."), drawn(".###", "...#")];
    expect(overlap(a, b)).toEqual({ both: 2, either: 6 });
    expect(iou(a, b)).toBeCloseTo(2 / 6, 12);
    expect(iou(emptyMask(4, 2), emptyMask(4, 2))).toBe(1);
    expect(rowsOf(union([a, b]))).toEqual(["####", "#..#"]);
  });

  it("agree with a count of bytes on random masks", () => {
    let state = 7;
    const random = (): number => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
    for (let round = 0; round < 20; round++) {
      const [width, height] = [1 + Math.floor(20 * random()), 1 + Math.floor(20 * random())];
      const share = random();
      const [a, b] = [0, 1].map(() => Uint8Array.from({ length: width * height }, () => (random() < share ? 1 : 0)));
      const [x, y] = [fromMask({ width, height, data: a! }), fromMask({ width, height, data: b! })];
      const both = a!.reduce((sum, value, i) => sum + (value & b![i]!), 0);
      const either = a!.reduce((sum, value, i) => sum + (value | b![i]!), 0);
      expect(overlap(x, y)).toEqual({ both, either });
      expect(toMask(fromCoco(toCoco(x))).data).toEqual(a);
    }
  });
});

describe("rasters", () => {
  it("shrink with the photo and keep thin masks", () => {
    const line = drawn("........", "........", "####....", "........");
    const small = rasterOf(line, 4);
    expect([small.width, small.height, [...small.data]]).toEqual([4, 2, [0, 0, 0, 0, 1, 1, 0, 0]]);
  });

  it("have straight edges: a ring has an outer and an inner square", () => {
    const edges = edgesOf(rasterOf(drawn(...RING)));
    const pieces = Array.from({ length: edges.length / 4 }, (_, i) => [...edges.subarray(4 * i, 4 * i + 4)]);
    expect(pieces).toHaveLength(8);
    expect(pieces).toContainEqual([1, 1, 4, 1]);
    expect(pieces).toContainEqual([2, 2, 3, 2]);
    expect(pieces).toContainEqual([4, 1, 4, 4]);
  });

  it("end an edge where the inside changes sides", () => {
    const edges = edgesOf(rasterOf(drawn("#.", ".#")));
    const lengths = Array.from(
      { length: edges.length / 4 },
      (_, i) => Math.abs(edges[4 * i + 2]! - edges[4 * i]!) + Math.abs(edges[4 * i + 3]! - edges[4 * i + 1]!),
    );
    expect(lengths).toEqual(Array<number>(8).fill(1));
  });

  it("differ where only one has a pixel", () => {
    const { both, onlyA, onlyB } = differenceOf(rasterOf(drawn("##.")), rasterOf(drawn(".##")));
    expect([[...both.data], [...onlyA.data], [...onlyB.data]]).toEqual([
      [0, 1, 0],
      [1, 0, 0],
      [0, 0, 1],
    ]);
  });
});

describe("strokes", () => {
  it("paint pixels whose centre lies under the brush", () => {
    const dot = painted(emptyMask(5, 5), [{ points: [[2.5, 2.5]], radius: 1, erase: false }]);
    expect(rowsOf(dot)).toEqual([".....", "..#..", ".###.", "..#..", "....."]);
    const line = painted(emptyMask(6, 3), [
      {
        points: [
          [1.5, 1.5],
          [4.5, 1.5],
        ],
        radius: 0.5,
        erase: false,
      },
    ]);
    expect(rowsOf(line)).toEqual(["......", ".####.", "......"]);
  });

  it("erase, in the order of the strokes, and end at the photo's border", () => {
    const full = { points: [[0, 0]], radius: 9, erase: false } as const;
    const hole = { points: [[1.5, 0.5]], radius: 0.5, erase: true } as const;
    expect(rowsOf(painted(emptyMask(3, 2), [full, hole]))).toEqual(["#.#", "###"]);
    expect(rowsOf(painted(emptyMask(3, 2), [hole, full]))).toEqual(["###", "###"]);
  });
});
