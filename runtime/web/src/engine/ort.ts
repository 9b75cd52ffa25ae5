/** ONNX Runtime for the web, loaded when the first graph is: the smallest build that runs it. */

import type * as Ort from "onnxruntime-web";
import { BackendError, firstLine } from "../errors.ts";
import { isNode, type EngineInfo } from "./choice.ts";

export type Runtime = typeof Ort;
export type Session = Ort.InferenceSession;

export interface LoadedRuntime {
  readonly ort: Runtime;
  readonly engine: EngineInfo;
}

const NODE_BUILD = "onnxruntime-web"; // not a literal in the import: a bundler would add a third build to the page

function load(name: EngineInfo["name"]): Promise<Runtime> {
  if (isNode) return import(/* @vite-ignore */ NODE_BUILD) as Promise<Runtime>;
  return name === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm");
}

/** Threads that each build was started with; it keeps them as long as the page, or the worker, lives. */
const started = new Map<EngineInfo["name"], number>();

/** A graph that returns its one number: onnxruntime-web fetches and compiles its WASM for the first session. */
const SMALLEST_GRAPH = "CAk6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBI=";

/**
 * The engine's module, set up and started.
 *
 * @returns the module, and the engine as it is: a build that runs already keeps its threads.
 * @throws BackendError - onnxruntime-web is not installed, or its files are not where it looks for them.
 */
export async function loadRuntime(engine: EngineInfo, wasmPaths: string | undefined): Promise<LoadedRuntime> {
  let ort: Runtime;
  try {
    ort = await load(engine.name);
  } catch (error) {
    throw new BackendError(
      `onnxruntime-web cannot be loaded (${firstLine(error)}): install it with npm install onnxruntime-web@~1.30.0`,
      { cause: error },
    );
  }
  const before = started.get(engine.name);
  if (before === undefined) {
    started.set(engine.name, engine.threads);
    ort.env.wasm.numThreads = engine.threads;
    ort.env.wasm.proxy = false;
    ort.env.logLevel = "error";
    if (wasmPaths !== undefined) ort.env.wasm.wasmPaths = wasmPaths;
    if (engine.name === "wasm") await start(ort);
    return { ort, engine };
  }
  if (before === engine.threads) return { ort, engine };
  const reason = `${engine.reason}; this page's engine was started with ${before} threads and keeps them`;
  return { ort, engine: { ...engine, threads: before, reason } };
}

async function start(ort: Runtime): Promise<void> {
  const graph = Uint8Array.from(atob(SMALLEST_GRAPH), (character) => character.charCodeAt(0));
  try {
    const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
    await session.release();
  } catch (error) {
    throw new BackendError(
      `onnxruntime-web cannot start its WebAssembly (${firstLine(error)}): reload the page, or check wasmPaths`,
      { cause: error },
    );
  }
}
