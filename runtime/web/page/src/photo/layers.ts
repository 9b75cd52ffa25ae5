/** Masks that are kept: layers with names and colours. */

import type { Answer, Found } from "../engine/engine.ts";
import { area, iou, type Runs } from "../masks/runs.ts";

export interface Layer {
  readonly id: number;
  readonly name: string;
  /** `#rrggbb`. */
  readonly colour: string;
  readonly mask: Runs;
  readonly predictedIou: number;
  /** 1 for a mask that a person made. */
  readonly stabilityScore: number;
  /** Points that prompted it, x, y. */
  readonly points: readonly (readonly [number, number])[];
  readonly visible: boolean;
}

/** Colours that are told apart in light and dark and with colour blindness (Okabe and Ito, 2008, and tints of them). */
export const PALETTE: readonly string[] = [
  "#0091d5",
  "#e69f00",
  "#00a878",
  "#d55e9c",
  "#d2541b",
  "#7a6ff0",
  "#5aaedc",
  "#b7b51e",
  "#1fa3a3",
  "#c2679b",
];

export function colourOf(id: number): string {
  return PALETTE[(id - 1) % PALETTE.length]!;
}

export function nextId(layers: readonly Layer[]): number {
  return layers.reduce((most, { id }) => Math.max(most, id), 0) + 1;
}

/** Layers of all masks that were found and that are not among the layers already (IoU up to 0.9). */
export function withFound(layers: readonly Layer[], found: readonly Found[]): readonly Layer[] {
  const first = nextId(layers);
  const added = found
    .filter(({ mask }) => layers.every((layer) => iou(layer.mask, mask) <= 0.9))
    .map((each, i) => ({
      id: first + i,
      name: "",
      colour: colourOf(first + i),
      mask: each.mask,
      predictedIou: each.predictedIou,
      stabilityScore: each.stabilityScore,
      points: [each.point],
      visible: true,
    }));
  return [...layers, ...added];
}

/** What a word found. */
export interface Named {
  readonly word: string;
  readonly answer: Answer;
}

/** A layer for each word whose mask is not empty. */
export function withNamed(
  layers: readonly Layer[],
  found: readonly Named[],
  points: Layer["points"],
): readonly Layer[] {
  const first = nextId(layers);
  const added = found
    .flatMap(({ word, answer }) => answer.candidates.slice(0, 1).map((candidate) => ({ word, ...candidate })))
    .filter(({ mask }) => area(mask) > 0)
    .map(({ word, mask, predictedIou }, i) => ({
      id: first + i,
      name: word,
      colour: colourOf(first + i),
      mask,
      predictedIou,
      stabilityScore: 1,
      points,
      visible: true,
    }));
  return [...layers, ...added];
}

/** "cat: 12 percent of the photo, 93 percent sure". */
export function foundText({ word, answer }: Named): string {
  const mask = answer.candidates[0]?.mask;
  if (mask === undefined || area(mask) === 0) return `no ${word} found`;
  const { objectScore } = answer;
  const sure = objectScore === null ? "" : `, ${Math.round(100 / (1 + Math.exp(-objectScore)))} percent sure`;
  return `${word}: ${Math.max(1, Math.round((100 * area(mask)) / (mask.width * mask.height)))} percent of the photo${sure}`;
}

/** What a layer is called where it has no name. */
export function titleOf(layer: Pick<Layer, "id" | "name">): string {
  return layer.name === "" ? `Layer ${layer.id}` : layer.name;
}

/** Layers with the largest first, so that small ones are drawn over them. */
export function largestFirst<T extends { readonly mask: Runs }>(layers: readonly T[]): readonly T[] {
  return layers
    .map((layer) => ({ layer, size: area(layer.mask) }))
    .sort((a, b) => b.size - a.size)
    .map(({ layer }) => layer);
}

/** Red, green and blue of `#rrggbb`, 0..255 each. */
export function rgbOf(colour: string): readonly [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
