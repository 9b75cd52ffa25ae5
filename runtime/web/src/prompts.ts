/**
 * Checks prompts in photo coordinates and arranges them in the slots of the decoder, as the Python runtime does.
 *
 * A click takes one slot. A box takes two, its corners, after the clicks. Clicks without a box end with a slot labelled
 * -1, "not a point", but for models whose prompts all have the same number of slots. A prompt without either gets an
 * empty slot (-2), which attention ignores. Empty slots also fill decoders of fixed shape, and shorter prompts of a call.
 */

import type { Floats } from "./arrays.ts";
import type { Manifest } from "./bundle/manifest.ts";
import type { Conventions } from "./bundle/conventions.ts";
import { Label, LARGEST_CHUNK } from "./contract.ts";
import { PromptError, quoted } from "./errors.ts";
import type { Frame } from "./photo/frame.ts";

const FARTHEST = 1e9; // pixels; box corners beyond are a mistake

/** One prompt: clicks, a box, a mask, text, or any combination of them. Coordinates are x, y in pixels of the photo. */
export interface Prompt {
  /** Clicks; x in 0..W and y in 0..H. */
  readonly pointCoords?: readonly (readonly [number, number])[] | undefined;
  /** 1 inside the object, 0 outside it, for each click. */
  readonly pointLabels?: readonly number[] | undefined;
  /** x0, y0, x1, y1 with x0 < x1 and y0 < y1; it overlaps the photo. */
  readonly box?: readonly [number, number, number, number] | undefined;
  /** Logits of `H/4 x W/4` of the frame: one of `lowRes` of an earlier prediction. */
  readonly maskInput?: Floats | undefined;
  /**
   * A word of the bundle's vocabulary, such as "cat", or an embedding. Alone it asks for all that it names; with a click or
   * a box for the one there. `objectScore` then tells whether it is in the photo.
   */
  readonly text?: string | Floats | undefined;
}

/** A checked prompt in frame coordinates. */
export interface Slots {
  /** x, y of each slot. */
  readonly coords: readonly (readonly [number, number])[];
  readonly labels: readonly number[];
  readonly mask: Floats | null;
  /** Embedding of text. */
  readonly text: Floats | null;
}

/** The prompt inputs of one call of the decoder. */
export interface Feed {
  /** Rows of the call; the first `count` hold prompts, the others fill a fixed shape. */
  readonly rows: number;
  readonly count: number;
  readonly slots: number;
  readonly coords: Floats;
  readonly labels: Floats;
  readonly masks: Floats;
  readonly hasMask: Floats;
  /** Embeddings, row by row, and 1 for each row that has one; null where no prompt has text. */
  readonly text: { readonly embeddings: Floats; readonly hasText: Floats } | null;
}

/**
 * Check a prompt and arrange it in slots.
 *
 * @param embed - the embedding of a word.
 * @throws PromptError - labels that do not match, values that are not finite, points or boxes outside the photo, or
 *   prompts that the model's family does not know.
 */
export function arrange(prompt: Prompt, frame: Frame, embed: (word: string) => Floats = unknown): Slots {
  const { conventions } = frame;
  if (prompt.maskInput && !conventions.maskPrompts) {
    throw new PromptError("this model takes no mask prompts: leave out maskInput, and give points or a box");
  }
  const clicks = checkedClicks(prompt, frame);
  const corners = prompt.box ? checkedBox(prompt.box, frame) : null;
  const coords = clicks.map(([x, y]) => frame.toFrame([x, y]));
  const labels: number[] = clicks.map(([, , label]) => label);
  if (corners) {
    coords.push(...corners.map((corner) => frame.toFrame(corner)));
    labels.push(Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT);
  } else if (prompt.pointCoords !== undefined && conventions.slots === null) {
    coords.push([0, 0]);
    labels.push(Label.PADDING);
  }
  if (!labels.length) {
    coords.push([0, 0]);
    labels.push(Label.EMPTY);
  }
  checkKnown(labels, conventions);
  return {
    coords,
    labels,
    mask: prompt.maskInput ? checkedMask(prompt.maskInput, frame) : null,
    text: prompt.text === undefined ? null : checkedText(prompt.text, conventions, embed),
  };
}

function unknown(word: string): never {
  throw new PromptError(`nothing here knows the word ${quoted(word)}: give an embedding`);
}

function checkedText(text: string | Floats, { textChannels }: Conventions, embed: (word: string) => Floats): Floats {
  if (textChannels === null) {
    throw new PromptError(
      "this model takes no text: give points, a box or a mask, or a bundle that was exported with `--words`",
    );
  }
  const embedding = typeof text === "string" ? embed(text) : text;
  if (embedding.length !== textChannels) {
    throw new PromptError(
      `the embedding of the text has ${embedding.length} numbers; this model takes ${textChannels}`,
    );
  }
  if (!embedding.every(Number.isFinite)) {
    throw new PromptError("the embedding of the text holds values that are not finite; embed the text again");
  }
  return embedding;
}

