/** The worker's side of `SamWorker`: a predictor that answers messages, one after another. */

import { AutomaticMaskGenerator } from "../automatic/generator.ts";
import { verify } from "../agreement/verify.ts";
import { firstLine, StateError } from "../errors.ts";
import type { Progress } from "../bundle/bundle.ts";
import { SamPredictor } from "../predictor.ts";
import { buffersOf, type CallName, type Calls, type Opened, type Reply, type Request } from "./protocol.ts";

interface Context {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress | number) => void;
}

let predictor: SamPredictor | null = null;

function opened(): SamPredictor {
  if (!predictor) throw new StateError("no bundle is open; call open first");
  return predictor;
}

const handlers: { [Name in CallName]: (context: Context, ...args: Calls[Name]) => unknown } = {
  async open(context, source, options): Promise<Opened> {
    predictor = await SamPredictor.open(source, { ...options, ...context });
    return { manifest: predictor.bundle.manifest, words: predictor.words };
  },
  warmUp() {
    return opened().warmUp();
  },
  setImage(_, photo) {
    return opened().setImage(photo);
  },
  resetImage() {
    opened().resetImage();
  },
  getImageFeatures() {
    return opened().getImageFeatures();
  },
  setImageFeatures(_, features, original) {
    opened().setImageFeatures(features, original);
  },
  predictBatch(_, prompts, options) {
    return opened().predictBatch(prompts, options);
  },
  generate(context, photo, settings, covered) {
    return new AutomaticMaskGenerator(opened(), settings).generate(photo, { covered, ...context });
  },
  verify() {
    return verify(opened());
  },
};

const running = new Map<number, AbortController>();
let turn: Promise<unknown> = Promise.resolve();

function post(reply: Reply, transfer: Iterable<ArrayBuffer> = []): void {
  (self as unknown as Worker).postMessage(reply, [...transfer]);
}

async function answer({ id, call, args }: Extract<Request, { id: number }>, signal: AbortSignal): Promise<void> {
  try {
    signal.throwIfAborted();
    const handler = handlers[call] as (context: Context, ...args: readonly unknown[]) => unknown;
    const result = await handler({ signal, onProgress: (progress) => post({ id, progress }) }, ...args);
    post({ id, result, engine: predictor?.engine ?? null }, buffersOf(result));
  } catch (error) {
    const name = error instanceof Error || error instanceof DOMException ? error.name : "Error";
    post({ id, error: { name, message: firstLine(error) } });
  } finally {
    running.delete(id);
  }
}

self.addEventListener("message", (event: MessageEvent<Request>) => {
  const request = event.data;
  if ("abort" in request) {
    running.get(request.abort)?.abort();
    return;
  }
  const controller = new AbortController();
  running.set(request.id, controller);
  turn = turn.then(() => answer(request, controller.signal));
});
