/** One bundle in a worker: the steps that `sam_edge_runtime.benchmark.steps` times natively, one at each request. */

import type { Photo, Tensor } from "../src/arrays.ts";
import type { EngineInfo } from "../src/engine/choice.ts";
import { firstLine } from "../src/errors.ts";
import { fittingFrame } from "../src/photo/frame.ts";
import { readPhoto } from "../src/photo/read.ts";
import { SamPredictor, type Prediction } from "../src/predictor.ts";
import { buffersOf } from "../src/worker/protocol.ts";

export interface Job {
  /** URLs of a bundle and of a photo. */
  readonly bundle: string;
  readonly photo: string;
  readonly threads: number;
}

/**
 * `encode` runs the image encoder, `click` answers one click on the photo that is set, `photo` sets the photo from its
 * pixels and answers a click.
 */
export type Step = "encode" | "click" | "photo";
export type Request = Job | Step;
export type Reply = { readonly result: EngineInfo | Prediction | null } | { readonly error: string };

class Subject {
  readonly #predictor: SamPredictor;
  readonly #photo: Photo;
  readonly #image: Tensor;

  private constructor(predictor: SamPredictor, photo: Photo) {
    this.#predictor = predictor;
    this.#photo = photo;
    this.#image = fittingFrame(predictor.bundle.manifest, photo).frame.image(photo);
  }

  static async open({ bundle, photo, threads }: Job): Promise<Subject> {
    const pixels = await readPhoto(await (await fetch(photo)).blob());
    return new Subject(await SamPredictor.open(bundle, { engine: "wasm", threads, keep: false }), pixels);
  }

  get engine(): EngineInfo {
    return this.#predictor.engine;
  }

  async run(step: Step): Promise<Prediction | null> {
    if (step === "encode") {
      await this.#predictor.backend.encode(this.#image);
      return null;
    }
    if (step === "photo") await this.#predictor.setImage(this.#photo);
    const { width, height } = this.#photo;
    return this.#predictor.predict(
      { pointCoords: [[width / 2, height / 2]], pointLabels: [1] },
      { multimaskOutput: false },
    );
  }
}

let subject: Subject | null = null;

async function answer(request: Request): Promise<EngineInfo | Prediction | null> {
  if (typeof request === "string") return subject!.run(request);
  subject = await Subject.open(request);
  return subject.engine;
}

function post(reply: Reply): void {
  (self as unknown as Worker).postMessage(reply, [...buffersOf(reply)]);
}

self.addEventListener("message", (event: MessageEvent<Request>) => {
  answer(event.data).then(
    (result) => post({ result }),
    (error: unknown) => post({ error: firstLine(error) }),
  );
});