/** Refuse points outside of objects, and more slots, where the family does not know them. */
function checkKnown(labels: readonly number[], { backgroundPoints, slots }: Conventions): void {
  if (!backgroundPoints && labels.includes(Label.BACKGROUND)) {
    throw new PromptError(
      "this model knows no points outside the object (label 0): give points inside it (label 1) or a box",
    );
  }
  if (slots !== null && labels.length > slots) {
    throw new PromptError(
      `the prompt needs ${labels.length} slots, and this model has ${slots} (a point takes one, a box two): give fewer ` +
        "points",
    );
  }
}

function checkedClicks({ pointCoords, pointLabels }: Prompt, { original }: Frame): [number, number, number][] {
  if (pointCoords === undefined && pointLabels === undefined) return [];
  if (pointCoords === undefined) {
    throw new PromptError("pointLabels is given without pointCoords; give both or neither");
  }
  if (pointLabels === undefined) {
    throw new PromptError("pointCoords is given without pointLabels; give each point a label: 1 inside, 0 outside");
  }
  if (pointLabels.length !== pointCoords.length) {
    throw new PromptError(
      `${pointLabels.length} pointLabels do not match ${pointCoords.length} pointCoords; give one label for each point`,
    );
  }
  return pointCoords.map(([x, y], index) => {
    const label = pointLabels[index]!;
    if (label !== Label.BACKGROUND && label !== Label.FOREGROUND) {
      throw new PromptError(`point label ${label} is not one of 0, 1; 1 is inside the object, 0 outside`);
    }
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      throw new PromptError(`point (${x}, ${y}) is not finite; give pixel positions`);
    }
    const { width, height } = original;
    if (x < 0 || y < 0 || x > width || y > height) {
      throw new PromptError(
        `point (${x}, ${y}) lies outside the photo of ${width}x${height} pixels; x runs from 0 to ${width}, y from 0 to ` +
          `${height}; move it inside or leave it out`,
      );
    }
    return [x, y, label];
  });
}

function checkedBox(box: readonly number[], { original }: Frame): [number, number][] {
  const [x0, y0, x1, y1] = box as [number, number, number, number];
  const what = `box (${box.join(", ")})`;
  if (box.length !== 4) throw new PromptError(`${what} has ${box.length} numbers; give x0, y0, x1, y1`);
  if (!box.every((value) => Math.abs(value) <= FARTHEST)) {
    throw new PromptError(`${what} is not finite or larger than any photo; give pixel positions`);
  }
  if (x1 <= x0 || y1 <= y0) {
    throw new PromptError(`${what} has no area; give x0, y0, x1, y1 with x0 < x1 and y0 < y1, or leave it out`);
  }
  const { width, height } = original;
  if (x1 <= 0 || y1 <= 0 || x0 >= width || y0 >= height) {
    throw new PromptError(`${what} lies outside the photo of ${width}x${height} pixels; it must overlap it`);
  }
  return [
    [x0, y0],
    [x1, y1],
  ];
}

function checkedMask(mask: Floats, frame: Frame): Floats {
  const { height, width } = frame.cells;
  if (mask.length !== height * width) {
    throw new PromptError(
      `maskInput has ${mask.length} logits where this frame takes ${height} x ${width}; pass on one of lowRes of an ` +
        "earlier prediction",
    );
  }
  if (!mask.every(Number.isFinite)) {
    throw new PromptError("maskInput holds values that are not finite; pass on the logits of an earlier prediction");
  }
  return mask;
}

/**
 * The decoder calls for all prompts, in order.
 *
 * @throws PromptError - a prompt needs more slots than the decoder has.
 */
export function* feeds(
  prompts: readonly Slots[],
  { prompts: rows, points }: Pick<Manifest, "prompts" | "points">,
  frame: Frame,
): Generator<Feed> {
  const needed = Math.max(0, ...prompts.map((each) => each.labels.length));
  if (points !== null && needed > points) {
    throw new PromptError(
      `the prompt needs ${needed} slots and this decoder has ${points} (a click takes one, a box two, and clicks ` +
        `without a box one more); give fewer points or export with --points ${needed}`,
    );
  }
  const { height, width } = frame.cells;
  const cells = height * width;
  for (let start = 0; start < prompts.length;) {
    const part = prompts.slice(start, start + (rows ?? LARGEST_CHUNK));
    const [count, slots] = [rows ?? part.length, points ?? needed];
    const feed: Feed = {
      rows: count,
      count: part.length,
      slots,
      coords: new Float32Array(count * slots * 2),
      labels: new Float32Array(count * slots).fill(Label.EMPTY),
      masks: new Float32Array(count * cells),
      hasMask: new Float32Array(count),
      text: textOf(part, count),
    };
    part.forEach((each, row) => {
      feed.coords.set(each.coords.flat(), row * slots * 2);
      feed.labels.set(each.labels, row * slots);
      if (each.mask) {
        feed.masks.set(each.mask, row * cells);
        feed.hasMask[row] = 1;
      }
    });
    yield feed;
    start += part.length;
  }
}

/** The text of the prompts in a call of `rows`. */
function textOf(prompts: readonly Slots[], rows: number): Feed["text"] {
  const channels = prompts.find(({ text }) => text)?.text?.length;
  if (channels === undefined) return null;
  const text = { embeddings: new Float32Array(rows * channels), hasText: new Float32Array(rows) };
  prompts.forEach((each, row) => {
    if (!each.text) return;
    text.embeddings.set(each.text, row * channels);
    text.hasText[row] = 1;
  });
  return text;
}
