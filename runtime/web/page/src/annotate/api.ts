/** The server's annotation queue, `api/queue`: its documents and requests. */

import type { Rle } from "@sam-edge/runtime";
import { getJson, isOffline, send, sendJson } from "../engine/api.ts";

export interface QueuedPhoto {
  readonly key: string;
  readonly file_name: string;
  readonly width: number;
  readonly height: number;
  /** Place in the queue, from 0. */
  readonly number: number;
  /** Address of the photo's file, relative to the page. */
  readonly url: string;
}

export interface Lease {
  readonly id: string;
  readonly seconds: number;
}

/** A photo and the right to work on it; or why there is none. */
export type Grant =
  | { readonly photo: QueuedPhoto; readonly lease: Lease; readonly left: number }
  | { readonly photo: null; readonly lease: null; readonly left: number; readonly reason: "done" | "leased" };

export interface SavedMask {
  readonly mask: number;
  readonly segmentation: Rle;
  readonly area: number;
  readonly predicted_iou: number;
  readonly stability_score: number;
  readonly point_coords: readonly (readonly [number, number])[];
  readonly name: string | null;
  readonly source: "person" | "existing";
  readonly annotator: string | null;
  readonly seconds: number | null;
}

export interface PhotoMasks {
  readonly done: boolean;
  readonly seconds: number;
  readonly warning: string | null;
  readonly masks: readonly SavedMask[];
}

export interface QueueEntry {
  readonly key: string;
  readonly file_name: string;
  readonly state: "open" | "started" | "leased" | "done" | "broken";
  readonly masks: number;
  readonly annotator: string | null;
  readonly reason?: string;
}

export interface QueuePage {
  readonly total: number;
  readonly done: number;
  readonly broken: number;
  readonly offset: number;
  readonly photos: readonly QueueEntry[];
}

/** A mask to save. */
export interface NewMask {
  readonly segmentation: Rle;
  readonly predicted_iou: number;
  readonly point_coords: readonly (readonly [number, number])[];
  readonly name: string | null;
  /** Seconds that the person spent on it. */
  readonly seconds: number;
}

export interface Summary {
  readonly mean: number | null;
  readonly median: number | null;
  readonly count: number;
}

export interface Statistics {
  readonly photos: { readonly total: number; readonly done: number; readonly started: number; readonly broken: number };
  readonly masks: {
    readonly total: number;
    readonly person: number;
    readonly existing: number;
    readonly named: number;
  };
  readonly seconds_a_mask: Summary;
  readonly seconds_a_photo: Summary;
  readonly masks_a_photo: Summary;
  readonly by_size: { readonly small: number; readonly medium: number; readonly large: number };
  readonly relative_size: { readonly edges: readonly number[]; readonly counts: readonly number[] };
  readonly annotators: readonly {
    readonly annotator: string;
    readonly masks: number;
    readonly seconds_a_mask: number | null;
  }[];
  readonly names: readonly { readonly name: string; readonly masks: number }[];
}

/** Who writes, and under which lease. */
export interface Hand {
  readonly annotator: string;
  readonly lease: string;
}

function path(key: string, ...rest: readonly string[]): string {
  return ["api/queue", encodeURIComponent(key), ...rest].join("/");
}

export function nextPhoto(annotator: string, after: string | null, lease: string | null): Promise<Grant> {
  return sendJson("api/queue/next", {
    annotator,
    ...(after === null ? {} : { after }),
    ...(lease === null ? {} : { lease }),
  });
}

/** Takes a photo under a new lease. */
export function takePhoto(key: string, annotator: string): Promise<Grant> {
  return sendJson(path(key, "lease"), { annotator });
}

/** Renews the lease on a photo. Nobody waits for it longer than `seconds`. */
export function heartbeat(key: string, hand: Hand, seconds: number): Promise<unknown> {
  return sendJson(path(key, "heartbeat"), hand, "POST", AbortSignal.timeout(1000 * seconds));
}

/** Gives a photo back while the page goes away. */
export function releaseOnExit(key: string, lease: string): void {
  navigator.sendBeacon(path(key, "release"), new Blob([JSON.stringify({ lease })], { type: "application/json" }));
}

export function masksOf(key: string): Promise<PhotoMasks> {
  return getJson(path(key, "masks"));
}

export async function fileOf(photo: QueuedPhoto): Promise<Blob> {
  return (await send(photo.url)).blob();
}

export function queuePage(offset: number, limit: number): Promise<QueuePage> {
  return getJson(`api/queue?offset=${offset}&limit=${limit}`);
}

export function statistics(): Promise<Statistics> {
  return getJson("api/statistics");
}

export interface Written {
  /** Unique for each change; the same one again changes nothing. */
  readonly request: string;
  /** Seconds on the photo since the last report. */
  readonly photo_seconds: number;
}

export function addMask(key: string, hand: Hand, mask: NewMask, written: Written): Promise<{ mask: number }> {
  return sendJson(path(key, "masks"), { ...hand, ...mask, ...written });
}

export function renameMask(
  key: string,
  hand: Hand,
  mask: number,
  name: string | null,
  written: Written,
): Promise<unknown> {
  return sendJson(path(key, "masks", String(mask)), { ...hand, ...written, name }, "PATCH");
}

export async function removeMask(key: string, hand: Hand, mask: number, request: string): Promise<SavedMask | null> {
  const query = new URLSearchParams({ ...hand, request });
  const response = await send(`${path(key, "masks", String(mask))}?${query.toString()}`, { method: "DELETE" });
  return ((await response.json()) as { removed: SavedMask | null }).removed;
}

/** Removes the mask that a person added last. */
export async function undoMask(key: string, hand: Hand, written: Written): Promise<SavedMask | null> {
  return (await sendJson<{ removed: SavedMask | null }>(path(key, "undo"), { ...hand, ...written })).removed;
}

export function finishPhoto(key: string, hand: Hand, written: Written): Promise<{ left: number }> {
  return sendJson(path(key, "done"), { ...hand, ...written, done: true });
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

/** Sends until the server answers. `waiting` hears of each attempt that met nobody, and of the end with null. */
export async function untilAnswered<T>(ask: () => Promise<T>, waiting: (error: unknown) => void): Promise<T> {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(LONGEST_WAIT_MS, 2 * wait)) {
    try {
      const answer = await ask();
      waiting(null);
      return answer;
    } catch (error) {
      if (!isOffline(error)) throw error;
      waiting(error);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
