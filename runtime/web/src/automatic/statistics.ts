/**
 * Stability, boxes and run lengths of masks at the photo's size, computed from low-resolution logits.
 *
 * A pixel of the photo is a weighted mean of at most 3 x 3 cells, and no weight is negative. Where all of them lie above
 * a threshold, the pixel is inside; where none does, it is outside. Pixels with the same first cell on both axes form a
 * block, and only blocks that are neither are interpolated, a few in a hundred. The results equal those of the full-size
 * mask.
 */

import type { Floats, Ints, Size } from "../arrays.ts";
import type { Frame } from "../photo/frame.ts";
import { cachedTaps, REACH, type Taps } from "../photo/upscale.ts";
import { lengthsBetween } from "../masks/rle.ts";

/** x0, y0, x1, y1 in pixels; x1 and y1 are the last ones inside. */
export type Box = readonly [number, number, number, number];

/** One axis of the photo: its pixels in groups that have the same first cell. */
interface Groups {
  readonly taps: Taps;
  readonly first: Ints;
  /** First pixel of each group; one more ends the last. */
  readonly starts: Ints;
}

function grouped(taps: Taps): Groups {
  const { starts } = taps;
  return { taps, first: starts.subarray(0, -1).map((pixel) => taps.first[pixel]!), starts };
}

/** The smallest and the largest cell of each block of one mask, row by row. */
interface Bounds {
  readonly smallest: Floats;
  readonly largest: Floats;
}

/** The statistics of masks of one photo geometry. */
export class MaskStatistics {
  readonly #rows: Groups;
  readonly #columns: Groups;
  readonly #width: number;
  /** Cells in use and two more on each axis, which repeat the last. */
  readonly #cells: Floats;
  readonly #stride: number;
  readonly #block: Floats;

  constructor(frame: Frame) {
    // Masks are interpolated bilinearly here in every family: bicubic weights may be negative.
    this.#rows = grouped(cachedTaps(frame.down));
    this.#columns = grouped(cachedTaps(frame.across));
    this.#width = frame.cells.width;
    this.#stride = this.#columns.taps.cells + REACH - 1;
    this.#cells = new Float32Array((this.#rows.taps.cells + REACH - 1) * this.#stride);
    const largest = ({ starts }: Groups): number =>
      starts.reduce((most, start, index) => (index ? Math.max(most, start - starts[index - 1]!) : most), 0);
    this.#block = new Float32Array(largest(this.#rows) * largest(this.#columns));
  }

