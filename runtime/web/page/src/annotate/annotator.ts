/** One person at work on the queue: photo, saved masks, timers. */

import { batch, computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import { isOffline } from "../engine/api.ts";
import { PageError } from "../errors.ts";
import { area, fromCoco, toCoco, type Runs } from "../masks/runs.ts";
import { colourOf } from "../photo/layers.ts";
import type { Workbench } from "../photo/workbench.ts";
import { EMPTY_DRAFT, isEmpty } from "../prompt/draft.ts";
import type { AnnotateSession } from "../session.ts";
import * as api from "./api.ts";
import type { Grant, Hand, NewMask, QueuedPhoto, SavedMask } from "./api.ts";
import { Clock } from "./clock.ts";
import { findUnsaved, keepUnsaved } from "./unsaved.ts";

export interface Kept extends SavedMask {
  readonly runs: Runs;
  readonly colour: string;
}

/** Colour of masks that were there before people began. */
export const EXISTING_COLOUR = "#8b94a5";

export class Annotator {
  readonly bench: Workbench;
  readonly session: AnnotateSession;
  readonly name = signal("");
  readonly photo = signal<QueuedPhoto | null>(null);
  readonly masks = signal<readonly Kept[]>([]);
  /** Photos of the queue that are not done. */
  readonly left = signal<number | null>(null);
  /** Why there is no photo to work on; null while there is one, or before the first. */
  readonly finished = signal<"done" | "leased" | null>(null);
  /** Name of the mask in hand. */
  readonly maskName = signal("");
  readonly names = signal<readonly string[]>([]);
  readonly saving = signal(false);
  /** Whether the page offers the next photo, because this mask takes long. */
  readonly offer = signal(false);
  /** Number of the saved mask that is highlighted. */
  readonly picked = signal<number | null>(null);
  /** Seconds on the mask in hand and on the photo, as they are shown. */
  readonly maskSeconds = signal(0);
  readonly photoSeconds = signal(0);
  readonly canRedoMask: ReadonlySignal<boolean> = computed(() => this.#removed.value.length > 0);
  readonly #removed = signal<readonly SavedMask[]>([]);
  readonly #maskClock = new Clock();
  readonly #photoClock = new Clock();
  #lease: string | null = null;
  #request: string = crypto.randomUUID();
  #reported = 0;
  #declined = false;
  #beating = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(bench: Workbench, session: AnnotateSession) {
    this.bench = bench;
    this.session = session;
    this.names.value = session.names;
  }

  /** Starts timers and heartbeats. Returns how to stop them. */
  begin(): () => void {
    const ticking = setInterval(() => this.#tick(), 250);
    const beating = setInterval(() => void this.#beat(), 1000 * this.session.heartbeatSeconds);
    const stopKeeping = effect(() => this.#keep());
    const stop = new AbortController();
    const { signal: stopped } = stop;
    document.addEventListener("visibilitychange", () => this.#look(), { signal: stopped });
    addEventListener(
      "pagehide",
      () => {
        const photo = this.photo.peek();
        if (photo !== null && this.#lease !== null) api.releaseOnExit(photo.key, this.#lease);
      },
      { signal: stopped },
    );
    return () => {
      clearInterval(ticking);
      clearInterval(beating);
      stopKeeping();
      stop.abort();
    };
  }

  /** Goes on to the next photo; the mask in hand is given up. */
  next(): Promise<void> {
    const photo = this.photo.value; // at the press: a second one must not pass over the photo that comes next
    return this.#inTurn(async () => {
      if (this.photo.value !== photo) return;
      const grant = await this.#sent(() => api.nextPhoto(this.name.value, photo?.key ?? null, this.#lease));
      await this.#granted(grant);
    });
  }

  /** Works on a certain photo. */
  go(key: string): Promise<void> {
    return this.#inTurn(async () => {
      if (this.photo.value?.key === key) return;
      const grant = await this.#sent(() => api.takePhoto(key, this.name.value));
      const [before, lease] = [this.photo.value, this.#lease];
      if (before !== null && lease !== null) api.releaseOnExit(before.key, lease);
      await this.#granted(grant);
    });
  }

  /** Saves the mask in hand, calls the photo done and goes on. */
  async done(): Promise<void> {
    const current = this.bench.current.value;
    if (current !== null && area(current.mask) > 0 && !(await this.save())) return;
    await this.#finish();
  }

  /** Calls the photo done without the mask in hand, and goes on. */
  async moveOn(): Promise<void> {
    this.#drop();
    await this.#finish();
  }

  #finish(): Promise<void> {
    const photo = this.photo.value; // at the press: a second one must not finish the photo that comes next
    return this.#inTurn(async () => {
      if (photo === null || this.photo.value !== photo) return;
      const written = this.#written(crypto.randomUUID());
      await this.#sent(() => api.finishPhoto(photo.key, this.#hand(), written));
      this.#lease = null;
      await this.#granted(await this.#sent(() => api.nextPhoto(this.name.value, photo.key, null)));
    });
  }

  /** Saves the mask in hand. Returns whether it is on the server's disk. */
  async save(): Promise<boolean> {
    let saved = false;
    await this.#inTurn(async () => {
      const photo = this.photo.value;
      const current = this.bench.current.value;
      if (photo === null || !this.#isShown(photo) || current === null || area(current.mask) === 0) return;
      const draft = this.bench.draft.value;
      const name = this.maskName.value.trim();
      const mask: NewMask = {
        segmentation: toCoco(current.mask),
        predicted_iou: current.predictedIou,
        point_coords: this.bench.pointsInside(),
        name: name === "" ? null : name,
        seconds: Math.max(0, this.#maskClock.seconds),
      };
      const kept = await this.#add(photo, mask, this.#request, current.mask);
      this.#removed.value = [];
      if (this.bench.draft.value === draft) this.#drop();
      this.bench.say(`Mask ${kept.mask} saved, ${this.masks.value.length} on this photo`);
      saved = true;
    });
    return saved;
  }

  /** Takes the last change of the mask in hand back; without one, the mask that was saved last. */
  undo(): void {
    if (this.bench.line.value.past.length > 0) {
      this.bench.undo();
      return;
    }
    if (!isEmpty(this.bench.draft.value) || this.#lastDrawn() === undefined) return;
    void this.#inTurn(async () => {
      const photo = this.photo.value;
      if (photo === null) return;
      const written = this.#written(crypto.randomUUID());
      const removed = await this.#sent(() => api.undoMask(photo.key, this.#hand(), written));
      this.#forget(removed);
    });
  }

  redo(): void {
    if (this.bench.line.value.future.length > 0) {
      this.bench.redo();
      return;
    }
    void this.#inTurn(async () => {
      const photo = this.photo.value;
      const last = this.#removed.value.at(-1);
      if (photo === null || last === undefined) return;
      const { segmentation, predicted_iou, point_coords, name, seconds } = last;
      const mask = { segmentation, predicted_iou, point_coords, name, seconds: seconds ?? 0 };
      await this.#add(photo, mask, crypto.randomUUID(), fromCoco(segmentation));
      this.#removed.value = this.#removed.value.slice(0, -1);
    });
  }

  /** Whether undo would do anything. */
  get canUndo(): boolean {
    return (
      this.bench.line.value.past.length > 0 || (isEmpty(this.bench.draft.value) && this.#lastDrawn() !== undefined)
    );
  }

  get canRedo(): boolean {
    return this.bench.line.value.future.length > 0 || this.canRedoMask.value;
  }

  remove(mask: number): void {
    void this.#inTurn(async () => {
      const photo = this.photo.value;
      if (photo === null) return;
      const request = crypto.randomUUID();
      const removed = await this.#sent(() => api.removeMask(photo.key, this.#hand(), mask, request));
      this.#forget(removed ?? this.masks.value.find((each) => each.mask === mask) ?? null);
    });
  }

  rename(mask: number, name: string): void {
    void this.#inTurn(async () => {
      const photo = this.photo.value;
      if (photo === null) return;
      const wanted = name.trim() === "" ? null : name.trim();
      const written = this.#written(crypto.randomUUID());
      await this.#sent(() => api.renameMask(photo.key, this.#hand(), mask, wanted, written));
      this.masks.value = this.masks.value.map((each) => (each.mask === mask ? { ...each, name: wanted } : each));
      this.#learn(wanted);
    });
  }

  /** Goes on with the mask in hand, however long it takes. */
  decline(): void {
    this.#declined = true;
    this.offer.value = false;
  }

  async #granted(grant: Grant): Promise<void> {
    this.left.value = grant.left;
    batch(() => {
      this.photo.value = grant.photo;
      this.masks.value = [];
      this.finished.value = grant.photo === null ? grant.reason : null;
      this.#removed.value = [];
    });
    this.#lease = grant.lease?.id ?? null;
    this.#photoClock.reset();
    this.#reported = 0;
    this.#resetMask();
    if (grant.photo === null) {
      this.bench.closePhoto();
      return;
    }
    const { photo } = grant;
    const [masks, file] = await this.#sent(() => Promise.all([api.masksOf(photo.key), api.fileOf(photo)]));
    this.masks.value = masks.masks.map(keptOf);
    this.#photoClock.reset(masks.seconds);
    this.#reported = masks.seconds;
    if (masks.warning !== null) this.bench.fail(new PageError(masks.warning));
    const unsaved = findUnsaved(photo.key);
    void this.bench.open({ name: photo.file_name, file, key: photo.key }).then((opened) => {
      if (!opened || unsaved === null || this.photo.value?.key !== photo.key || !isEmpty(this.bench.draft.value))
        return;
      this.#request = unsaved.request;
      this.maskName.value = unsaved.name;
      this.#maskClock.reset(unsaved.seconds);
      this.bench.restart(unsaved.draft);
      this.bench.say("The mask that was in hand is here again");
    });
    this.#look();
  }

  async #add(photo: QueuedPhoto, mask: NewMask, request: string, runs: Runs): Promise<Kept> {
    const written = this.#written(request);
    const answer = await this.#sent(() => api.addMask(photo.key, this.#hand(), mask, written));
    const kept: Kept = {
      ...mask,
      mask: answer.mask,
      area: area(runs),
      stability_score: 1,
      source: "person",
      annotator: this.name.value,
      runs,
      colour: colourOf(answer.mask + 1),
    };
    this.masks.value = [...this.masks.value.filter((each) => each.mask !== kept.mask), kept];
    this.#learn(mask.name);
    return kept;
  }

  #forget(removed: SavedMask | null): void {
    if (removed === null) return;
    this.masks.value = this.masks.value.filter(({ mask }) => mask !== removed.mask);
    this.#removed.value = [...this.#removed.value, removed];
    this.bench.say(`Mask ${removed.mask} removed`);
  }

  #lastDrawn(): Kept | undefined {
    return this.masks.value.filter(({ source }) => source === "person").at(-1);
  }

  #learn(name: string | null): void {
    if (name !== null && !this.names.value.includes(name)) this.names.value = [name, ...this.names.value];
  }

  #drop(): void {
    this.bench.restart(EMPTY_DRAFT);
    this.#resetMask();
  }

  #resetMask(): void {
    this.#maskClock.reset();
    this.#request = crypto.randomUUID();
    this.#declined = false;
    this.maskName.value = "";
    this.maskSeconds.value = 0;
    this.offer.value = false;
  }

  #hand(): Hand {
    return { annotator: this.name.value, lease: this.#lease ?? "none" };
  }

  #written(request: string): api.Written {
    const now = this.#photoClock.seconds;
    const photo_seconds = Math.max(0, now - this.#reported);
    this.#reported = now;
    return { request, photo_seconds };
  }

  /** Keeps the mask in hand in this browser, and runs its timer. */
  #keep(): void {
    const draft = this.bench.draft.value;
    const name = this.maskName.value;
    const photo = this.photo.peek();
    if (photo === null || !this.#isShown(photo)) return;
    if (isEmpty(draft)) {
      keepUnsaved(null);
      if (this.#maskClock.seconds > 0) this.#resetMask();
      return;
    }
    this.#maskClock.start();
    keepUnsaved({ photo: photo.key, request: this.#request, name, seconds: this.#maskClock.seconds, draft });
  }

  /** Whether the photo is the one on the stage: until it is decoded, that is the photo before. */
  #isShown(photo: QueuedPhoto): boolean {
    return this.bench.picture.peek()?.source.key === photo.key;
  }

  #tick(): void {
    this.maskSeconds.value = this.#maskClock.seconds;
    this.photoSeconds.value = this.#photoClock.seconds;
    if (this.#maskClock.seconds <= this.session.maskSeconds || this.#declined || this.offer.value) return;
    this.offer.value = true;
    this.bench.say(`This mask takes more than ${this.session.maskSeconds} seconds: the next photo is offered`);
  }

  /** Timers run while somebody can see the page. */
  #look(): void {
    if (document.hidden) {
      this.#photoClock.pause();
      this.#maskClock.pause();
      return;
    }
    if (this.photo.value !== null) this.#photoClock.start();
    if (!isEmpty(this.bench.draft.value)) this.#maskClock.start();
  }

  /** Renews the lease. In its turn, so that it never comes behind the request for another photo. */
  async #beat(): Promise<void> {
    if (this.#beating) return;
    this.#beating = true;
    const turn = this.#turn.then(async () => {
      const photo = this.photo.value;
      if (photo === null || this.#lease === null) return;
      try {
        await api.heartbeat(photo.key, this.#hand(), this.session.heartbeatSeconds);
      } catch (error) {
        if (!isOffline(error)) this.bench.fail(error);
      }
    });
    this.#turn = turn;
    await turn;
    this.#beating = false;
  }

  /** One change after another. Errors go to the page. */
  async #inTurn(task: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(async () => {
      this.saving.value = true;
      try {
        await task();
      } catch (error) {
        this.bench.fail(error);
      } finally {
        this.saving.value = false;
      }
    });
    this.#turn = turn;
    await turn;
  }

  /** Sends until the server answers: it may be starting again. */
  #sent<T>(ask: () => Promise<T>): Promise<T> {
    return api.untilAnswered(ask, (error) => {
      if (error === null) {
        if (this.bench.problem.peek() === WAITING) this.bench.problem.value = null;
      } else this.bench.problem.value = WAITING;
    });
  }
}

const WAITING = "The server does not answer. Nothing is lost: start sam-edge serve again, this page goes on by itself";

function keptOf(mask: SavedMask): Kept {
  const colour = mask.source === "existing" ? EXISTING_COLOUR : colourOf(mask.mask + 1);
  return { ...mask, runs: fromCoco(mask.segmentation), colour };
}
