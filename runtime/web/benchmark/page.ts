/** What `drive.mjs` calls: `begin` opens a bundle in a worker, `measure` times each step once, as a page meets it. */

import type { EngineInfo } from "../src/engine/choice.ts";
import type { Job, Reply, Request, Step } from "./worker.ts";

/** Milliseconds before each step, as natively: an engine's threads spin for a while after a run before they sleep. */
const REST = 20;
const STEPS: readonly Step[] = ["encode", "photo", "click"];

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });

function ask(request: Request): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.result);
    };
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(request);
  });
}

async function begin(job: Job): Promise<EngineInfo> {
  const engine = (await ask(job)) as EngineInfo;
  await ask("photo"); // clicks need a photo that is set
  return engine;
}

/** Seconds of each step, from the request to the answer on the page. */
async function measure(): Promise<Record<string, number>> {
  const seconds: Record<string, number> = {};
  for (const step of STEPS) {
    await new Promise((resolve) => setTimeout(resolve, REST));
    const started = performance.now();
    await ask(step);
    seconds[step] = (performance.now() - started) / 1000;
  }
  return seconds;
}

Object.assign(window, { begin, measure });
