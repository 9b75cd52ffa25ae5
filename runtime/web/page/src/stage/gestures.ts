/**
 * Mouse, pen and touch on the stage, told apart and reported in screen coordinates.
 *
 * Mouse: left click, right click, drag, middle drag or ctrl-drag to pan, wheel to zoom. Touch: tap, long press, drag, and
 * two fingers to zoom and pan.
 */

import type { Spot } from "./view.ts";

/** What a drag with the first button does. */
export type Drag = "box" | "stroke" | "pan";

export interface Listener {
  /** What a drag that starts now does. */
  drag(): Drag;
  hover(at: Spot | null): void;
  /** `other` for a right click or a long press. */
  tap(at: Spot, other: boolean): void;
  /** A drag of a box or a stroke goes on; `from` is where it began. */
  dragged(from: Spot, to: Spot): void;
  /** It ended, or was given up. */
  dropped(from: Spot, to: Spot, given: boolean): void;
  pan(dx: number, dy: number): void;
  zoom(factor: number, at: Spot): void;
}

const LONG_PRESS_MS = 500;
const MOUSE_SLACK = 4;
const TOUCH_SLACK = 10;
const WHEEL_STEP = 0.0016;
const PINCH_STEP = 0.01;

interface Press {
  readonly id: number;
  readonly from: Spot;
  readonly slack: number;
  readonly other: boolean;
  readonly drag: Drag;
  last: Spot;
  moving: boolean;
  timer: ReturnType<typeof setTimeout> | null;
}

export class Gestures {
  readonly #element: HTMLElement;
  readonly #listener: Listener;
  readonly #stop = new AbortController();
  readonly #fingers = new Map<number, Spot>();
  #press: Press | null = null;

  constructor(element: HTMLElement, listener: Listener) {
    this.#element = element;
    this.#listener = listener;
    const on = <K extends keyof HTMLElementEventMap>(kind: K, handle: (event: HTMLElementEventMap[K]) => void): void =>
      element.addEventListener(kind, handle, { signal: this.#stop.signal, passive: false });
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#cancel(event));
    on("pointerleave", () => this.#listener.hover(null));
    on("wheel", (event) => this.#wheel(event));
    on("contextmenu", (event) => event.preventDefault());
  }

  close(): void {
    this.#giveUp();
    this.#stop.abort();
  }

  #spot(event: MouseEvent): Spot {
    const { left, top } = this.#element.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #down(event: PointerEvent): void {
    const at = this.#spot(event);
    const touch = event.pointerType === "touch";
    if (touch) {
      this.#fingers.set(event.pointerId, at);
      if (this.#fingers.size > 1) {
        this.#giveUp();
        return;
      }
    }
    if (this.#press !== null || event.button > 2) return;
    capture(this.#element, event.pointerId);
    const pans = event.button === 1 || event.ctrlKey || event.metaKey;
    if (event.button === 1) event.preventDefault();
    const press: Press = {
      id: event.pointerId,
      from: at,
      slack: touch ? TOUCH_SLACK : MOUSE_SLACK,
      other: event.button === 2,
      drag: pans ? "pan" : this.#listener.drag(),
      last: at,
      moving: pans,
      timer: null,
    };
    if (touch && press.drag === "box") {
      press.timer = setTimeout(() => {
        this.#press = null;
        this.#listener.tap(at, true);
      }, LONG_PRESS_MS);
    }
    this.#press = press;
    if (press.drag === "stroke" && !press.other) {
      press.moving = true;
      this.#listener.dragged(at, at);
    }
  }

  #move(event: PointerEvent): void {
    const at = this.#spot(event);
    if (this.#fingers.has(event.pointerId) && this.#fingers.size > 1) {
      this.#pinch(event.pointerId, at);
      return;
    }
    const press = this.#press;
    if (press === null) {
      if (event.pointerType !== "touch") this.#listener.hover(at);
      return;
    }
    if (press.id !== event.pointerId) return;
    if (!press.moving) {
      if (Math.hypot(at.x - press.from.x, at.y - press.from.y) <= press.slack) return;
      press.moving = true;
      stopTimer(press);
    }
    if (press.drag === "pan") this.#listener.pan(at.x - press.last.x, at.y - press.last.y);
    else if (!press.other) this.#eachSpot(event, (spot) => this.#listener.dragged(press.from, spot));
    press.last = at;
  }

  /** A fast pen or mouse moves several times between two events; a stroke needs all of them. */
  #eachSpot(event: PointerEvent, visit: (spot: Spot) => void): void {
    const events = event.getCoalescedEvents();
    for (const each of events.length === 0 ? [event] : events) visit(this.#spot(each));
  }

  #up(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    const press = this.#press;
    if (press?.id !== event.pointerId) return;
    const at = this.#spot(event);
    stopTimer(press);
    this.#press = null;
    if (!press.moving) {
      if (press.drag !== "pan") this.#listener.tap(press.from, press.other);
    } else if (press.drag !== "pan" && !press.other) this.#listener.dropped(press.from, at, false);
  }

  #cancel(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    if (this.#press?.id === event.pointerId) this.#giveUp();
  }

  #giveUp(): void {
    const press = this.#press;
    if (press === null) return;
    stopTimer(press);
    this.#press = null;
    if (press.moving && press.drag !== "pan" && !press.other) this.#listener.dropped(press.from, press.last, true);
  }

  #pinch(id: number, at: Spot): void {
    const [a, b] = [...this.#fingers.entries()];
    if (a === undefined || b === undefined || (id !== a[0] && id !== b[0])) return;
    const still = id === a[0] ? b[1] : a[1];
    const before = this.#fingers.get(id)!;
    this.#fingers.set(id, at);
    const length = Math.hypot(before.x - still.x, before.y - still.y);
    const middle = { x: (at.x + still.x) / 2, y: (at.y + still.y) / 2 };
    this.#listener.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    if (length > 1) this.#listener.zoom(Math.hypot(at.x - still.x, at.y - still.y) / length, middle);
  }

  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 16;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) {
      this.#listener.pan(-(event.shiftKey && dx === 0 ? dy : dx), event.shiftKey ? 0 : -dy);
    } else this.#listener.zoom(Math.exp(-dy * (event.ctrlKey ? PINCH_STEP : WHEEL_STEP)), this.#spot(event));
  }
}

function stopTimer(press: Press): void {
  if (press.timer !== null) clearTimeout(press.timer);
  press.timer = null;
}

/** Moves outside of the stage belong to the drag. A pointer that is gone already cannot be captured. */
function capture(element: HTMLElement, id: number): void {
  try {
    element.setPointerCapture(id);
  } catch {
    // The drag then ends at the border.
  }
}
