/** Runs a bundle's acceptance test on this browser's engine, and compares with the fp32 model: `sam-edge verify` here. */

import type { Features } from "../arrays.ts";
import type { Bundle } from "../bundle/bundle.ts";
import type { Manifest } from "../bundle/manifest.ts";
import { BOUNDS, LOGIT_SAMPLING, MASK_OUTPUTS, MASK_THRESHOLD, type Bounds } from "../contract.ts";
import { decodePrompts, type Backend } from "../decoding.ts";
import type { EngineInfo } from "../engine/choice.ts";
import { BundleError, UsageError } from "../errors.ts";
import { Frame } from "../photo/frame.ts";
import { readGolden, sample, type Case, type GoldenPicture } from "./golden.ts";
import { boundaryIou, maskIou, snrDb } from "./metrics.ts";

/** One figure, and the bound that it must reach. */
export interface Check {
  readonly figure: string;
  readonly value: number;
  /** The value for people. */
  readonly measured: string;
  /** Empty where the figure has none. */
  readonly bound: string;
  readonly holds: boolean;
}

/** What the acceptance test found. */
export interface Verification {
  readonly passed: boolean;
  readonly checks: readonly Check[];
  /** Prompts that were compared. */
  readonly prompts: number;
  readonly engine: EngineInfo;
}

/** What is verified; a `SamPredictor` is. */
export interface Verifiable {
  readonly bundle: Bundle;
  readonly backend: Backend;
  readonly engine: EngineInfo;
}

interface PromptAgreement {
  readonly prompt: string;
  readonly maskIou: readonly number[];
  readonly boundaryIou: readonly number[];
  readonly iouPredictionError: number;
  readonly logitSnrDb: number;
}

interface Agreement {
  readonly prompts: readonly PromptAgreement[];
  readonly embeddingSnrDb: number;
}

/** The accuracy bounds of a bundle. A recipe that was searched for within a mask bound has that bound. */
export function boundsOf({ precision, recipeBound }: Manifest): Bounds {
  const bounds = Object.hasOwn(BOUNDS, precision) ? BOUNDS[precision] : undefined;
  if (!bounds) throw new UsageError(`there are no accuracy bounds for the precision '${precision}'`);
  return recipeBound === null ? bounds : { ...bounds, maskMiou: recipeBound };
}

/**
 * Run the acceptance test of a predictor's bundle. The predictor's photo stays set.
 *
 * @throws BundleError - the bundle has no `golden.npz`, or one that was changed.
 * @throws BackendError - the engine failed.
 */
export async function verify(predictor: Verifiable): Promise<Verification> {
  const { bundle, backend } = predictor;
  const content = await bundle.golden();
  if (!content) throw new BundleError(`${bundle.name} has no golden.npz to verify it with: copy the whole bundle`);
  const agreements: Agreement[] = [];
  for (const [index, picture] of (await readGolden(content, bundle.manifest)).entries()) {
    agreements.push(await compare(picture, index, backend, bundle.manifest));
  }
  const checks = checksOf(agreements, boundsOf(bundle.manifest));
  return {
    passed: checks.every((check) => check.holds),
    checks,
    prompts: agreements.reduce((sum, each) => sum + each.prompts.length, 0),
    engine: predictor.engine,
  };
}

async function compare(
  picture: GoldenPicture,
  index: number,
  backend: Backend,
  manifest: Manifest,
): Promise<Agreement> {
  const frame = new Frame(picture.graphs.frame, picture.photo, manifest.conventions);
  const features = await backend.encode(frame.image(picture.photo));
  const prompts: PromptAgreement[] = [];
  for (const cases of calls(picture.cases, manifest.prompts)) {
    prompts.push(...(await compareCall(cases, `picture ${index + 1}`, { backend, manifest, features, frame })));
  }
  return {
    prompts,
    embeddingSnrDb: Math.min(...features.map((each, place) => snrDb(picture.features[place]!.data, sample(each).data))),
  };
}

/** Cases of each call: one, or enough to fill the rows of a decoder of fixed shape. */
function* calls(cases: readonly Case[], rows: number | null): Generator<Case[]> {
  for (const [masked, worded] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ] as const) {
    const kind = cases.filter(({ slots }) => (slots.mask !== null) === masked && (slots.text !== null) === worded);
    if (rows === null) for (const each of kind) yield [each];
    else if (kind.length) {
      yield Array.from({ length: Math.max(rows, kind.length) }, (_, index) => kind[index % kind.length]!);
    }
  }
}

