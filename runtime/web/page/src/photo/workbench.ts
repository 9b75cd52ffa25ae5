/** The photo in hand and the masks on it: what the photo page and the annotation tool share. */

import { batch, computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import type { Answer, Candidate, PhotoSource, Report } from "../engine/engine.ts";
import { isAbort, lineOf, PageError } from "../errors.ts";
import { area, type Runs } from "../masks/runs.ts";
import { emptyMask, painted, type Stroke } from "../masks/strokes.ts";
import {
  chosen,
  EMPTY_DRAFT,
  isEmpty,
  named,
  prompt as promptOf,
  refined,
  shownIndex,
  withBox,
  withPoint,
  withStroke,
  type Box,
  type Choice,
  type Draft,
  type Point,
  type Prompt,
} from "../prompt/draft.ts";
import { pushed, redone, timeline, undone, type Timeline } from "../prompt/timeline.ts";
import type { Place, Session, SessionBundle } from "../session.ts";
import { colourOf, foundText, nextId, titleOf, withFound, withNamed, type Layer, type Named } from "./layers.ts";
import { decodePicture, type Picture } from "./picture.ts";
import { counted, describe, type Current } from "./said.ts";
import { makeEngine, placeFor, Station, type MakeEngine } from "./station.ts";

/** What undo takes back. */
export interface Doc {
  readonly draft: Draft;
  readonly layers: readonly Layer[];
  /** Id of the selected layer. */
  readonly selected: number | null;
}

/** Work that the person waits for; `share` is 0..1, or null where nobody can tell. */
export interface Work {
  readonly step: string;
  readonly share: number | null;
}

const EMPTY_DOC: Doc = { draft: EMPTY_DRAFT, layers: [], selected: null };

export class Workbench {
  readonly session: Session;
  readonly picture = signal<Picture | null>(null);
  readonly station = signal<Station | null>(null);
  /** The second bundle, if one is compared. */
  readonly rival = signal<Station | null>(null);
  readonly line = signal<Timeline<Doc>>(timeline(EMPTY_DOC));
  readonly hover = signal<{ readonly point: Point; readonly mask: Runs } | null>(null);
  readonly answer = signal<Answer | null>(null);
  readonly rivalAnswer = signal<Answer | null>(null);
  readonly work = signal<Work | null>(null);
  readonly problem = signal<string | null>(null);
  /** What a screen reader is told. */
  readonly said = signal("");
  readonly doc: ReadonlySignal<Doc> = computed(() => this.line.value.present);
  readonly draft: ReadonlySignal<Draft> = computed(() => this.doc.value.draft);
  readonly current: ReadonlySignal<Current | null> = computed(() => this.#currentOf(this.answer.value));
  readonly rivalCurrent: ReadonlySignal<Current | null> = computed(() => this.#currentOf(this.rivalAnswer.value));
  readonly ready: ReadonlySignal<boolean> = computed(
    () => this.picture.value !== null && this.station.value?.ready.value === true,
  );
  readonly #make: MakeEngine;
  #opening = new AbortController();

  constructor(session: Session, make: MakeEngine = makeEngine) {
    this.session = session;
    this.#make = make;
    effect(() => this.#ask(this.draft.value.prompt));
  }

  /** Loads a bundle in place of the one in use, and the photo into it. */
  async use(bundle: SessionBundle, wanted: Place): Promise<void> {
    const before = this.station.value;
    const station = new Station(bundle, this.#make(bundle, placeFor(bundle, wanted)));
    before?.close();
    this.station.value = station;
    this.answer.value = null;
    this.hover.value = null;
    const picture = this.picture.value;
    await this.#busy(async (report, abort) => {
      if (picture === null) await station.engine.prepare(report);
      else await station.setImage(picture.source, report, abort);
      if (this.station.value === station) station.info.value = station.engine.info;
    });
    if (picture !== null && this.station.value === station) this.#ask(this.draft.value.prompt);
  }

  /** Compares with a second bundle, or with none. */
  async compare(bundle: SessionBundle | null): Promise<void> {
    this.rival.value?.close();
    this.rivalAnswer.value = null;
    if (bundle === null) {
      this.rival.value = null;
      return;
    }
    const place = placeFor(bundle, this.station.value?.engine.info.place ?? this.session.engine);
    const rival = new Station(bundle, this.#make(bundle, place));
    this.rival.value = rival;
    const picture = this.picture.value;
    if (picture === null) return;
    await this.#busy((report, abort) => rival.setImage(picture.source, report, abort));
    if (this.rival.value !== rival || !rival.ready.value) return;
    this.say(`Compared with ${bundle.title}`);
    this.#askRival(this.draft.value.prompt);
  }

  /** Shows and encodes a photo. What was on the one before is gone. */
  async open(source: PhotoSource): Promise<boolean> {
    this.#opening.abort();
    const opened = await this.#busy(async (report, abort) => {
      report(`Opening ${source.name}`, null);
      if (source.file.size > this.session.limits.uploadBytes) {
        throw new PageError(`${source.name} has ${source.file.size} bytes, too many to send: scale it down`);
      }
      const picture = await decodePicture(source, this.session.limits.photoPixels);
      abort.throwIfAborted();
      batch(() => {
        this.#show(picture);
        this.problem.value = null;
      });
      const station = this.station.value;
      if (station === null) throw new PageError("No bundle is loaded: reload the page");
      await station.setImage(source, report, abort);
      await this.rival.value?.setImage(source, report, abort);
      this.say(`${source.name} is ready, ${picture.width} by ${picture.height} pixels`);
    });
    if (opened) this.#ask(this.draft.value.prompt);
    return opened;
  }

  /** Forgets the photo. */
  closePhoto(): void {
    this.#opening.abort();
    this.#show(null);
  }

  /** Puts a photo, or none, in the place of the one before, with nothing on it. */
  #show(picture: Picture | null): void {
    batch(() => {
      this.picture.value?.bitmap.close();
      this.picture.value = picture;
      this.line.value = timeline(EMPTY_DOC);
      this.answer.value = null;
      this.rivalAnswer.value = null;
      this.hover.value = null;
    });
  }

  /** Shows the mask under the pointer; null where the pointer is not on the photo. */
  hoverAt(point: Point | null): void {
    const station = this.station.value;
    if (point === null || station === null || !this.ready.value || !isEmpty(this.draft.value)) {
      station?.drop("hover");
      if (this.#isAnswered) this.hover.value = null;
      return;
    }
    const asked = promptOf([point], null, null);
    station.ask(
      "hover",
      asked,
      (answer) => {
        if (!isEmpty(this.draft.value)) return;
        const mask = answer.candidates[0]?.mask;
        this.hover.value = mask === undefined ? null : { point, mask };
      },
      (error) => this.fail(error),
    );
  }

  click(point: Point): void {
    if (!this.ready.value) return;
    const { hover } = this;
    const previewed = point.label === 1 ? hover.value : null;
    batch(() => {
      this.setDraft(withPoint(this.draft.value, point, this.current.value?.lowRes ?? null));
      hover.value = previewed; // stays until the click is answered
    });
  }

  box(box: Box): void {
    if (this.ready.value) this.setDraft(withBox(this.draft.value, box));
  }

  stroke(stroke: Stroke): void {
    if (this.picture.value !== null) this.setDraft(withStroke(this.draft.value, stroke));
  }

  choose(choice: Choice): void {
    this.setDraft(chosen(this.draft.value, choice));
  }

  refine(): void {
    const shown = this.current.value?.lowRes;
    if (shown) this.setDraft(refined(this.draft.value, shown));
  }

  /** Gives the mask in hand up. */
  clear(): void {
    if (!isEmpty(this.draft.value)) this.setDraft(EMPTY_DRAFT);
  }

  /** The mask in hand as the layer that it would become; null without one. */
  layerInHand(): Layer | null {
    const current = this.current.value;
    if (current === null || area(current.mask) === 0) return null;
    const id = nextId(this.doc.value.layers);
    return {
      id,
      name: "",
      colour: colourOf(id),
      mask: current.mask,
      predictedIou: current.predictedIou,
      stabilityScore: 1,
      points: this.pointsInside(),
      visible: true,
    };
  }

  /** Keeps the mask in hand as a layer and begins a new one. Returns whether there was a mask. */
  keep(): boolean {
    const layer = this.layerInHand();
    if (layer === null) return false;
    this.push({ draft: EMPTY_DRAFT, layers: [...this.doc.value.layers, layer], selected: null });
    this.say(`${titleOf(layer)} kept, ${counted(this.doc.value.layers.length, "layer")}`);
    return true;
  }

  /** Adds everything that the engine finds as layers. */
  async everything(): Promise<void> {
    const station = this.station.value;
    if (station === null || !this.ready.value) return;
    const picture = this.picture.value;
    await this.#busy(async (report, abort) => {
      const found = await station.engine.generate(report, abort);
      if (this.picture.value !== picture) return;
      const { layers } = this.doc.value;
      const all = withFound(layers, found);
      this.push({ draft: EMPTY_DRAFT, layers: all, selected: null });
      this.say(`${counted(all.length - layers.length, "mask")} found`);
    });
  }

  /**
   * Adds what each word names as a layer of that name; with clicks or a box in hand, the thing there.
   *
   * Returns what was found, in words; null where it was stopped or failed.
   */
  async find(words: readonly string[]): Promise<string | null> {
    const station = this.station.value;
    if (station === null || !this.ready.value) return null;
    const picture = this.picture.value;
    const points = this.pointsInside();
    const inHand = this.draft.value.prompt;
    let told = "";
    const whole = await this.#busy(async (report, abort) => {
      const found: Named[] = [];
      for (const word of words) {
        report(`Looking for ${word}`, null);
        found.push({ word, answer: await station.engine.predict(named(word, inHand), "click") });
        abort.throwIfAborted();
      }
      if (this.picture.value !== picture) return;
      const { layers } = this.doc.value;
      const all = withNamed(layers, found, points);
      if (all.length > layers.length) this.push({ draft: EMPTY_DRAFT, layers: all, selected: null });
      told = found.map(foundText).join("; ");
      this.say(told);
    });
    return whole ? told : null;
  }

  /** Stops what the person waits for. */
  stop(): void {
    this.#opening.abort();
  }

  changeLayer(id: number, change: Partial<Pick<Layer, "name" | "colour" | "visible">>): void {
    const doc = this.doc.value;
    this.push({ ...doc, layers: doc.layers.map((layer) => (layer.id === id ? { ...layer, ...change } : layer)) });
  }

  removeLayer(id: number): void {
    const doc = this.doc.value;
    const layers = doc.layers.filter((layer) => layer.id !== id);
    this.push({ ...doc, layers, selected: null });
    this.say(`Layer removed, ${counted(layers.length, "layer")} left`);
  }

  removeAllLayers(): void {
    this.push({ ...this.doc.value, layers: [], selected: null });
    this.say("All layers removed");
  }

  /** Selects a layer. Selecting is no step of the history. */
  select(id: number | null): void {
    const line = this.line.value;
    this.line.value = { ...line, present: { ...line.present, selected: id } };
  }

  undo(): void {
    this.#travel(undone(this.line.value), "Undone");
  }

  redo(): void {
    this.#travel(redone(this.line.value), "Redone");
  }

  setDraft(draft: Draft): void {
    this.push({ ...this.doc.value, draft });
  }

  /** Begins the history anew with this draft. */
  restart(draft: Draft): void {
    this.line.value = timeline({ ...EMPTY_DOC, draft });
  }

  push(doc: Doc): void {
    batch(() => {
      this.line.value = pushed(this.line.value, doc);
      this.hover.value = null;
    });
    this.station.value?.drop("hover");
  }

  /** Clicks inside the object, as records name them. */
  pointsInside(): readonly (readonly [number, number])[] {
    return (this.draft.value.prompt?.points ?? [])
      .filter(({ label }) => label === 1)
      .map(({ x, y }) => [x, y] as const);
  }

  /** Tells a screen reader, also where it has been told the same before. */
  say(text: string): void {
    this.said.value = this.said.peek() === text ? `${text}\u00a0` : text;
  }

  fail(error: unknown): void {
    if (isAbort(error)) return;
    this.problem.value = lineOf(error);
  }

  /** Whether the mask in hand, if there is a prompt for one, has come. */
  get #isAnswered(): boolean {
    return this.draft.value.prompt === null || this.current.value !== null;
  }

  #travel(line: Timeline<Doc>, word: string): void {
    if (line === this.line.value) return;
    this.say(word); // before the mask that comes back is told
    this.line.value = line;
    this.hover.value = null;
  }

  #currentOf(answer: Answer | null): Current | null {
    const draft = this.draft.value;
    const picture = this.picture.value;
    if (picture === null || isEmpty(draft)) return null;
    const candidates = draft.prompt === null ? [] : (answer?.candidates ?? []);
    const index = shownIndex(
      candidates.map((each) => each.predictedIou),
      draft.choice,
    );
    const candidate: Candidate | undefined = candidates[index];
    if (candidate === undefined && draft.prompt !== null) return null;
    const base = candidate?.mask ?? emptyMask(picture.width, picture.height);
    return {
      mask: painted(base, draft.strokes),
      predictedIou: candidate?.predictedIou ?? 1,
      lowRes: candidate?.lowRes ?? null,
      index: candidate === undefined ? -1 : index,
    };
  }

  /** Brings the answer to the prompt of the draft onto the screen. The last one stays until it is there. */
  #ask(prompt: Prompt | null): void {
    const station = this.station.peek();
    if (prompt === null) {
      this.answer.value = null;
      this.rivalAnswer.value = null;
      station?.drop("click");
      return;
    }
    if (station === null || !this.ready.peek()) return;
    const known = station.known(prompt);
    if (known !== null) this.#showAnswer(known);
    else {
      station.ask(
        "click",
        prompt,
        (answer) => {
          if (this.draft.peek().prompt === prompt) this.#showAnswer(answer);
        },
        (error) => {
          this.hover.value = null;
          this.fail(error);
        },
      );
    }
    this.#askRival(prompt);
  }

  #askRival(prompt: Prompt | null): void {
    const rival = this.rival.peek();
    if (rival === null || prompt === null || !rival.ready.peek()) return;
    const known = rival.known(prompt);
    if (known !== null) {
      this.rivalAnswer.value = known;
      return;
    }
    rival.ask(
      "click",
      prompt,
      (answer) => {
        if (this.draft.peek().prompt === prompt) this.rivalAnswer.value = answer;
      },
      (error) => this.fail(error),
    );
  }

  #showAnswer(answer: Answer): void {
    this.hover.value = null;
    const picture = this.picture.peek();
    const size = answer.candidates[0]?.mask;
    if (picture !== null && size !== undefined && (size.width !== picture.width || size.height !== picture.height)) {
      this.fail(
        new PageError("The engine reads this photo turned otherwise than the browser: save it without EXIF data"),
      );
      return;
    }
    this.answer.value = answer;
    this.problem.value = null;
    const current = this.current.peek();
    if (current !== null) this.say(describe(current, answer, this.picture.peek()));
  }

  /** Runs what the person waits for. Returns whether it came to its end. */
  async #busy(task: (report: Report, abort: AbortSignal) => Promise<void>): Promise<boolean> {
    const own = new AbortController();
    this.#opening = own;
    try {
      await task((step, share) => {
        if (own.signal.aborted) return;
        if (this.work.peek()?.step !== step) this.say(step);
        this.work.value = { step, share };
      }, own.signal);
      return !own.signal.aborted;
    } catch (error) {
      if (!own.signal.aborted) this.fail(error);
      return false;
    } finally {
      if (this.#opening === own) this.work.value = null;
    }
  }
}
