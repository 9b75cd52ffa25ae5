/** The mask in hand: what the person has clicked, drawn and chosen, as an immutable value. */

import type { LowRes } from "../engine/engine.ts";
import type { Stroke } from "../masks/strokes.ts";

/** x, y in pixels of the photo; label 1 inside the object and 0 outside. */
export interface Point {
  readonly x: number;
  readonly y: number;
  readonly label: 0 | 1;
}

export interface Box {
  readonly x0: number;
  readonly y0: number;
  readonly x1: number;
  readonly y1: number;
}

/** Index of a candidate: whole, part, subpart. */
export type Choice = 0 | 1 | 2;

/** What the model is asked. Equal questions are the same object, so that answers can be kept by it. */
export interface Prompt {
  readonly points: readonly Point[];
  readonly box: Box | null;
  /** Logits of the mask that this prompt refines. */
  readonly previous: LowRes | null;
  /** A word that names what is wanted. */
  readonly text: string | null;
  /** Three candidates, or the one mask that suits many clicks. */
  readonly multimask: boolean;
}

export interface Draft {
  /** Null before the first click and for a mask that is only painted. */
  readonly prompt: Prompt | null;
  /** The candidate that the person chose; null leaves the choice to the model. */
  readonly choice: Choice | null;
  readonly strokes: readonly Stroke[];
}

export const EMPTY_DRAFT: Draft = { prompt: null, choice: null, strokes: [] };

export function isEmpty(draft: Draft): boolean {
  return draft.prompt === null && draft.strokes.length === 0;
}

/** A prompt whose meaning is ambiguous gets three candidates: one point, and nothing else. */
export function prompt(points: readonly Point[], box: Box | null, previous: LowRes | null): Prompt {
  return { points, box, previous, text: null, multimask: points.length === 1 && box === null && previous === null };
}

/** All that a word names; with a prompt, the thing there. */
export function named(text: string, at: Prompt | null): Prompt {
  return { points: at?.points ?? [], box: at?.box ?? null, previous: null, text, multimask: false };
}

/** One more click. `shown` is the logits of the mask on the screen: the click corrects that one. */
export function withPoint(draft: Draft, point: Point, shown: LowRes | null): Draft {
  const { points, box } = parts(draft);
  return { ...draft, prompt: prompt([...points, point], box, shown), choice: null };
}

/** A box in place of the last one. It starts anew: earlier logits are of another region. */
export function withBox(draft: Draft, box: Box): Draft {
  return { ...draft, prompt: prompt(parts(draft).points, box, null), choice: null };
}

/** The same question once more, with its answer as a mask prompt. */
export function refined(draft: Draft, shown: LowRes): Draft {
  const { points, box } = parts(draft);
  return { ...draft, prompt: prompt(points, box, shown), choice: null };
}

/** Whole, part or subpart: asks for three candidates where only one mask had been asked for. */
export function chosen(draft: Draft, choice: Choice): Draft {
  if (draft.prompt === null) return draft;
  if (draft.prompt.multimask) return draft.choice === choice ? draft : { ...draft, choice };
  return { ...draft, prompt: { ...draft.prompt, multimask: true }, choice };
}

export function withStroke(draft: Draft, stroke: Stroke): Draft {
  return { ...draft, strokes: [...draft.strokes, stroke] };
}

/** Index of the mask to show: the person's choice, else the highest predicted IoU. -1 if there is none. */
export function shownIndex(predictedIous: readonly number[], choice: Choice | null): number {
  if (choice !== null && predictedIous.length === 3) return choice;
  return predictedIous.indexOf(Math.max(...predictedIous));
}

/** A box from two corners in any order, within the photo; null if it has no area. */
export function boxBetween(
  a: { x: number; y: number },
  b: { x: number; y: number },
  width: number,
  height: number,
): Box | null {
  const clip = (value: number, most: number): number => Math.min(most, Math.max(0, value));
  const box = {
    x0: clip(Math.min(a.x, b.x), width),
    y0: clip(Math.min(a.y, b.y), height),
    x1: clip(Math.max(a.x, b.x), width),
    y1: clip(Math.max(a.y, b.y), height),
  };
  return box.x1 - box.x0 < 1 || box.y1 - box.y0 < 1 ? null : box;
}

function parts(draft: Draft): { points: readonly Point[]; box: Box | null } {
  return { points: draft.prompt?.points ?? [], box: draft.prompt?.box ?? null };
}