interface Run {
  readonly backend: Backend;
  readonly manifest: Manifest;
  readonly features: Features;
  readonly frame: Frame;
}

async function compareCall(cases: Case[], picture: string, run: Run): Promise<PromptAgreement[]> {
  const { backend, manifest, features, frame } = run;
  const slots = cases.map((each) => each.slots);
  const decoded = await decodePrompts(backend, manifest, features, slots, frame);
  const { height, width } = frame.cells;
  const cells = height * width;
  return cases.map(({ name, expected }, row) => {
    const lowRes = decoded.lowRes.subarray(row * MASK_OUTPUTS * cells, (row + 1) * MASK_OUTPUTS * cells);
    const inside = Uint8Array.from(lowRes, (logit) => (logit > MASK_THRESHOLD ? 1 : 0));
    const pairs = Array.from({ length: MASK_OUTPUTS }, (_, output) => {
      const [from, to] = [output * cells, (output + 1) * cells];
      return [expected.inside.subarray(from, to), inside.subarray(from, to)] as const;
    });
    const logits = sample({ data: lowRes, shape: [1, MASK_OUTPUTS, height, width] }, LOGIT_SAMPLING).data;
    const iou = decoded.iou.subarray(row * MASK_OUTPUTS, (row + 1) * MASK_OUTPUTS);
    const errors = Array.from(expected.iou, (value, output) => Math.abs(value - iou[output]!));
    if (expected.objectScore !== null && decoded.objectScores) {
      errors.push(Math.abs(probability(expected.objectScore) - probability(decoded.objectScores[row]!)));
    }
    return {
      prompt: `${name}, ${picture}`,
      maskIou: pairs.map(([a, b]) => maskIou(a, b)),
      boundaryIou: pairs.map(([a, b]) => boundaryIou(a, b, frame.cells)),
      iouPredictionError: Math.max(...errors),
      logitSnrDb: snrDb(expected.logits, logits),
    };
  });
}

function probability(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Every figure with its bound, as `sam-edge verify` lists them. NaN reaches no bound. */
function checksOf(agreements: readonly Agreement[], bounds: Bounds): Check[] {
  const prompts = agreements.flatMap((each) => each.prompts);
  const lowest = (each: PromptAgreement): number => Math.min(...each.maskIou);
  const worst = prompts.reduce((one, other) => (lowest(other) < lowest(one) ? other : one));
  const miou = mean(prompts.flatMap((each) => each.maskIou));
  const boundary = mean(prompts.flatMap((each) => each.boundaryIou));
  const error = Math.max(...prompts.map((each) => each.iouPredictionError));
  const atLeast = (figure: string, value: number, bound: number, shown: (value: number) => string): Check => ({
    figure,
    value,
    measured: shown(value),
    bound: `>= ${bound}${shown === decibels ? " dB" : ""}`,
    holds: value >= bound,
  });
  const free = (figure: string, value: number): Check => ({
    figure,
    value,
    measured: share(value),
    bound: "",
    holds: true,
  });
  return [
    atLeast(`mask mIoU (worst: ${worst.prompt})`, miou, bounds.maskMiou, share),
    free("boundary mIoU", boundary),
    free(`lowest mask IoU: ${worst.prompt}`, lowest(worst)),
    {
      figure: "largest difference of an IoU prediction",
      value: error,
      measured: error.toExponential(1),
      bound: `<= ${bounds.iouPredictionError}`,
      holds: error <= bounds.iouPredictionError,
    },
    atLeast(
      "embedding SNR, worst photo",
      Math.min(...agreements.map((each) => each.embeddingSnrDb)),
      bounds.embeddingSnrDb,
      decibels,
    ),
    atLeast(
      "mask logit SNR, worst prompt",
      Math.min(...prompts.map((each) => each.logitSnrDb)),
      bounds.logitSnrDb,
      decibels,
    ),
  ];
}

function share(value: number): string {
  return value.toFixed(6);
}

function decibels(value: number): string {
  return `${value.toFixed(1)} dB`;
}
