/** The stage: the photo with its masks, and what pointer and keyboard do on it. */

import { effect, useSignal, type ReadonlySignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { boxBetween, type Box, type Point } from "../prompt/draft.ts";
import type { Workbench } from "../photo/workbench.ts";
import { draw, type LiveStroke } from "./draw.ts";
import { Gestures, type Drag } from "./gestures.ts";
import type { Shown } from "./paint.ts";
import type { Tools } from "./tools.ts";
import { fitted, isInside, panned, revealing, toPhoto, zoomed, type Spot } from "./view.ts";
import type { Runs } from "../masks/runs.ts";

export interface StageProps {
  readonly bench: Workbench;
  readonly tools: Tools;
  /** Masks that are kept, the largest first. */
  readonly masks: ReadonlySignal<readonly Shown[]>;
  readonly selected: ReadonlySignal<Runs | null>;
}

const STEP = 10;
const ZOOM_STEP = 1.25;

export function Stage({ bench, tools, masks, selected }: StageProps) {
  const element = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useSignal<Box | null>(null);
  const stroke = useSignal<LiveStroke | null>(null);
  const brush = useSignal<Spot | null>(null);

  useEffect(() => {
    const stage = element.current!;
    const target = canvas.current!;
    const context = target.getContext("2d")!;
    const photo = () => bench.picture.peek();

    const measure = (): void => {
      const { clientWidth: width, clientHeight: height } = stage;
      const before = tools.stage.peek();
      const picture = photo();
      const wasFitted = picture !== null && isFitted();
      tools.stage.value = { width, height };
      if (picture !== null && (wasFitted || before.width <= 1)) tools.fit(picture);
    };
    const isFitted = (): boolean => {
      const picture = photo();
      if (picture === null) return true;
      const whole = fitted(picture, tools.stage.peek());
      return Math.abs(whole.scale - tools.view.peek().scale) < 1e-6;
    };
    const observer = new ResizeObserver(measure);
    observer.observe(stage);
    measure();
    focusLost(stage);

    const stopFitting = effect(() => {
      const picture = bench.picture.value;
      tools.cursor.value = null;
      tools.corner.value = null;
      if (picture !== null) tools.fit(picture);
    });

    let frame = 0;
    const stopDrawing = effect(() => {
      const picture = bench.picture.value;
      const size = tools.stage.value;
      const tool = tools.tool.value;
      const painting = tool === "brush" || tool === "eraser";
      const at = painting ? brush.value : null; // else each move of the pointer would draw everything again
      const cursor = tools.cursor.value;
      const corner = tools.corner.value;
      const keyBox = picture !== null && cursor !== null && corner !== null ? boxOf(corner, cursor, picture) : null;
      const scene = {
        view: tools.view.value,
        stage: size,
        masks: masks.value,
        selected: selected.value,
        hover: bench.hover.value?.mask ?? null,
        current: bench.current.value?.mask ?? null,
        rival: bench.rivalCurrent.value?.mask ?? null,
        draft: bench.draft.value,
        box: box.value ?? keyBox,
        stroke: stroke.value,
        brush: at === null ? null : { at, radius: tools.radius.value },
        cursor,
        shown: tools.shown.value,
      };
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        const ratio = window.devicePixelRatio || 1;
        const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
        if (target.width !== width || target.height !== height) {
          target.width = width;
          target.height = height;
        }
        if (picture === null || bench.picture.peek() !== picture) context.clearRect(0, 0, width, height);
        else draw(context, ratio, { ...scene, picture });
      });
    });

    const gestures = new Gestures(stage, {
      drag(): Drag {
        const tool = tools.tool.peek();
        return tool === "hand" ? "pan" : tool === "point" ? "box" : "stroke";
      },
      hover(at) {
        brush.value = at;
        if (at !== null) tools.cursor.value = null;
        if (tools.tool.peek() !== "point") bench.hoverAt(null);
        else if (at !== null || tools.cursor.peek() === null)
          bench.hoverAt(at === null ? null : pointAt(bench, tools, at, false));
      },
      tap(at, other) {
        tools.cursor.value = null;
        if (tools.tool.peek() !== "point") return;
        const point = pointAt(bench, tools, at, other);
        if (point !== null) bench.click(point);
      },
      dragged(from, to) {
        tools.cursor.value = null;
        const picture = photo();
        if (picture === null) return;
        if (tools.tool.peek() === "point") {
          bench.hoverAt(null);
          const view = tools.view.peek();
          box.value = boxOf(toPhoto(view, from), toPhoto(view, to), picture);
        } else {
          brush.value = to;
          const points = stroke.peek()?.points ?? [];
          stroke.value = {
            points: [...points, to],
            radius: tools.radius.peek(),
            erase: tools.tool.peek() === "eraser",
          };
        }
      },
      dropped(_from, _to, given) {
        const [drawn, live] = [box.peek(), stroke.peek()];
        box.value = null;
        stroke.value = null;
        if (given) return;
        if (drawn !== null) bench.box(drawn);
        if (live !== null) {
          const view = tools.view.peek();
          const points = live.points.map((each) => {
            const { x, y } = toPhoto(view, each);
            return [x, y] as const;
          });
          bench.stroke({ points, radius: live.radius / view.scale, erase: live.erase });
        }
      },
      pan(dx, dy) {
        const picture = photo();
        if (picture !== null) tools.view.value = panned(tools.view.peek(), dx, dy, picture, tools.stage.peek());
      },
      zoom(factor, at) {
        zoomBy(bench, tools, factor, at);
      },
    });
    return () => {
      gestures.close();
      observer.disconnect();
      stopFitting();
      stopDrawing();
      cancelAnimationFrame(frame);
    };
  }, [bench, tools, masks, selected]);

  return (
    <div
      ref={element}
      class={`stage tool-${tools.tool.value}${tools.label.value === 0 ? " taking" : ""}`}
      role="application"
      tabIndex={0}
      aria-label="Photo. Arrow keys move the crosshair, Enter adds a point, Shift and Enter takes away, M begins a box."
      data-testid="stage"
      onKeyDown={(event) => stageKey(event, bench, tools)}
    >
      <canvas ref={canvas} aria-hidden="true" />
    </div>
  );
}

