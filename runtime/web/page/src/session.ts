/** What the host of the page offers: `session.json`, the same document on the server and on a static site. */

import { PageError } from "./errors.ts";

export type Place = "browser" | "server";

export interface SessionBundle {
  readonly name: string;
  readonly title: string;
  /** Folder of the bundle, relative to the page, with a slash at its end. */
  readonly url: string;
  readonly variant: string;
  readonly target: string;
  readonly precision: string;
  readonly inputSide: number;
  readonly bytes: number;
  readonly randomWeights: boolean;
  /** Where this bundle can run. */
  readonly engines: readonly Place[];
  /** Names that it knows; none where it takes no words. */
  readonly words: readonly string[];
}

export interface Limits {
  readonly uploadBytes: number;
  readonly photoPixels: number;
  readonly prompts: number;
}

export interface AnnotateSession {
  readonly leaseSeconds: number;
  readonly heartbeatSeconds: number;
  /** Seconds on one mask after which the page offers the next photo. */
  readonly maskSeconds: number;
  readonly photos: number;
  /** Whether confident masks are there already: the semi-automatic stage. */
  readonly existing: boolean;
  /** Names in use, most frequent first. */
  readonly names: readonly string[];
}

export interface Session {
  readonly version: string;
  /** Whether there is a server behind the page; a static site has none. */
  readonly server: boolean;
  readonly mode: "photo" | "annotate";
  /** Where to encode, unless the person chooses another place. */
  readonly engine: Place;
  readonly bundles: readonly SessionBundle[];
  readonly limits: Limits;
  readonly annotate: AnnotateSession | null;
}

const API = 1;
const BROKEN = "session.json cannot be read: build the page and start sam-edge serve again";

/** Reads `session.json`. Throws `PageError` if it is missing, broken or of a newer API. */
export async function readSession(): Promise<Session> {
  let response: Response;
  try {
    response = await fetch("session.json", { cache: "no-cache" });
  } catch (error) {
    throw new PageError("The server does not answer: start sam-edge serve again, then reload", null, { cause: error });
  }
  if (response.status === 401) throw new PageError(NO_TOKEN, "token");
  if (!response.ok) throw new PageError(`session.json: HTTP ${response.status}. Start sam-edge serve again`);
  let document: unknown;
  try {
    document = await response.json();
  } catch (error) {
    throw new PageError(BROKEN, null, { cause: error });
  }
  return parseSession(document);
}

export const NO_TOKEN = "This page needs its token: open the address that sam-edge serve printed";

/** A session from its JSON. Throws `PageError` if a field is missing or of a wrong type. */
export function parseSession(document: unknown): Session {
  const fields = record(document);
  if (fields.format !== "sam-edge-session") throw new PageError(BROKEN);
  if (fields.api !== API) {
    throw new PageError(`The server speaks API ${String(fields.api)}, this page ${API}: reload without the cache`);
  }
  const limits = record(fields.limits);
  const bundles = list(fields.bundles).map(parseBundle);
  if (bundles.length === 0) throw new PageError("There is no bundle: name one, sam-edge serve BUNDLE");
  const annotate = fields.annotate === null || fields.annotate === undefined ? null : parseAnnotate(fields.annotate);
  return {
    version: text(fields.version),
    server: fields.server === true,
    mode: fields.mode === "annotate" && annotate !== null ? "annotate" : "photo",
    engine: place(fields.engine),
    bundles,
    limits: {
      uploadBytes: number(limits.upload_bytes),
      photoPixels: number(limits.photo_pixels),
      prompts: number(limits.prompts),
    },
    annotate,
  };
}

function parseBundle(document: unknown): SessionBundle {
  const fields = record(document);
  return {
    name: text(fields.name),
    title: text(fields.title),
    url: text(fields.url),
    variant: text(fields.variant),
    target: text(fields.target),
    precision: text(fields.precision),
    inputSide: number(fields.input_side),
    bytes: number(fields.bytes),
    randomWeights: fields.random_weights === true,
    engines: list(fields.engines).map(place),
    words: list(fields.words ?? []).map(text),
  };
}

function parseAnnotate(document: unknown): AnnotateSession {
  const fields = record(document);
  return {
    leaseSeconds: number(fields.lease_seconds),
    heartbeatSeconds: number(fields.heartbeat_seconds),
    maskSeconds: number(fields.mask_seconds),
    photos: number(fields.photos),
    existing: fields.existing === true,
    names: list(fields.names).map(text),
  };
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new PageError(BROKEN);
  return value as Record<string, unknown>;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new PageError(BROKEN);
  return value;
}

function text(value: unknown): string {
  if (typeof value !== "string") throw new PageError(BROKEN);
  return value;
}

function number(value: unknown): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new PageError(BROKEN);
  return value;
}

function place(value: unknown): Place {
  if (value !== "browser" && value !== "server") throw new PageError(BROKEN);
  return value;
}
