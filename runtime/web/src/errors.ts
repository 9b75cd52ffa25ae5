/**
 * The tree of errors, with the names of the Python runtime.
 *
 *     SamEdgeError
 *     ├── UsageError        invalid argument
 *     │   └── PromptError   invalid points, labels, boxes or mask prompts
 *     ├── StateError        calls in the wrong order: predict before setImage
 *     ├── PhotoError        a photo that cannot be decoded, is empty or is too large
 *     ├── BundleError       no bundle, or one that is incomplete, changed, or of a newer format
 *     └── BackendError      an engine that is missing, or that rejects the graph or the input
 *
 * A message is one line that names the value, the choices if there are any, and the remedy.
 */

const LONGEST_MESSAGE = 2000;

/** Text from a file that nobody vouches for, as one line: control characters become escapes. */
export function printable(text: string, longest = LONGEST_MESSAGE): string {
  const plain = text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (each) => `\\u{${each.codePointAt(0)!.toString(16)}}`);
  return plain.length <= longest ? plain : `${plain.slice(0, longest)}...`;
}

/** A name from a file, in quotes, for a message. */
export function quoted(text: string, longest = 60): string {
  return `'${printable(text, longest)}'`;
}

/** The first line of whatever was thrown. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.trim().split("\n", 1)[0] ?? "";
}

export class SamEdgeError extends Error {
  override readonly name: string = "SamEdgeError";
  constructor(message: string, options?: ErrorOptions) {
    super(printable(message), options);
  }
}

export class UsageError extends SamEdgeError {
  override readonly name: string = "UsageError";
}

export class PromptError extends UsageError {
  override readonly name = "PromptError";
}

export class StateError extends SamEdgeError {
  override readonly name = "StateError";
}

export class PhotoError extends SamEdgeError {
  override readonly name = "PhotoError";
}

export class BundleError extends SamEdgeError {
  override readonly name = "BundleError";
}

export class BackendError extends SamEdgeError {
  override readonly name = "BackendError";
}

const CLASSES = { SamEdgeError, UsageError, PromptError, StateError, PhotoError, BundleError, BackendError };

/** The error of that name, as a worker reported it. */
export function errorOf(name: string, message: string): Error {
  if (!Object.hasOwn(CLASSES, name)) return new Error(`${name}: ${message}`);
  return new CLASSES[name as keyof typeof CLASSES](message);
}
