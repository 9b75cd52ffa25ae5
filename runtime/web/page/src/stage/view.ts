/** Where the photo lies on the screen: zoom and pan. Screen coordinates are CSS pixels of the stage. */

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Spot {
  readonly x: number;
  readonly y: number;
}

export interface View {
  /** Screen pixels per photo pixel. */
  readonly scale: number;
  /** Screen position of the photo's upper left corner. */
  readonly x: number;
  readonly y: number;
}

const MARGIN = 16;
const LARGEST_SCALE = 40;
/** The photo never shrinks below this share of the fitting scale. */
const SMALLEST_SHARE = 0.5;
/** Screen pixels of the photo that stay visible. */
const VISIBLE = 48;

/** The whole photo in the middle of the stage; small photos are enlarged four times at most. */
export function fitted(photo: Size, stage: Size): View {
  const scale = fittingScale(photo, stage);
  return { scale, x: (stage.width - photo.width * scale) / 2, y: (stage.height - photo.height * scale) / 2 };
}

function fittingScale(photo: Size, stage: Size): number {
  const across = Math.max(1, stage.width - 2 * MARGIN) / photo.width;
  const down = Math.max(1, stage.height - 2 * MARGIN) / photo.height;
  return Math.min(across, down, 4);
}

/** Zooms by a factor; the photo's pixel under `at` stays there. */
export function zoomed(view: View, factor: number, at: Spot, photo: Size, stage: Size): View {
  const least = Math.min(1, fittingScale(photo, stage)) * SMALLEST_SHARE;
  const scale = Math.min(LARGEST_SCALE, Math.max(least, view.scale * factor));
  const share = scale / view.scale;
  return kept({ scale, x: at.x - (at.x - view.x) * share, y: at.y - (at.y - view.y) * share }, photo, stage);
}

export function panned(view: View, dx: number, dy: number, photo: Size, stage: Size): View {
  return kept({ scale: view.scale, x: view.x + dx, y: view.y + dy }, photo, stage);
}

/** Moves the view so that a part of the photo stays on the stage. */
function kept(view: View, photo: Size, stage: Size): View {
  const within = (at: number, length: number, room: number): number => {
    const seen = Math.min(VISIBLE, length, room);
    return Math.min(room - seen, Math.max(seen - length, at));
  };
  return {
    scale: view.scale,
    x: within(view.x, photo.width * view.scale, stage.width),
    y: within(view.y, photo.height * view.scale, stage.height),
  };
}

export function toPhoto(view: View, spot: Spot): Spot {
  return { x: (spot.x - view.x) / view.scale, y: (spot.y - view.y) / view.scale };
}

export function toScreen(view: View, spot: Spot): Spot {
  return { x: spot.x * view.scale + view.x, y: spot.y * view.scale + view.y };
}

export function isInside(photo: Size, spot: Spot): boolean {
  return spot.x >= 0 && spot.y >= 0 && spot.x < photo.width && spot.y < photo.height;
}

/** Moves the view as little as needed to bring a spot of the photo onto the stage. */
export function revealing(view: View, spot: Spot, stage: Size): View {
  const at = toScreen(view, spot);
  const shift = (value: number, room: number): number =>
    value < VISIBLE ? VISIBLE - value : value > room - VISIBLE ? room - VISIBLE - value : 0;
  return { scale: view.scale, x: view.x + shift(at.x, stage.width), y: view.y + shift(at.y, stage.height) };
}