  /**
   * IoU of a mask with itself at a higher and at a lower threshold, 0 to 1.
   *
   * @param least - a score below it may be an upper bound, itself below: cheaper, and enough for a filter.
   */
  stability(lowRes: Floats, threshold: number, offset: number, least: number): number {
    const [high, low] = [Math.fround(threshold + offset), Math.fround(threshold - offset)];
    const bounds = this.#bounds(lowRes);
    let [atMost, atLeast, both] = [0, 0, 0];
    this.#eachBlock((index, area) => {
      if (bounds.largest[index]! > high) atMost += area;
      if (bounds.smallest[index]! > low) atLeast += area;
      if (bounds.smallest[index]! > high) both += area;
    });
    const bound = atLeast ? Math.fround(atMost / atLeast) : 1;
    if (bound < Math.fround(least)) return bound;
    let [above, below] = [both, both];
    this.#eachBlock((index, area, row, column) => {
      if (bounds.smallest[index]! > high || !(bounds.largest[index]! > low)) return;
      this.#interpolate(row, column);
      for (let pixel = 0; pixel < area; pixel++) {
        if (this.#block[pixel]! > high) above++;
        if (this.#block[pixel]! > low) below++;
      }
    });
    return below ? Math.fround(above / below) : 0;
  }

  /** The bounding box of a mask; zeros for an empty one. */
  box(lowRes: Floats, threshold: number): Box {
    const { smallest, largest } = this.#bounds(lowRes);
    let [x0, y0, x1, y1] = [Infinity, Infinity, -1, -1];
    const extend = (left: number, top: number, right: number, bottom: number): void => {
      [x0, y0, x1, y1] = [Math.min(x0, left), Math.min(y0, top), Math.max(x1, right), Math.max(y1, bottom)];
    };
    this.#eachBlock((index, area, row, column) => {
      if (!(largest[index]! > threshold)) return;
      const [left, top] = [this.#columns.starts[column]!, this.#rows.starts[row]!];
      const [right, bottom] = [this.#columns.starts[column + 1]! - 1, this.#rows.starts[row + 1]! - 1];
      if (left >= x0 && top >= y0 && right <= x1 && bottom <= y1) return;
      if (smallest[index]! > threshold) return extend(left, top, right, bottom);
      this.#interpolate(row, column);
      const wide = right - left + 1;
      for (let pixel = 0; pixel < area; pixel++) {
        if (!(this.#block[pixel]! > threshold)) continue;
        const [x, y] = [left + (pixel % wide), top + Math.floor(pixel / wide)];
        extend(x, y, x, y);
      }
    });
    return y1 < 0 ? [0, 0, 0, 0] : [x0, y0, x1, y1];
  }

  /**
   * The run lengths of a mask, as `runLengths` gives them.
   *
   * @param at - x, y of this photo's first pixel in the larger one that it was cropped from.
   * @param size - of that larger photo.
   */
  runLengths(lowRes: Floats, threshold: number, at: readonly [number, number], size: Size): number[] {
    const { smallest, largest } = this.#bounds(lowRes);
    let [x0, y0, x1, y1] = [Infinity, Infinity, -1, -1]; // first pixel, and the one after the last, of what may be inside
    this.#eachBlock((index, _, row, column) => {
      if (!(largest[index]! > threshold)) return;
      [x0, y0] = [Math.min(x0, this.#columns.starts[column]!), Math.min(y0, this.#rows.starts[row]!)];
      [x1, y1] = [Math.max(x1, this.#columns.starts[column + 1]!), Math.max(y1, this.#rows.starts[row + 1]!)];
    });
    const pixels = size.height * size.width;
    if (x1 < 0) return [pixels];
    const [high, wide] = [y1 - y0, x1 - x0];
    const part = new Uint8Array(high * wide); // columns first, the order of runs
    this.#eachBlock((index, _, row, column) => {
      if (!(largest[index]! > threshold)) return;
      const [top, bottom] = [this.#rows.starts[row]!, this.#rows.starts[row + 1]!];
      const [left, right] = [this.#columns.starts[column]!, this.#columns.starts[column + 1]!];
      const all = smallest[index]! > threshold;
      if (!all) this.#interpolate(row, column);
      for (let x = left; x < right; x++) {
        const from = (x - x0) * high - y0;
        if (all) part.fill(1, from + top, from + bottom);
        else {
          for (let y = top; y < bottom; y++) {
            part[from + y] = this.#block[(y - top) * (right - left) + x - left]! > threshold ? 1 : 0;
          }
        }
      }
    });
    const changes: number[] = [];
    for (let x = 0; x < wide; x++) {
      const first = (x0 + x + at[0]) * size.height + y0 + at[1];
      let before = 0;
      for (let y = 0; y <= high; y++) {
        const value = y < high ? part[x * high + y]! : 0;
        if (value === before) continue;
        // A run that ends at the bottom of a column and goes on at the top of the next is one run.
        if (changes.at(-1) === first + y) changes.pop();
        else changes.push(first + y);
        before = value;
      }
    }
    return lengthsBetween(changes, pixels);
  }

  #eachBlock(use: (index: number, area: number, row: number, column: number) => void): void {
    const [rows, columns] = [this.#rows.first.length, this.#columns.first.length];
    for (let row = 0, index = 0; row < rows; row++) {
      const high = this.#rows.starts[row + 1]! - this.#rows.starts[row]!;
      for (let column = 0; column < columns; column++, index++) {
        use(index, high * (this.#columns.starts[column + 1]! - this.#columns.starts[column]!), row, column);
      }
    }
  }

  /** Take the cells of a mask, and find the bounds of its blocks. */
  #bounds(lowRes: Floats): Bounds {
    const [rows, columns] = [this.#rows.taps.cells, this.#columns.taps.cells];
    for (let row = 0; row < rows + REACH - 1; row++) {
      const from = Math.min(row, rows - 1) * this.#width;
      const to = row * this.#stride;
      this.#cells.set(lowRes.subarray(from, from + columns), to);
      this.#cells.fill(this.#cells[to + columns - 1]!, to + columns, to + this.#stride);
    }
    return this.#overBlocks();
  }

  /** One axis after the other. `Math.min` and `Math.max` are called by name, as engines inline them only so. */
  #overBlocks(): Bounds {
    const [rows, columns] = [this.#rows.first, this.#columns.first];
    const [cells, stride, wide] = [this.#cells, this.#stride, columns.length];
    const high = this.#rows.taps.cells + REACH - 1;
    const [low, top] = [new Float32Array(high * wide), new Float32Array(high * wide)];
    for (let row = 0, to = 0; row < high; row++) {
      for (let column = 0; column < wide; column++, to++) {
        const from = row * stride + columns[column]!;
        low[to] = Math.min(Math.min(cells[from]!, cells[from + 1]!), cells[from + 2]!);
        top[to] = Math.max(Math.max(cells[from]!, cells[from + 1]!), cells[from + 2]!);
      }
    }
    const smallest = new Float32Array(rows.length * wide);
    const largest = new Float32Array(rows.length * wide);
    for (let row = 0, to = 0; row < rows.length; row++) {
      for (let column = 0, from = rows[row]! * wide; column < wide; column++, to++, from++) {
        smallest[to] = Math.min(Math.min(low[from]!, low[from + wide]!), low[from + 2 * wide]!);
        largest[to] = Math.max(Math.max(top[from]!, top[from + wide]!), top[from + 2 * wide]!);
      }
    }
    return { smallest, largest };
  }

  /** The logits of a block, row by row, into `#block`. */
  #interpolate(row: number, column: number): void {
    const [cells, stride] = [this.#cells, this.#stride];
    const [tall, wide] = [this.#rows.taps.weights, this.#columns.taps.weights];
    const from = this.#rows.first[row]! * stride + this.#columns.first[column]!;
    const [left, right] = [this.#columns.starts[column]!, this.#columns.starts[column + 1]!];
    let to = 0;
    for (let y = this.#rows.starts[row]!; y < this.#rows.starts[row + 1]!; y++) {
      const [a, b, c] = [tall[y * REACH]!, tall[y * REACH + 1]!, tall[y * REACH + 2]!];
      const down = (cell: number): number =>
        Math.fround(a * cells[cell]! + b * cells[cell + stride]! + c * cells[cell + 2 * stride]!);
      const [one, two, three] = [down(from), down(from + 1), down(from + 2)];
      for (let x = left; x < right; x++) {
        this.#block[to++] = one * wide[x * REACH]! + two * wide[x * REACH + 1]! + three * wide[x * REACH + 2]!;
      }
    }
  }
}
