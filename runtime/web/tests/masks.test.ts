/** Masks as RLE, polygons and PNG files. */

import { inflateSync } from "node:zlib";
import { expect, test } from "vitest";

import type { Mask } from "../src/arrays.ts";
import { toCutout, toPng } from "../src/masks/pictures.ts";
import { simplified, toPolygons, toRings, toSvgPath, type Ring } from "../src/masks/polygons.ts";
import { fromRle, toRle, toUncompressedRle } from "../src/masks/rle.ts";
import { maskIou } from "../src/agreement/metrics.ts";
import { fixtures, mask } from "./fixtures.ts";

const MASKS = fixtures.masks.map((each) => ({ ...each, mask: mask(each.mask) }));

test.each(MASKS)("a mask of $mask.width x $mask.height has the run lengths of pycocotools", (each) => {
  const size = [each.mask.height, each.mask.width];
  expect(toUncompressedRle(each.mask)).toEqual({ size, counts: each.lengths });
  expect(toRle(each.mask)).toEqual({ size, counts: each.string });
  expect(fromRle(toRle(each.mask))).toEqual(each.mask);
  expect(fromRle(toUncompressedRle(each.mask))).toEqual(each.mask);
});

test.each([
  [{ size: [2, 2] as const, counts: [3] }, /cover 3 pixels, and its size 2x2 has 4/],
  [{ size: [2, 2] as const, counts: [5, -1] }, /cover NaN/],
  [{ size: [2, 2] as const, counts: "P" }, /cut off/],
  [{ size: [2, 2] as const, counts: "!" }, /damaged/],
  [{ size: [1e6, 1e6] as const, counts: [1e12] }, /1000000x1000000/],
])("an RLE that is damaged is refused: %j", (rle, message) => {
  expect(() => fromRle(rle)).toThrow(message);
});

/** The pixels whose centres lie inside the rings by the even-odd rule. */
function filled(rings: readonly Ring[], { width, height }: Mask): Mask {
  const data = new Uint8Array(width * height);
  for (const ring of rings) {
    for (let index = 0; index < ring.length; index += 2) {
      const [x0, y0] = [ring[index]!, ring[index + 1]!];
      const [x1, y1] = [ring[(index + 2) % ring.length]!, ring[(index + 3) % ring.length]!];
      for (let y = 0; y < height; y++) {
        if (y0 <= y + 0.5 === y1 <= y + 0.5) continue;
        const cut = x0 + ((y + 0.5 - y0) / (y1 - y0)) * (x1 - x0);
        for (let x = 0; x < width; x++) if (x + 0.5 > cut) data[y * width + x]! ^= 1;
      }
    }
  }
  return { width, height, data };
}

/** Above 0 where a ring runs clockwise on the screen, whose y runs down. */
function area(ring: Ring): number {
  let sum = 0;
  for (let index = 0; index < ring.length; index += 2) {
    sum += ring[index]! * ring[(index + 3) % ring.length]! - ring[(index + 2) % ring.length]! * ring[index + 1]!;
  }
  return sum / 2;
}

test.each(MASKS)("the polygons of a mask of $mask.width x $mask.height give it again", ({ mask: each }) => {
  const rings = toRings(each);
  expect(filled(rings, each)).toEqual(each);
  expect(rings.reduce((sum, ring) => sum + area(ring), 0)).toBe(each.data.reduce((sum, value) => sum + value, 0));
  for (const ring of rings) {
    for (let index = 0; index < ring.length; index += 2) {
      const turns = [ring.at(index - 2) === ring[index], ring[index] === ring[(index + 2) % ring.length]];
      expect(turns[0]).not.toBe(turns[1]); // every corner is one
    }
  }
});

test("a hole is a ring of its own, and an SVG path holds both", () => {
  const data = Uint8Array.of(1, 1, 1, 1, 0, 1, 1, 1, 1);
  const ring = { width: 3, height: 3, data };
  expect(toSvgPath(ring)).toBe("M0 0L3 0L3 3L0 3ZM1 2L2 2L2 1L1 1Z");
});

test("a simplified outline stays near and has fewer corners", () => {
  const side = 60;
  const data = Uint8Array.from({ length: side * side }, (_, pixel) => {
    const [x, y] = [(pixel % side) - 29.5, Math.floor(pixel / side) - 29.5];
    return x * x + y * y < 400 ? 1 : 0;
  });
  const disc = { width: side, height: side, data };
  const [exact, few] = [toPolygons(disc), toPolygons(disc, 1)];
  expect(few[0]!.length).toBeLessThan(exact[0]!.length / 3);
  expect(maskIou(filled(few, disc).data, disc.data)).toBeGreaterThan(0.95);
  expect(simplified([0, 0, 1, 0, 1, 1], 9)).toEqual([0, 0, 1, 0, 1, 1]);
});

async function pixels(png: Blob, channels: number): Promise<{ size: number[]; lines: number[][] }> {
  const bytes = Buffer.from(await png.arrayBuffer());
  expect(bytes.subarray(0, 8).toString("latin1")).toBe("\x89PNG\r\n\x1a\n");
  const [width, height, length] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20), bytes.readUInt32BE(33)];
  expect(bytes.subarray(37, 41).toString()).toBe("IDAT");
  const raw = [...inflateSync(bytes.subarray(41, 41 + length))];
  const row = channels * width + 1;
  return { size: [width, height], lines: Array.from({ length: height }, (_, y) => raw.slice(y * row, (y + 1) * row)) };
}

test("PNG files hold the mask, and what it shows of the photo", async () => {
  const small = { width: 2, height: 2, data: Uint8Array.of(0, 1, 1, 0) };
  const grey = await pixels(await toPng(small), 1);
  expect(grey).toEqual({
    size: [2, 2],
    lines: [
      [0, 0, 255],
      [0, 255, 0],
    ],
  });
  const photo = { width: 2, height: 2, data: Uint8Array.from({ length: 12 }, (_, index) => index + 1) };
  const { lines } = await pixels(await toCutout(small, photo), 4);
  expect(lines).toEqual([
    [0, 0, 0, 0, 0, 4, 5, 6, 255],
    [0, 7, 8, 9, 255, 0, 0, 0, 0],
  ]);
  expect(() => toCutout(small, { ...photo, width: 1 })).toThrow(/2x2 pixels is not of the photo/);
});
