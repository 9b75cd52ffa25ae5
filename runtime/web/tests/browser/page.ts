/** What the tests let a browser do: `tests/web/test_browser.py` writes the jobs, and compares with the Python runtime. */

import {
  clearStore,
  fromRle,
  readPhoto,
  SamWorker,
  toCutout,
  toPng,
  toRle,
  type BundleSource,
  type EngineInfo,
  type Mask,
  type MaskRecord,
  type OutputMode,
  type Prompt,
  type Rle,
  type UncompressedRle,
  type Verification,
  type WorkerOptions,
} from "@sam-edge/runtime";

export interface Job {
  readonly bundle: string;
  /** How the bundle is opened: by its URL, or as files that a user chose. */
  readonly files?: readonly string[];
  readonly options?: WorkerOptions;
  readonly photos?: readonly {
    readonly url: string;
    readonly prompts: readonly Prompt[];
    readonly multimask: boolean;
    /** Ask again with the first mask's logits beside each prompt. */
    readonly refine?: boolean;
    readonly outputMode?: OutputMode;
  }[];
  readonly generate?: { readonly url: string; readonly settings: Record<string, unknown> };
  readonly verify?: boolean;
  /** Photos whose pixels are wanted. */
  readonly pixels?: readonly string[];
  readonly png?: { readonly url: string; readonly mask: Rle };
  readonly clear?: boolean;
  /** Whether the bundle's host cannot be reached; photos come with the job then. */
  readonly offline?: boolean;
}

export interface Answer {
  readonly scores: readonly number[];
  readonly masks: readonly Rle[];
  readonly objectScore: number | null;
}

export interface Result {
  engine?: EngineInfo;
  progress?: { calls: number; loaded: number; total: number };
  answers?: Answer[][];
  /** Times that the page's timer rang while the worker computed. */
  ticks?: number;
  records?: readonly MaskRecord[];
  shares?: number[];
  verification?: Verification;
  pixels?: { width: number; height: number; data: string }[];
  png?: string[];
  error?: { name: string; message: string };
}

/** A photo that was fetched while there was a connection. */
const fetched = new Map<string, Blob>();

async function blob(url: string, offline = false): Promise<Blob> {
  const known = offline ? fetched.get(url) : undefined;
  if (known) return known;
  const content = await download(url);
  fetched.set(url, content);
  return content;
}

async function download(url: string): Promise<Blob> {
  return (await fetch(url)).blob();
}

async function base64(content: Blob): Promise<string> {
  const url = await new Promise<string>((resolve) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result as string));
    reader.readAsDataURL(content);
  });
  return url.slice(url.indexOf(",") + 1);
}

async function answers(
  sam: SamWorker,
  { url, prompts, multimask, refine, outputMode }: NonNullable<Job["photos"]>[number],
  offline: boolean | undefined,
): Promise<Answer[]> {
  await sam.setImage(await blob(url, offline));
  const options = { multimaskOutput: multimask, outputMode };
  let predictions = await sam.predictBatch(prompts, options);
  if (refine) {
    const again = prompts.map((prompt, index) => ({ ...prompt, maskInput: predictions[index]!.lowRes[0] }));
    predictions = await Promise.all(again.map((prompt) => sam.predict(prompt, options)));
  }
  return predictions.map(({ scores, masks, objectScore }) => ({ scores, masks: masks.map(compressed), objectScore }));
}

function compressed(mask: Mask | Rle | UncompressedRle): Rle {
  if ("data" in mask) return toRle(mask);
  return typeof mask.counts === "string" ? (mask as Rle) : toRle(fromRle(mask));
}

async function work(job: Job, result: Result): Promise<void> {
  if (job.clear) await clearStore();
  if (job.pixels) {
    result.pixels = [];
    for (const url of job.pixels) {
      const { width, height, data } = await readPhoto(await blob(url));
      result.pixels.push({ width, height, data: await base64(new Blob([data])) });
    }
  }
  if (job.png) {
    const mask = fromRle(job.png.mask);
    const photo = await readPhoto(await blob(job.png.url));
    result.png = [await base64(await toPng(mask)), await base64(await toCutout(mask, photo))];
  }
  if (!job.bundle) return;
  const progress = { calls: 0, loaded: 0, total: 0 };
  const onProgress = ({ loaded, total }: { loaded: number; total: number }): void => {
    Object.assign(progress, { calls: progress.calls + 1, loaded, total });
  };
  let source: BundleSource = job.bundle;
  if (job.files) {
    const chosen = job.files.map(async (name) => new File([await blob(job.bundle + name)], name));
    source = await Promise.all(chosen);
  }
  const sam = await SamWorker.open(source, { ...job.options, onProgress });
  try {
    result.progress = progress;
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    result.answers = [];
    for (const photo of job.photos ?? []) result.answers.push(await answers(sam, photo, job.offline));
    clearInterval(timer);
    result.ticks = ticks;
    if (job.generate) {
      const shares: number[] = [];
      const onShare = { onProgress: (share: number) => shares.push(share) };
      result.records = await sam.generate(await blob(job.generate.url), job.generate.settings, onShare);
      result.shares = shares;
    }
    if (job.verify) result.verification = await sam.verify();
    result.engine = sam.engine;
  } finally {
    sam.terminate();
  }
}

async function run(job: Job): Promise<Result> {
  const result: Result = {};
  try {
    await work(job, result);
  } catch (error) {
    const { name, message } = error as Error;
    result.error = { name, message };
  }
  return result;
}

Object.assign(window, { run });
