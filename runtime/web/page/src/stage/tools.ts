/** What the pointer does on the stage, shared by toolbar, keys and stage. */

import { computed, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { fitted, type Size, type Spot, type View } from "./view.ts";

export type Tool = "point" | "brush" | "eraser" | "hand";

export const SMALLEST_BRUSH = 2;
export const LARGEST_BRUSH = 120;

export class Tools {
  readonly tool: Signal<Tool> = signal("point");
  /** Label of a plain click: 1 adds to the mask, 0 takes away from it. */
  readonly label: Signal<0 | 1> = signal(1);
  /** Radius of brush and eraser in screen pixels. */
  readonly radius = signal(14);
  /** Whether masks are shown over the photo. */
  readonly shown = signal(true);
  readonly view: Signal<View> = signal({ scale: 1, x: 0, y: 0 });
  readonly stage: Signal<Size> = signal({ width: 1, height: 1 });
  /** The keyboard's place on the photo; null while the pointer is in use. */
  readonly cursor: Signal<Spot | null> = signal(null);
  /** First corner of a box that the keyboard draws. */
  readonly corner: Signal<Spot | null> = signal(null);
  readonly percent: ReadonlySignal<string> = computed(() => `${Math.round(100 * this.view.value.scale)} %`);

  pick(tool: Tool): void {
    this.tool.value = tool;
    this.corner.value = null;
  }

  flip(): void {
    this.label.value = this.label.value === 1 ? 0 : 1;
  }

  resizeBrush(factor: number): void {
    const radius = Math.round(this.radius.value * factor);
    const next = radius === this.radius.value ? radius + Math.sign(factor - 1) : radius;
    this.radius.value = Math.min(LARGEST_BRUSH, Math.max(SMALLEST_BRUSH, next));
  }

  fit(photo: Size): void {
    this.view.value = fitted(photo, this.stage.value);
  }
}
