/** Requests to the server behind the page. */

import { PageError } from "../errors.ts";
import { NO_TOKEN } from "../session.ts";

const OFFLINE = "The server does not answer: start sam-edge serve again";

/** Whether a request failed because nobody answered, so that it may be sent again. */
export function isOffline(error: unknown): boolean {
  return error instanceof PageError && error.code === "offline";
}

/** Sends a request. Throws `PageError` with the server's line and code. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new PageError(OFFLINE, "offline", { cause: error });
  }
  if (response.ok) return response;
  if (response.status === 401) throw new PageError(NO_TOKEN, "token");
  throw await refusal(response);
}

async function refusal(response: Response): Promise<PageError> {
  try {
    const body = (await response.json()) as { error?: unknown; code?: unknown };
    if (typeof body.error === "string" && body.error !== "") {
      return new PageError(body.error, typeof body.code === "string" ? body.code : null);
    }
  } catch {
    // Not the server's own answer: the status has to do.
  }
  return new PageError(`The server refused with HTTP ${response.status}: try again, or restart sam-edge serve`);
}

/** The JSON answer of a request. */
export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, signal === undefined ? {} : { signal });
  return (await response.json()) as T;
}

/** Sends JSON and returns the JSON answer. */
export async function sendJson<T>(path: string, body: unknown, method = "POST", signal?: AbortSignal): Promise<T> {
  const response = await send(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
  return (await response.json()) as T;
}

const PIECE = 0x8000;

/** Little-endian float32 as base64. */
export function toBase64(data: Float32Array): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let binary = "";
  for (let i = 0; i < bytes.length; i += PIECE) binary += String.fromCharCode(...bytes.subarray(i, i + PIECE));
  return btoa(binary);
}

/** Little-endian float32 from base64. Throws `PageError` if it does not have `length` numbers. */
export function fromBase64(text: string, length: number): Float32Array<ArrayBuffer> {
  const binary = atob(text);
  if (binary.length !== 4 * length) throw new PageError("The server sent logits of a wrong size: reload the page");
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}
