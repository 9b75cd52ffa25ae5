/** `manifest.json`: everything that a runtime needs to know before it loads the graphs of a bundle. */

import type { Size } from "../arrays.ts";
import {
  FORMAT,
  FORMAT_VERSION,
  FRAME_STEP,
  INTERFACE,
  LARGEST_CAPACITY,
  LARGEST_MANIFEST,
  LARGEST_SIDE,
  LAYOUT,
  MANIFEST_FILE,
  MOST_FRAMES,
  SIDE_STEP,
  SMALLEST_SHORT_SIDE,
  SMALLEST_SIDE,
  SUFFIX,
  TARGET,
  TARGETS,
} from "../contract.ts";
import { BundleError, firstLine, printable, quoted } from "../errors.ts";
import { readConventions, SAM, type Conventions } from "./conventions.ts";
import { Fields } from "./fields.ts";
import { sha256 } from "./hash.ts";
import { canonical, JsonNumber, parseJson, type Json, type JsonObject } from "./json.ts";
import { checkTextPart, readTextPart, type TextPart } from "./text.ts";
import { decoderContract, encoderContract, type GraphContract, type TensorSpec } from "./tensors.ts";

const AGAIN = "export the bundle again";

/** SHA-256 in hexadecimal and size in bytes. */
export interface FileRecord {
  readonly sha256: string;
  readonly bytes: number;
}

/** The graphs of one frame. */
export interface FrameGraphs {
  readonly frame: Size;
  readonly encoder: string;
  readonly decoder: string;
  readonly encoderContract: GraphContract;
  readonly decoderContract: GraphContract;
}

export interface Manifest {
  readonly variant: string;
  readonly parameters: number;
  readonly licence: string;
  /** Name of the weight file, or `random:SEED`. */
  readonly checkpoint: string;
  /** Whether the weights are random: then masks mean nothing. */
  readonly random: boolean;
  readonly precision: string;
  /** The mask mIoU that a searched recipe keeps; null where there is none. */
  readonly recipeBound: number | null;
  /** The longer side S of every frame, in pixels. */
  readonly inputSide: number;
  readonly embeddingChannels: number;
  /** Prompts of a call; null: any number. */
  readonly prompts: number | null;
  /** Slots of a prompt; null: any number. */
  readonly points: number | null;
  readonly files: ReadonlyMap<string, FileRecord>;
  readonly frames: readonly FrameGraphs[];
  readonly conventions: Conventions;
  /** What turns words into text embeddings; null where the bundle has nothing that does. */
  readonly text: TextPart | null;
}

/** Refuse a name that is no path inside the bundle. */
export function checkFileName(bundle: string, name: string): void {
  const parts = name.split("/");
  const leaves = name.startsWith("/") || name.includes("\\") || /^[A-Za-z]:/.test(name) || parts.includes("..");
  if (!name || leaves || printable(name) !== name) {
    throw new BundleError(
      `${bundle}: ${MANIFEST_FILE} names ${quoted(name, 200)}, which is not a path inside the bundle: ${AGAIN}`,
    );
  }
}

/**
 * Read and check the text of a `manifest.json`.
 *
 * @param checkDigest - whether the digest is compared; only secure pages can compute it.
 * @throws BundleError - no JSON, no manifest, of a newer format, edited, or of a target that browsers cannot run.
 */
export async function readManifest(text: string, { checkDigest = true } = {}): Promise<Manifest> {
  if (text.length > LARGEST_MANIFEST) throw new BundleError(`${MANIFEST_FILE} is larger than any manifest: ${AGAIN}`);
  const document = readDocument(text);
  const top = new Fields(document, MANIFEST_FILE);
  checkTarget(top);
  const manifest = parse(top);
  checkGraphs("", top, manifest.frames[0]!);
  top.sections("frames", MOST_FRAMES).forEach((each, index) => {
    checkGraphs(`frames.${index}.`, each, manifest.frames[index]!);
  });
  if (checkDigest) await requireDigest(document);
  return manifest;
}

