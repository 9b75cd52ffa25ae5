/** Keys of the whole page, and their list for the help. */

import type { Choice } from "../prompt/draft.ts";

export interface Actions {
  undo(): void;
  redo(): void;
  /** Keeps the mask and begins the next. */
  next(): void;
  escape(): void;
  choose(choice: Choice): void;
  toggleMasks(): void;
  flip(): void;
  refine(): void;
  everything(): void;
  tool(tool: "point" | "brush" | "eraser" | "hand"): void;
  brush(factor: number): void;
  zoom(direction: 1 | -1 | 0): void;
  help(): void;
  /** Goes on to the next photo; only where there is a queue. */
  nextPhoto?(): void;
}

export const KEYS: readonly (readonly [string, string])[] = [
  ["Click", "add to the mask; right click or long press takes away"],
  ["Drag", "draw a box"],
  ["Z · Y", "undo · redo"],
  ["1 2 3", "whole, part, subpart"],
  ["N", "keep the mask, begin the next"],
  ["R", "refine the mask once more"],
  ["E", "everything in the photo"],
  ["X", "swap adding and taking away"],
  ["P B D H", "points, brush, eraser, hand"],
  ["[ ]", "smaller, larger brush"],
  ["+ − 0", "zoom in, out, whole photo"],
  ["Space", "hide or show the masks"],
  ["Arrows, Enter", "move the crosshair on the photo, add a point; Shift+Enter takes away"],
  ["M, Enter", "begin a box at the crosshair, end it"],
  ["Esc", "give the mask up"],
];

/** Calls the action of a key. Returns whether the key has one. */
export function actOn(event: KeyboardEvent, actions: Actions): boolean {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && event.shiftKey) actions.redo();
    else if (key === "z") actions.undo();
    else if (key === "y") actions.redo();
    else return false;
    return true;
  }
  if (event.altKey) return false;
  switch (key) {
    case "z":
      if (event.shiftKey) actions.redo();
      else actions.undo();
      return true;
    case "n":
      if (event.shiftKey) actions.nextPhoto?.();
      else actions.next();
      return true;
    case "1":
    case "2":
    case "3":
      actions.choose((Number(key) - 1) as Choice);
      return true;
    case "+":
    case "=":
      actions.zoom(1);
      return true;
    case "-":
      actions.zoom(-1);
      return true;
  }
  const simple: Readonly<Record<string, () => void>> = {
    y: () => actions.redo(),
    Escape: () => actions.escape(),
    " ": () => actions.toggleMasks(),
    x: () => actions.flip(),
    r: () => actions.refine(),
    e: () => actions.everything(),
    p: () => actions.tool("point"),
    b: () => actions.tool("brush"),
    d: () => actions.tool("eraser"),
    h: () => actions.tool("hand"),
    "[": () => actions.brush(1 / 1.2),
    "]": () => actions.brush(1.2),
    "0": () => actions.zoom(0),
    "?": () => actions.help(),
  };
  const action = simple[key];
  action?.();
  return action !== undefined;
}

/** Keys that act once, however long they are held. */
const ONCE: ReadonlySet<string> = new Set(["n", "e", "r", "x", " ", "Escape"]);

/** Listens to the page's keys, but not while somebody types or presses a button. Returns how to stop. */
export function listenToKeys(actions: Actions): () => void {
  const listen = (event: KeyboardEvent): void => {
    if (event.defaultPrevented || isTyping(event.target)) return;
    if (event.key === " " && event.target instanceof HTMLElement && event.target.closest("button, summary, a") !== null)
      return;
    if (document.querySelector("dialog[open]") !== null) return;
    if (event.repeat && ONCE.has(event.key.length === 1 ? event.key.toLowerCase() : event.key)) {
      event.preventDefault();
      return;
    }
    if (actOn(event, actions)) event.preventDefault();
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
}

function isTyping(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "range"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}
