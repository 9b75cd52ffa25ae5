import { describe, expect, it } from "vitest";
import {
  boxBetween,
  chosen,
  EMPTY_DRAFT,
  isEmpty,
  named,
  refined,
  shownIndex,
  withBox,
  withPoint,
  withStroke,
} from "../../src/prompt/draft.ts";
import { LONGEST, pushed, redone, timeline, undone } from "../../src/prompt/timeline.ts";

const inside = { x: 3, y: 4, label: 1 } as const;
const outside = { x: 9, y: 9, label: 0 } as const;
const lowRes = { height: 1, width: 2, data: new Float32Array([1, -1]) };

describe("a draft", () => {
  it("asks for three candidates after one click, and for one mask after more", () => {
    const one = withPoint(EMPTY_DRAFT, inside, null);
    expect(one.prompt).toEqual({ points: [inside], box: null, previous: null, text: null, multimask: true });
    const two = withPoint(one, outside, lowRes);
    expect(two.prompt).toEqual({
      points: [inside, outside],
      box: null,
      previous: lowRes,
      text: null,
      multimask: false,
    });
  });

  it("takes a word alone, or for the thing at the clicks in hand", () => {
    expect(named("cat", null)).toMatchObject({ points: [], box: null, text: "cat", multimask: false });
    const two = withPoint(withPoint(EMPTY_DRAFT, inside, null), outside, lowRes);
    expect(named("cat", two.prompt)).toMatchObject({ points: [inside, outside], previous: null, text: "cat" });
  });

  it("gets three candidates again where the person chooses one", () => {
    const two = withPoint(withPoint(EMPTY_DRAFT, inside, null), outside, null);
    expect(chosen(two, 2)).toMatchObject({ choice: 2, prompt: { multimask: true } });
    const one = withPoint(EMPTY_DRAFT, inside, null);
    expect(chosen(one, 1).prompt).toBe(one.prompt);
    expect(chosen(EMPTY_DRAFT, 1)).toBe(EMPTY_DRAFT);
  });

  it("starts anew with a box and keeps its clicks", () => {
    const clicked = withPoint(EMPTY_DRAFT, inside, lowRes);
    const boxed = withBox(clicked, { x0: 0, y0: 0, x1: 5, y1: 5 });
    expect(boxed.prompt).toMatchObject({ points: [inside], previous: null, multimask: false });
  });

  it("refines with its own logits", () => {
    expect(refined(withPoint(EMPTY_DRAFT, inside, null), lowRes).prompt).toMatchObject({
      previous: lowRes,
      multimask: false,
    });
  });

  it("is not empty with a stroke alone", () => {
    expect(isEmpty(EMPTY_DRAFT)).toBe(true);
    expect(isEmpty(withStroke(EMPTY_DRAFT, { points: [[1, 1]], radius: 2, erase: false }))).toBe(false);
  });
});

describe("the shown candidate", () => {
  it("is the person's, else the one with the highest predicted IoU", () => {
    expect(shownIndex([0.5, 0.9, 0.7], null)).toBe(1);
    expect(shownIndex([0.5, 0.9, 0.7], 2)).toBe(2);
    expect(shownIndex([0.5], 2)).toBe(0);
    expect(shownIndex([], null)).toBe(-1);
  });
});

describe("a box", () => {
  it("has its corners in order and ends at the photo's border", () => {
    expect(boxBetween({ x: 8, y: -3 }, { x: 2, y: 5 }, 6, 6)).toEqual({ x0: 2, y0: 0, x1: 6, y1: 5 });
    expect(boxBetween({ x: 2, y: 2 }, { x: 2.5, y: 9 }, 6, 6)).toBeNull();
  });
});

describe("the timeline", () => {
  it("undoes, redoes, and forgets the undone after a new step", () => {
    const three = pushed(pushed(timeline(1), 2), 3);
    const back = undone(undone(three));
    expect([back.present, undone(back)]).toEqual([1, back]);
    expect(redone(back).present).toBe(2);
    expect(redone(redone(back))).toEqual(three);
    const other = pushed(undone(three), 9);
    expect([other.present, other.future, undone(other).present]).toEqual([9, [], 2]);
    expect(redone(other)).toBe(other);
    expect(pushed(three, 3)).toBe(three);
  });

  it("keeps a bounded past", () => {
    let line = timeline(0);
    for (let i = 1; i <= LONGEST + 50; i++) line = pushed(line, i);
    expect([line.past.length, line.past[0]]).toEqual([LONGEST, 50]);
  });
});