async function requireDigest(document: JsonObject): Promise<void> {
  const body: JsonObject = new Map(document);
  body.delete("digest");
  if (document.get("digest") !== (await sha256(new TextEncoder().encode(canonical(body))))) {
    throw new BundleError(`${MANIFEST_FILE} does not match its digest: it was edited; ${AGAIN}`);
  }
}

function readDocument(text: string): JsonObject {
  let document: Json;
  try {
    document = parseJson(text);
  } catch (error) {
    throw new BundleError(`${MANIFEST_FILE} is not JSON (${firstLine(error)}): ${AGAIN}`, { cause: error });
  }
  if (!(document instanceof Map) || document.get("format") !== FORMAT) {
    throw new BundleError(`${MANIFEST_FILE} does not say format '${FORMAT}': this is no sam-edge bundle`);
  }
  const version = new Fields(document, MANIFEST_FILE).integer("format_version");
  if (version > FORMAT_VERSION) {
    throw new BundleError(
      `${MANIFEST_FILE} has format_version ${version}, and this runtime reads up to ${FORMAT_VERSION}: upgrade ` +
        "@sam-edge/runtime",
    );
  }
  return document;
}

function checkTarget(top: Fields): void {
  const target = top.text("target");
  if (!(TARGETS as readonly string[]).includes(target)) throw top.error("target", `one of ${TARGETS.join(", ")} is`);
  if (target !== TARGET) {
    throw new BundleError(
      `this bundle is for ${target}, and browsers run ${TARGET}: export it again with --target ${TARGET}`,
    );
  }
  if ((top.optionalText("interface") ?? INTERFACE) !== INTERFACE) {
    throw new BundleError(
      "this bundle has the tensors of the official SAM ONNX model, which this runtime does not feed: export it again " +
        "without --layout official",
    );
  }
  if ((top.optionalText("layout") ?? LAYOUT) !== LAYOUT) throw top.error("layout", `${LAYOUT} is expected`);
}

function parse(top: Fields): Manifest {
  const model = top.section("model");
  const [capacity, files, checkpoint] = [top.section("capacity"), top.section("files"), model.section("checkpoint")];
  const inputSide = top.integer("input_side");
  if (inputSide < SMALLEST_SIDE || inputSide > LARGEST_SIDE || inputSide % SIDE_STEP) {
    throw top.error("input_side", `a multiple of ${SIDE_STEP} from ${SMALLEST_SIDE} to ${LARGEST_SIDE} is expected`);
  }
  if (capacity.has("batches")) throw capacity.error("batches", `no list is expected for ${TARGET}`);
  const conventions = top.members.has("conventions") ? readConventions(top.section("conventions")) : SAM;
  const bound = top.section("recipe").value("bound");
  const sizes = {
    channels: top.integer("embedding_channels", 1, LARGEST_CAPACITY),
    prompts: capacity.optionalInteger("prompts", LARGEST_CAPACITY),
    points: capacity.optionalInteger("points", LARGEST_CAPACITY),
  };
  const [encoder, decoder] = [top.section("encoder").text("file"), top.section("decoder").text("file")];
  const frames = readFrames(top, inputSide);
  if (conventions.stretched && frames.some(({ height, width }) => height !== width)) {
    throw new BundleError(`${MANIFEST_FILE}: photos are stretched, and a frame is no square: ${AGAIN}`);
  }
  if (conventions.slots !== null && conventions.slots !== sizes.points) {
    throw new BundleError(
      `${MANIFEST_FILE}: ${sizes.points ?? "any number of"} points are not the ${conventions.slots} slots of the ` +
        `conventions: ${AGAIN}`,
    );
  }
  const text = top.members.has("text") ? readTextPart(top.section("text")) : null;
  if (text) checkTextPart(text, conventions.textChannels, [...files.members.keys()]);
  return {
    variant: model.text("variant"),
    parameters: model.integer("parameters"),
    licence: model.text("licence"),
    checkpoint: checkpoint.text("source"),
    random: checkpoint.flag("random"),
    precision: top.text("precision"),
    recipeBound: bound instanceof JsonNumber ? bound.value : null,
    inputSide,
    embeddingChannels: sizes.channels,
    prompts: sizes.prompts,
    points: sizes.points,
    files: new Map([...files.members.keys()].map((name) => [name, readRecord(files.section(name))])),
    frames: frames.map((frame, index) => ({
      frame,
      encoder: fileOf(encoder, frame, index),
      decoder: fileOf(decoder, frame, index),
      encoderContract: encoderContract({ frame, ...sizes }, conventions),
      decoderContract: decoderContract({ frame, ...sizes }, conventions),
    })),
    conventions,
    text,
  };
}

