/** An engine with the photo that it holds, its answers and its pace. */

import { signal, type Signal } from "@preact/signals";
import { BrowserEngine } from "../engine/browser.ts";
import type { Answer, Engine, EngineInfo, PhotoSource, Report } from "../engine/engine.ts";
import { Pace, type Kind } from "../engine/pace.ts";
import { ServerEngine } from "../engine/server.ts";
import type { Prompt } from "../prompt/draft.ts";
import type { Place, SessionBundle } from "../session.ts";
import { Answers } from "./answers.ts";

export type MakeEngine = (bundle: SessionBundle, place: Place) => Engine;

export const makeEngine: MakeEngine = (bundle, place) =>
  place === "browser" ? new BrowserEngine(bundle) : new ServerEngine(bundle);

/** The wanted place if the bundle runs there, else the one where it does. */
export function placeFor(bundle: SessionBundle, wanted: Place): Place {
  return bundle.engines.includes(wanted) ? wanted : (bundle.engines[0] ?? wanted);
}

export class Station {
  readonly bundle: SessionBundle;
  readonly engine: Engine;
  readonly info: Signal<EngineInfo>;
  /** Milliseconds of the last photo and of the last click; null before. */
  readonly encodeMs = signal<number | null>(null);
  readonly clickMs = signal<number | null>(null);
  readonly ready = signal(false);
  readonly #answers = new Answers();
  readonly #pace = new Pace();
  #photo: PhotoSource | null = null;

  constructor(bundle: SessionBundle, engine: Engine) {
    this.bundle = bundle;
    this.engine = engine;
    this.info = signal(engine.info);
  }

  /** Encodes a photo. What was asked about the one before is forgotten. */
  async setImage(source: PhotoSource, report: Report, abort: AbortSignal): Promise<void> {
    this.ready.value = false;
    this.#photo = source;
    this.#pace.drop("all");
    this.#answers.clear();
    const ms = await this.engine.setImage(source, report, abort);
    if (this.#photo !== source) return;
    this.encodeMs.value = ms;
    this.info.value = this.engine.info;
    this.ready.value = true;
  }

  /** The answer to a prompt, if it is known. */
  known(prompt: Prompt): Answer | null {
    return this.#answers.get(prompt);
  }

  /** Asks at the engine's pace. A click's answer is kept. */
  ask(kind: Kind, prompt: Prompt, answered: (answer: Answer) => void, failed: (error: unknown) => void): void {
    const photo = this.#photo;
    this.#pace.ask(kind, async () => {
      try {
        const answer = await this.engine.predict(prompt, kind);
        if (this.#photo !== photo) return;
        if (kind === "click") {
          this.clickMs.value = answer.ms;
          this.#answers.set(prompt, answer);
        }
        answered(answer);
      } catch (error) {
        if (this.#photo === photo) failed(error);
      }
    });
  }

  drop(kind: Kind | "all"): void {
    this.#pace.drop(kind);
  }

  close(): void {
    this.#photo = null;
    this.#pace.drop("all");
    this.engine.close();
  }
}
