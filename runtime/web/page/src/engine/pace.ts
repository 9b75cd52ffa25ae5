/**
 * Questions at the pace of the engine: one is asked at a time, and of those that wait only the newest of each kind stays.
 *
 * So a pointer that moves faster than the engine answers never builds a queue, and a click waits for one hover at most.
 */

export type Kind = "click" | "hover";

interface Waiting {
  readonly ask: () => Promise<void>;
}

export class Pace {
  #busy = false;
  #click: Waiting | null = null;
  #hover: Waiting | null = null;

  /** Asks as soon as the engine is free. An earlier question of the kind that still waits is dropped. */
  ask(kind: Kind, ask: () => Promise<void>): void {
    if (kind === "click") {
      this.#click = { ask };
      this.#hover = null;
    } else this.#hover = { ask };
    if (!this.#busy) void this.#work();
  }

  /** Drops what waits. What is being answered goes on. */
  drop(kind: Kind | "all"): void {
    if (kind !== "hover") this.#click = null;
    if (kind !== "click") this.#hover = null;
  }

  /** Whether a question is being answered. */
  get busy(): boolean {
    return this.#busy;
  }

  async #work(): Promise<void> {
    this.#busy = true;
    try {
      for (let next = this.#take(); next !== null; next = this.#take()) await next.ask().catch(ignored);
    } finally {
      this.#busy = false;
    }
  }

  #take(): Waiting | null {
    const next = this.#click ?? this.#hover;
    if (next !== null && next === this.#click) this.#click = null;
    else this.#hover = null;
    return next;
  }
}

/** Whoever asks handles its own errors; the pace goes on after them. */
function ignored(): void {
  // Nothing to do here.
}