/** Takes the focus if what had it is gone, so that keys go on from here. */
export function focusLost(element: HTMLElement | null): void {
  if (document.activeElement === null || document.activeElement === document.body) {
    element?.focus({ preventScroll: true });
  }
}

/** Zooms about a spot of the stage; its middle if none is given. */
export function zoomBy(bench: Workbench, tools: Tools, factor: number, at: Spot | null = null): void {
  const picture = bench.picture.peek();
  if (picture === null) return;
  const stage = tools.stage.peek();
  const middle = at ?? { x: stage.width / 2, y: stage.height / 2 };
  tools.view.value = zoomed(tools.view.peek(), factor, middle, picture, stage);
}

export function zoomStep(bench: Workbench, tools: Tools, direction: 1 | -1): void {
  zoomBy(bench, tools, direction === 1 ? ZOOM_STEP : 1 / ZOOM_STEP);
}

function boxOf(a: Spot, b: Spot, picture: { width: number; height: number }): Box | null {
  return boxBetween(a, b, picture.width, picture.height);
}

/** The click at a spot of the screen, or null beside the photo. Clicks are where the pixel's centre is. */
function pointAt(bench: Workbench, tools: Tools, at: Spot, other: boolean): Point | null {
  const picture = bench.picture.peek();
  if (picture === null) return null;
  const spot = toPhoto(tools.view.peek(), at);
  return isInside(picture, spot) ? clickOf(tools, spot, other) : null;
}

function clickOf(tools: Tools, spot: Spot, other: boolean): Point {
  const label = tools.label.peek();
  return { x: Math.floor(spot.x) + 0.5, y: Math.floor(spot.y) + 0.5, label: other ? (label === 1 ? 0 : 1) : label };
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** Points and boxes by keyboard: arrows move the crosshair, Enter acts. */
function stageKey(event: KeyboardEvent, bench: Workbench, tools: Tools): void {
  const picture = bench.picture.peek();
  if (picture === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  const cursor = tools.cursor.peek();
  if (arrow !== undefined) {
    const step = event.shiftKey ? 1 : Math.max(1, STEP / tools.view.peek().scale);
    const from = cursor ?? { x: picture.width / 2, y: picture.height / 2 };
    const moved = cursor === null ? from : { x: from.x + arrow[0] * step, y: from.y + arrow[1] * step };
    const spot = {
      x: Math.min(picture.width - 1, Math.max(0, moved.x)),
      y: Math.min(picture.height - 1, Math.max(0, moved.y)),
    };
    tools.cursor.value = spot;
    tools.view.value = revealing(tools.view.peek(), spot, tools.stage.peek());
    bench.say(`${Math.floor(spot.x)} across, ${Math.floor(spot.y)} down`);
    bench.hoverAt(tools.tool.peek() === "point" ? clickOf(tools, spot, false) : null);
  } else if (event.key === "Enter" && cursor !== null) {
    act(bench, tools, cursor, event.shiftKey);
  } else if (event.key === "m") {
    tools.cursor.value = cursor ?? { x: picture.width / 2, y: picture.height / 2 };
    tools.corner.value = tools.cursor.value;
    bench.say("Box started: move to the other corner and press Enter");
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function act(bench: Workbench, tools: Tools, cursor: Spot, other: boolean): void {
  const picture = bench.picture.peek()!;
  const tool = tools.tool.peek();
  const corner = tools.corner.peek();
  if (corner !== null) {
    const box = boxOf(corner, cursor, picture);
    tools.corner.value = null;
    if (box !== null) bench.box(box);
  } else if (tool === "brush" || tool === "eraser") {
    const radius = tools.radius.peek() / tools.view.peek().scale;
    bench.stroke({ points: [[cursor.x, cursor.y]], radius, erase: tool === "eraser" });
  } else bench.click(clickOf(tools, cursor, other));
}
