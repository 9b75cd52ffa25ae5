/** A history of states for undo and redo. States are immutable values. */

export interface Timeline<T> {
  readonly past: readonly T[];
  readonly present: T;
  readonly future: readonly T[];
}

/** States that undo can reach. */
export const LONGEST = 100;

export function timeline<T>(first: T): Timeline<T> {
  return { past: [], present: first, future: [] };
}

/** A new state. What had been undone is gone; the oldest state goes if there are more than `LONGEST`. */
export function pushed<T>(line: Timeline<T>, next: T): Timeline<T> {
  if (next === line.present) return line;
  return { past: [...line.past, line.present].slice(-LONGEST), present: next, future: [] };
}

/** The state before this one; the same timeline if there is none. */
export function undone<T>(line: Timeline<T>): Timeline<T> {
  const before = line.past.at(-1);
  if (before === undefined) return line;
  return { past: line.past.slice(0, -1), present: before, future: [line.present, ...line.future] };
}

/** The state that the last undo left; the same timeline if there is none. */
export function redone<T>(line: Timeline<T>): Timeline<T> {
  const next = line.future[0];
  if (next === undefined) return line;
  return { past: [...line.past, line.present], present: next, future: line.future.slice(1) };
}
