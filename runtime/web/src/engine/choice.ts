/** Which engine computes: WebGPU where an adapter answers and its limits suffice, else WASM, with threads where it may. */

import type { Manifest } from "../bundle/manifest.ts";
import { BackendError, UsageError } from "../errors.ts";

export type EngineName = "webgpu" | "wasm";
export const ENGINES = ["auto", "webgpu", "wasm"] as const;

export interface EngineOptions {
  /** `auto` (default) takes WebGPU where it is there and suffices, else WASM. */
  readonly engine?: (typeof ENGINES)[number] | undefined;
  /** Threads of WASM; default: one for each core, at most `MOST_THREADS`. Without isolation there is one. */
  readonly threads?: number | undefined;
  /** Where onnxruntime-web's `.wasm` and `.mjs` files lie, if a bundler does not place them: a URL that ends with `/`. */
  readonly wasmPaths?: string | undefined;
}

/** Which engine computes, for a badge or a report. */
export interface EngineInfo {
  readonly name: EngineName;
  /** Threads of WASM; 1 for WebGPU. */
  readonly threads: number;
  /** Why it is this one, in a sentence. */
  readonly reason: string;
}

/** More threads than these cost SAM's graphs more in waiting than they compute. */
export const MOST_THREADS = 8;

/** Precisions that compute in integers; WebGPU lacks those operators, so each would go back and forth to WASM. */
const INTEGERS: ReadonlySet<string> = new Set(["dynamic", "w8a8", "w8a16", "npu"]);

/** What every WebGPU adapter has: graphs are exported so that no tensor of one layer is larger. */
const LEAST_BINDING = 128 * 1024 * 1024; // bytes

/** Whether this is Node and not a browser. */
export const isNode =
  (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node !== undefined;

/** Whether this page may share memory between threads. */
export function isIsolated(): boolean {
  return isNode || (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true;
}

function largestTensor({ frames }: Manifest): number {
  const sizes = frames.flatMap(({ encoderContract: encoder, decoderContract: decoder }) =>
    [...encoder.inputs, ...encoder.outputs, ...decoder.inputs, ...decoder.outputs].map((spec) =>
      spec.shape.reduce<number>((bytes, size) => (typeof size === "number" ? bytes * size : bytes), 4),
    ),
  );
  return Math.max(...sizes);
}

/** Why WebGPU cannot be had; null where it can. */
async function withoutWebGpu(manifest: Manifest): Promise<string | null> {
  const gpu = (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
  if (!gpu) return "this browser has no WebGPU";
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter) return "no WebGPU adapter answered";
  const need = Math.max(LEAST_BINDING, largestTensor(manifest));
  const has = Math.min(adapter.limits.maxStorageBufferBindingSize, adapter.limits.maxBufferSize);
  if (has < need) return `the WebGPU adapter binds ${has} bytes, and the graphs need ${need}`;
  return null;
}

/** Whether the adapter is a program on the CPU, which WASM outdoes. */
async function isSoftware(): Promise<boolean> {
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return adapter?.info.isFallbackAdapter ?? false;
}

/**
 * Choose the engine for a bundle.
 *
 * @throws UsageError - an unknown engine, or a number of threads that is none.
 * @throws BackendError - WebGPU was asked for by name and cannot be had.
 */
export async function chooseEngine(manifest: Manifest, options: EngineOptions = {}): Promise<EngineInfo> {
  const { engine = "auto", threads } = options;
  if (!ENGINES.includes(engine)) throw new UsageError(`engine '${String(engine)}' is not one of ${ENGINES.join(", ")}`);
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 1024)) {
    throw new UsageError(`threads ${threads} is not an integer from 1 to 1024; leave it out for one per core`);
  }
  if (engine === "wasm") return wasm(threads, "it was asked for");
  const missing = await withoutWebGpu(manifest);
  if (engine === "webgpu") {
    if (missing !== null) throw new BackendError(`${missing}: use { engine: "wasm" } or "auto"`);
    return { name: "webgpu", threads: 1, reason: "it was asked for" };
  }
  if (missing !== null) return wasm(threads, missing);
  if (INTEGERS.has(manifest.precision)) return wasm(threads, `WebGPU lacks integer operators (${manifest.precision})`);
  if (await isSoftware()) return wasm(threads, "the WebGPU adapter is a program on the CPU");
  return { name: "webgpu", threads: 1, reason: "a WebGPU adapter answered" };
}

/** WASM with the threads that this page may have. */
export function wasm(threads: number | undefined, reason: string): EngineInfo {
  if (!isIsolated()) {
    const note = "the page is not cross-origin isolated, so there is one thread";
    return { name: "wasm", threads: 1, reason: `${reason}; ${note}` };
  }
  const cores = (globalThis.navigator as { hardwareConcurrency?: number } | undefined)?.hardwareConcurrency ?? 1;
  return { name: "wasm", threads: threads ?? Math.min(cores, MOST_THREADS), reason };
}
