/** The mask in hand, kept in this browser until the server has it: a tab that dies loses the last stroke at most. */

import { fromBase64, toBase64 } from "../engine/api.ts";
import type { LowRes } from "../engine/engine.ts";
import type { Draft, Prompt } from "../prompt/draft.ts";
import { read, write } from "../stored.ts";

export interface Unsaved {
  /** Key of the photo in the queue. */
  readonly photo: string;
  /** Id of the request that will save it, so that it is saved once. */
  readonly request: string;
  readonly name: string;
  /** Seconds that it took so far. */
  readonly seconds: number;
  readonly draft: Draft;
}

const STORED = "sam-edge-unsaved";

export function keepUnsaved(unsaved: Unsaved | null): void {
  if (unsaved === null) {
    write(STORED, null);
    return;
  }
  const { prompt } = unsaved.draft;
  const previous = prompt?.previous ?? null;
  const stored = previous === null ? null : { ...previous, data: toBase64(previous.data) };
  const text = JSON.stringify({
    ...unsaved,
    draft: { ...unsaved.draft, prompt: prompt && { ...prompt, previous: stored } },
  });
  if (write(STORED, text)) return;
  // Without room for logits: clicks and strokes are what the person made.
  write(
    STORED,
    JSON.stringify({ ...unsaved, draft: { ...unsaved.draft, prompt: prompt && { ...prompt, previous: null } } }),
  );
}

/** What was in hand on this photo when the page went away; null if nothing was, or it cannot be read. */
export function findUnsaved(photo: string): Unsaved | null {
  const text = read(STORED);
  if (text === null) return null;
  try {
    const stored = JSON.parse(text) as Unsaved;
    if (stored.photo !== photo || typeof stored.request !== "string" || typeof stored.name !== "string") return null;
    if (!(stored.seconds >= 0)) return null;
    return { ...stored, draft: draftOf(stored.draft) };
  } catch {
    return null;
  }
}

function draftOf(stored: Draft): Draft {
  const { prompt, choice, strokes } = stored;
  if (!Array.isArray(strokes) || !strokes.every(({ points, radius }) => Array.isArray(points) && radius > 0)) {
    throw new TypeError("no strokes");
  }
  return { prompt: prompt === null ? null : promptOf(prompt), choice: choice ?? null, strokes };
}

function promptOf(stored: Prompt): Prompt {
  const { points, box, previous, multimask } = stored;
  if (!points.every(({ x, y, label }) => Number.isFinite(x + y) && (label === 0 || label === 1))) {
    throw new TypeError("no points");
  }
  return { points, box, multimask, text: null, previous: previous === null ? null : lowResOf(previous) };
}

function lowResOf(stored: LowRes): LowRes {
  const { height, width } = stored;
  return { height, width, data: fromBase64(stored.data as unknown as string, height * width) };
}
