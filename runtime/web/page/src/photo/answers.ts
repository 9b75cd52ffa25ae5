/** Answers of one engine, kept by their prompt: undo and redo need no second question. */

import type { Answer } from "../engine/engine.ts";
import type { Prompt } from "../prompt/draft.ts";

/** An answer on a large photo takes megabytes. */
const KEPT = 24;

export class Answers {
  readonly #kept = new Map<Prompt, Answer>();

  get(prompt: Prompt): Answer | null {
    return this.#kept.get(prompt) ?? null;
  }

  set(prompt: Prompt, answer: Answer): void {
    this.#kept.delete(prompt);
    this.#kept.set(prompt, answer);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT) break;
      this.#kept.delete(oldest);
    }
  }

  clear(): void {
    this.#kept.clear();
  }
}
