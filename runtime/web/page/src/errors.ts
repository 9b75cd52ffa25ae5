/**
 * What went wrong, as one plain line that ends in a remedy.
 *
 * Messages of the runtime and of the server are such lines already and are shown as they are.
 */

const LONGEST = 300;

/** An error whose message is meant for the person at the page. */
export class PageError extends Error {
  override readonly name = "PageError";
  /** The server's code for it (`gone`, `busy`, `leased`, ...), or null. */
  readonly code: string | null;
  constructor(message: string, code: string | null = null, options?: ErrorOptions) {
    super(oneLine(message), options);
    this.code = code;
  }
}

/** Whether an operation was stopped on purpose. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** The first line of whatever was thrown, without control characters, of bounded length. */
export function lineOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return oneLine(text);
}

function oneLine(text: string): string {
  const plain = (text.trim().split("\n", 1)[0] ?? "").replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");
  return plain.length > LONGEST ? `${plain.slice(0, LONGEST - 1)}…` : plain;
}
