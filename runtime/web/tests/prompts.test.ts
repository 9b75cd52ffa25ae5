/** Prompts fill the same slots, and the same masks are chosen, as in the Python runtime. */

import { describe, expect, test } from "vitest";

import { Label } from "../src/contract.ts";
import { decodePrompts, selectMasks, type Backend } from "../src/decoding.ts";
import { PromptError } from "../src/errors.ts";
import { Frame } from "../src/photo/frame.ts";
import { arrange, feeds, type Feed, type Prompt } from "../src/prompts.ts";
import { fixtures, floats, largestDifference } from "./fixtures.ts";

const FRAME = new Frame({ height: 256, width: 256 }, { height: 80, width: 120 });

test.each(fixtures.prompts)("$name", ({ prompt, conventions, refused, coords, labels, fed_coords, fed_labels }) => {
  const frame = new Frame(FRAME.size, FRAME.original, conventions);
  if (refused) {
    expect(() => arrange(prompt, frame)).toThrow(PromptError);
    return;
  }
  const slots = arrange(prompt, frame);
  expect(slots.coords).toEqual(coords);
  expect(slots.labels).toEqual(labels);
  const [feed] = [...feeds([slots], { prompts: null, points: 8 }, frame)];
  expect([...feed!.coords]).toEqual([...floats(fed_coords)]);
  expect([...feed!.labels]).toEqual([...floats(fed_labels)]);
});

test("calls of fixed size are filled with empty slots, and a prompt that is too long is refused", () => {
  const prompts = [{ pointCoords: [[1, 2]], pointLabels: [1] }, { box: [1, 2, 30, 40] }, {}] as const;
  const slots = prompts.map((prompt) => arrange(prompt, FRAME));
  const calls = [...feeds(slots, { prompts: 2, points: 4 }, FRAME)];
  expect(calls.map(({ rows, count, slots: columns }) => [rows, count, columns])).toEqual([
    [2, 2, 4],
    [2, 1, 4],
  ]);
  expect([...calls[0]!.labels]).toEqual([1, Label.PADDING, -2, -2, 2, 3, -2, -2]);
  expect([...calls[1]!.labels]).toEqual([-2, -2, -2, -2, -2, -2, -2, -2]);
  expect(() => [...feeds(slots, { prompts: null, points: 1 }, FRAME)]).toThrow(/needs 2 slots .* --points 2/);
});

test.each<[string, Prompt, RegExp]>([
  ["a point outside", { pointCoords: [[121, 2]], pointLabels: [1] }, /outside the photo of 120x80/],
  ["a point of NaN", { pointCoords: [[NaN, 2]], pointLabels: [1] }, /not finite/],
  ["a label of 2", { pointCoords: [[1, 2]], pointLabels: [2] }, /label 2 is not one of 0, 1/],
  ["too few labels", { pointCoords: [[1, 2]], pointLabels: [] }, /0 pointLabels do not match 1/],
  ["no labels", { pointCoords: [[1, 2]] }, /without pointLabels/],
  ["labels alone", { pointLabels: [1] }, /without pointCoords/],
  ["a box without area", { box: [5, 5, 5, 9] }, /no area/],
  ["a box outside", { box: [121, 5, 130, 9] }, /must overlap/],
  ["a mask of another frame", { maskInput: new Float32Array(5) }, /5 logits where this frame takes 64 x 64/],
  ["a mask with infinity", { maskInput: new Float32Array(4096).fill(Infinity) }, /not finite/],
])("%s is refused", (_, prompt, message) => {
  expect(() => arrange(prompt, FRAME)).toThrow(PromptError);
  expect(() => arrange(prompt, FRAME)).toThrow(message);
});

const EFFICIENT_SAM = fixtures.prompts.find(({ conventions }) => conventions.slots === 6)!.conventions;

test.each<[string, Prompt, RegExp]>([
  ["a point outside of the object", { pointCoords: [[1, 2]], pointLabels: [0] }, /no points outside the object/],
  ["a mask", { maskInput: new Float32Array(4096) }, /takes no mask prompts: leave out maskInput/],
  [
    "seven points",
    { pointCoords: Array.from({ length: 7 }, () => [1, 2] as const), pointLabels: Array<number>(7).fill(1) },
    /needs 7 slots, and this model has 6/,
  ],
])("%s is refused where the family does not know it", (_, prompt, message) => {
  const frame = new Frame(FRAME.size, FRAME.original, EFFICIENT_SAM);
  expect(() => arrange(prompt, frame)).toThrow(PromptError);
  expect(() => arrange(prompt, frame)).toThrow(message);
});

describe.each(fixtures.selections)("$name, multimask $multimask", (each) => {
  const decoded = { lowRes: floats(each.decoded.lowRes), iou: floats(each.decoded.iou), objectScores: null };

  test("the masks are the Python runtime's", () => {
    const choices = selectMasks(decoded, each.conventions, each.multimask);
    expect(choices.map(({ masks }) => masks.map(({ iou }) => iou))).toEqual(each.iou);
    const lowRes = Float32Array.from(choices.flatMap(({ masks }) => masks.flatMap((mask) => [...mask.lowRes])));
    expect(largestDifference(lowRes, floats(each.low_res))).toBe(0);
  });
});

test("prompts of any number come back in order, and outputs that are not finite are refused", async () => {
  const calls: Feed[] = [];
  const backend = (spoilt: number): Backend => ({
    encode: () => Promise.reject(new Error("not called")),
    decode: (_, feed) => {
      calls.push(feed);
      const iou = Float32Array.from(
        { length: 4 * feed.rows },
        (_, index) => feed.coords[2 * feed.slots * (index >> 2)]!,
      );
      iou[0] = Number.isNaN(spoilt) ? NaN : iou[0]!;
      return Promise.resolve({ lowRes: new Float32Array(4 * feed.rows * 4096), iou, objectScores: null });
    },
  });
  const slots = Array.from({ length: 20 }, (_, x) => arrange({ pointCoords: [[x, 0]], pointLabels: [1] }, FRAME));
  const capacity = { prompts: null, points: null };
  const { iou } = await decodePrompts(backend(0), capacity, [], slots, FRAME);
  expect(calls.map(({ count }) => count)).toEqual([16, 4]);
  expect([...iou].filter((_, index) => index % 4 === 0)).toEqual(slots.map(({ coords }) => coords[0]![0]));
  await expect(decodePrompts(backend(NaN), capacity, [], slots, FRAME)).rejects.toThrow(/IoU predictions contain NaN/);
});
