/**
 * Runs the two graphs of a bundle in ONNX Runtime. Each graph is loaded on first use and checked against the contract.
 *
 * A session answers one call at a time, so calls wait for each other here. Where WebGPU was chosen and not asked for, and
 * rejects a graph, WASM takes over.
 */

import type { Decoded, Features, Floats, Size, Tensor } from "../arrays.ts";
import type { Bundle } from "../bundle/bundle.ts";
import type { FrameGraphs, Manifest } from "../bundle/manifest.ts";
import type { GraphContract, TensorSpec } from "../bundle/tensors.ts";
import { MASK_OUTPUTS, MASK_STRIDE } from "../contract.ts";
import type { Backend } from "../decoding.ts";
import { BackendError, BundleError, firstLine } from "../errors.ts";
import type { Feed } from "../prompts.ts";
import { chooseEngine, wasm, type EngineInfo, type EngineOptions } from "./choice.ts";
import { loadRuntime, type LoadedRuntime, type Runtime, type Session } from "./ort.ts";

/** The graphs of a bundle; a further one, such as a text encoder, would be a third part. */
type Part = "encoder" | "decoder";

/** The engine of a bundle. */
export class Engine implements Backend {
  readonly #bundle: Bundle;
  readonly #options: EngineOptions;
  readonly #sessions = new Map<string, Promise<Session>>();
  #ort: Runtime;
  #info: EngineInfo;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(bundle: Bundle, options: EngineOptions, ort: Runtime, info: EngineInfo) {
    this.#bundle = bundle;
    this.#options = options;
    this.#ort = ort;
    this.#info = info;
  }

  /** Choose an engine for a bundle and load it; `start` needs it, and its files may be read meanwhile. */
  static async choose(manifest: Manifest, options: EngineOptions): Promise<LoadedRuntime> {
    return loadRuntime(await chooseEngine(manifest, options), options.wasmPaths);
  }

  /**
   * Load both graphs of the first frame.
   *
   * @param chosen - what `choose` gave; else it is chosen here.
   * @throws BackendError - the engine is missing, or rejects a graph.
   * @throws BundleError - a graph breaks the manifest's contract.
   */
  static async start(
    bundle: Bundle,
    options: EngineOptions = {},
    chosen = Engine.choose(bundle.manifest, options),
  ): Promise<Engine> {
    const { ort, engine } = await chosen;
    const started = new Engine(bundle, options, ort, engine);
    await started.load(bundle.manifest.frames[0]!);
    return started;
  }

  /** Which engine computes. */
  get info(): EngineInfo {
    return this.#info;
  }

  /** Load both graphs of a frame now; else its first photo does. */
  async load(graphs: FrameGraphs): Promise<void> {
    await this.#session("encoder", graphs);
    await this.#session("decoder", graphs);
  }

  async encode(image: Tensor): Promise<Features> {
    const wanted = image.shape.join();
    const graphs = this.#bundle.manifest.frames.find(
      ({ encoderContract }) => encoderContract.inputs[0]!.shape.join() === wanted,
    );
    if (!graphs)
      throw new BackendError(`the bundle has no graph for an image of the shape (${image.shape.join(", ")})`);
    const outputs = await this.#run("encoder", graphs, { image });
    return graphs.encoderContract.outputs.map((spec) => outputs[spec.name]!);
  }

  async decode(features: Features, feed: Feed, frame: Size): Promise<Decoded> {
    const graphs = this.#graphs(frame);
    const [height, width] = [frame.height / MASK_STRIDE, frame.width / MASK_STRIDE];
    const [embedding, ...further] = features;
    const inputs = [
      embedding!,
      { data: feed.coords, shape: [feed.rows, feed.slots, 2] },
      { data: feed.labels, shape: [feed.rows, feed.slots] },
      ...(this.#bundle.manifest.conventions.maskPrompts
        ? [
            { data: feed.masks, shape: [feed.rows, 1, height, width] },
            { data: feed.hasMask, shape: [feed.rows] },
          ]
        : []),
      ...textInputs(feed, this.#bundle.manifest.conventions.textChannels),
      ...further,
    ];
    const names = graphs.decoderContract.inputs.map((spec) => spec.name);
    const outputs = await this.#run(
      "decoder",
      graphs,
      Object.fromEntries(names.map((name, index) => [name, inputs[index]!])),
    );
    const [lowRes, iou, scores] = graphs.decoderContract.outputs.map((spec) => outputs[spec.name]!);
    if (iou!.data.length !== feed.rows * MASK_OUTPUTS || lowRes!.data.length !== iou!.data.length * height * width) {
      throw new BundleError(`${graphs.decoder} returns ${lowRes!.shape.join("x")} masks: export the bundle again`);
    }
    return { lowRes: lowRes!.data, iou: iou!.data, objectScores: scores?.data ?? null };
  }

  /** Free the memory of all graphs. */
  async dispose(): Promise<void> {
    await this.#inTurn(async () => {
      const sessions = await Promise.allSettled(this.#sessions.values());
      this.#sessions.clear();
      for (const session of sessions) if (session.status === "fulfilled") await session.value.release();
    });
  }

  #graphs({ height, width }: Size): FrameGraphs {
    const found = this.#bundle.manifest.frames.find(({ frame }) => frame.height === height && frame.width === width);
    if (!found) throw new BackendError(`the bundle has no graphs for a frame of ${width}x${height} pixels`);
    return found;
  }

  /** Calls one after another, whether the one before failed or not. */
  #inTurn<T>(call: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(call, call);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #run(part: Part, graphs: FrameGraphs, inputs: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    const session = await this.#session(part, graphs);
    return this.#inTurn(async () => {
      const { Tensor: OrtTensor } = this.#ort;
      const feeds = Object.fromEntries(
        Object.entries(inputs).map(([name, { data, shape }]) => [name, new OrtTensor("float32", data, shape)]),
      );
      try {
        const outputs = await session.run(feeds);
        return Object.fromEntries(
          Object.entries(outputs).map(([name, tensor]) => [
            name,
            { data: tensor.data as Floats, shape: [...tensor.dims] },
          ]),
        );
      } catch (error) {
        throw new BackendError(`ONNX Runtime failed in ${graphs[part]} on ${this.#info.name} (${firstLine(error)})`, {
          cause: error,
        });
      }
    });
  }

  #session(part: Part, graphs: FrameGraphs): Promise<Session> {
    const key = graphs[part];
    const known = this.#sessions.get(key);
    if (known) return known;
    const made = this.#inTurn(() => this.#open(part, graphs));
    this.#sessions.set(key, made);
    made.catch(() => this.#sessions.delete(key));
    return made;
  }

  async #open(part: Part, graphs: FrameGraphs): Promise<Session> {
    try {
      return await this.#create(part, graphs);
    } catch (error) {
      const asked = (this.#options.engine ?? "auto") !== "auto";
      if (this.#info.name !== "webgpu" || asked || error instanceof BundleError) throw error;
      const fallback = wasm(this.#options.threads, `WebGPU rejected ${graphs[part]}`);
      ({ ort: this.#ort, engine: this.#info } = await loadRuntime(fallback, this.#options.wasmPaths));
      for (const key of this.#sessions.keys()) if (key !== graphs[part]) this.#sessions.delete(key);
      return this.#create(part, graphs);
    }
  }

  async #create(part: Part, graphs: FrameGraphs): Promise<Session> {
    const file = graphs[part];
    // Weights beside the graph: frames share those of the first one's file.
    const weights = this.#bundle.namesLike(`${part}.onnx.data`);
    // In fp32, optimizing nano's decoder takes half of the time that its session takes and saves a click none. INT8 needs it.
    const { precision } = this.#bundle.manifest;
    const plain = part === "decoder" && precision === "fp32" && this.#info.name === "wasm";
    let session: Session;
    try {
      session = await this.#ort.InferenceSession.create(this.#bundle.file(file), {
        executionProviders: [this.#info.name],
        graphOptimizationLevel: plain ? "disabled" : "all",
        logSeverityLevel: 3,
        extra: { session: { force_spinning_stop: "1" } }, // idle threads would take a core from the page
        ...(weights.length ? { externalData: weights.map((path) => ({ path, data: this.#bundle.file(path) })) } : {}),
      });
    } catch (error) {
      throw new BackendError(
        `ONNX Runtime cannot load ${file} on ${this.#info.name} (${firstLine(error)}): export it again, or use another ` +
          "engine",
        { cause: error },
      );
    }
    checkSession(file, session, part === "encoder" ? graphs.encoderContract : graphs.decoderContract);
    return session;
  }
}

/** The inputs of text, where the decoder takes them; zeros where no prompt has text. */
function textInputs({ text, rows }: Feed, channels: number | null): Tensor[] {
  if (channels === null) return [];
  return [
    { data: text?.embeddings ?? new Float32Array(rows * channels), shape: [rows, channels] },
    { data: text?.hasText ?? new Float32Array(rows), shape: [rows] },
  ];
}

/** Compare a session with the contract. An output's axis may be free where the contract has a number. */
function checkSession(file: string, session: Session, contract: GraphContract): void {
  checkTensors(file, "input", session.inputMetadata, contract.inputs);
  checkTensors(file, "output", session.outputMetadata, contract.outputs);
}

function checkTensors(
  file: string,
  role: "input" | "output",
  found: Session["inputMetadata"],
  expected: readonly TensorSpec[],
): void {
  const names = found.map((each) => each.name).sort();
  const wanted = expected.map((each) => each.name).sort();
  if (names.join() !== wanted.join()) {
    throw new BundleError(
      `${file} has the ${role}s ${names.join(", ")} where the contract has ${wanted.join(", ")}: export it again`,
    );
  }
  for (const spec of expected) {
    const tensor = found.find((each) => each.name === spec.name)!;
    if (!tensor.isTensor || tensor.type !== spec.dtype) {
      throw new BundleError(
        `${role} ${spec.name} of ${file} is not ${spec.dtype}, as the contract has it: export it again`,
      );
    }
    const fits =
      tensor.shape.length === spec.shape.length &&
      tensor.shape.every((size, axis) => {
        const want = spec.shape[axis]!;
        if (typeof size === "number" && typeof want === "number") return size === want;
        return typeof size !== "number" && (typeof want === "string" || role === "output");
      });
    if (!fits) {
      throw new BundleError(
        `${role} ${spec.name} of ${file} has the shape (${tensor.shape.join(", ")}) where the contract has ` +
          `(${spec.shape.join(", ")}): export it again`,
      );
    }
  }
}