function readRecord(fields: Fields): FileRecord {
  const hash = fields.text("sha256");
  if (!/^[0-9a-f]{64}$/.test(hash)) throw fields.error("sha256", "64 hexadecimal digits are expected");
  return { sha256: hash, bytes: fields.integer("bytes", 0) };
}

/** The sizes of the frames; bundles that have only the square do not name it. */
function readFrames(top: Fields, side: number): Size[] {
  const frames = top
    .sections("frames", MOST_FRAMES)
    .map((each) => ({ height: each.integer("height"), width: each.integer("width") }));
  for (const { height, width } of frames) {
    const fits = Math.max(height, width) === side && Math.min(height, width) >= SMALLEST_SHORT_SIDE;
    if (!fits || height % FRAME_STEP || width % FRAME_STEP) {
      throw new BundleError(
        `${MANIFEST_FILE}: frame ${width}x${height} is impossible for input_side ${side}: ${AGAIN}`,
      );
    }
  }
  if (new Set(frames.map(({ height, width }) => `${width}x${height}`)).size < frames.length) {
    throw new BundleError(`${MANIFEST_FILE}: a frame is named twice: ${AGAIN}`);
  }
  return frames.length ? frames : [{ height: side, width: side }];
}

/** The file of a frame's graph: for all but the first, `encoder.onnx` becomes `encoder_1024x768.onnx`. */
function fileOf(name: string, { height, width }: Size, index: number): string {
  return index && name.endsWith(SUFFIX) ? `${name.slice(0, -SUFFIX.length)}_${width}x${height}${SUFFIX}` : name;
}

/** Compare the sections `encoder` and `decoder` with the files and the contract of a frame. */
function checkGraphs(place: string, document: Fields, graphs: FrameGraphs): void {
  for (const [part, file, contract] of [
    ["encoder", graphs.encoder, graphs.encoderContract],
    ["decoder", graphs.decoder, graphs.decoderContract],
  ] as const) {
    const section = document.section(part);
    if (section.value("file") !== file) {
      throw new BundleError(`${MANIFEST_FILE}: ${place}${part} does not name the file ${quoted(file, 200)}: ${AGAIN}`);
    }
    checkTensors(section, "inputs", contract.inputs);
    checkTensors(section, "outputs", contract.outputs);
  }
}

/** Names, shapes and dtypes have to be the contract's; meanings are prose. */
function checkTensors(section: Fields, role: string, want: readonly TensorSpec[]): void {
  const have = section.value(role);
  if (!Array.isArray(have) || have.length !== want.length) {
    throw section.error(role, `the contract's ${want.length} tensors are expected`);
  }
  want.forEach((spec, index) => {
    const tensor = have[index];
    const shape = tensor instanceof Map ? (tensor.get("shape") ?? null) : null;
    const fits =
      tensor instanceof Map &&
      tensor.get("name") === spec.name &&
      tensor.get("dtype") === spec.dtype &&
      canonical(shape) === JSON.stringify(spec.shape);
    if (!fits) {
      throw new BundleError(
        `${MANIFEST_FILE}: ${role} break the contract at ${printable(canonical(tensor ?? null), 200)}: ${AGAIN}`,
      );
    }
  });
}
