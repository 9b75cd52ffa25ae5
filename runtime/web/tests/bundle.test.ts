/** Bundles are checked as the Python runtime checks them, and answer as it answers. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { deflateRawSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { Bytes } from "../src/arrays.ts";
import { maskIou } from "../src/agreement/metrics.ts";
import { parseNpy } from "../src/agreement/npz.ts";
import { verify } from "../src/agreement/verify.ts";
import { Bundle, type Progress } from "../src/bundle/bundle.ts";
import { checkFileName, readManifest } from "../src/bundle/manifest.ts";
import type { Backend } from "../src/decoding.ts";
import { BundleError, PromptError, StateError } from "../src/errors.ts";
import { fromRle, toUncompressedRle } from "../src/masks/rle.ts";
import { SamPredictor } from "../src/predictor.ts";
import {
  type BundleCase,
  decoded,
  changed,
  FAMILIES,
  files,
  fixtures,
  floats,
  largestDifference,
  parts,
  photo,
} from "./fixtures.ts";

const { any, fixed } = fixtures.bundles;

function text(content: string | undefined): string {
  return Buffer.from(content!, "base64").toString("utf-8");
}

/** The manifest with a change, and a digest that fits it. */
describe("the manifest", () => {
  test("its digest is Python's, with other letters and numbers of every form", async () => {
    const manifest = await readManifest(text(any.files["manifest.json"]));
    expect(manifest).toMatchObject({
      variant: "standin",
      inputSide: 256,
      recipeBound: 0.5,
      prompts: null,
      random: true,
    });
    const edited = text(any.files["manifest.json"]).replace('"standin"', '"standout"');
    await expect(readManifest(edited)).rejects.toThrow(/does not match its digest/);
  });

  test("SAM 2's has its tensors", async () => {
    const { frames, conventions } = await readManifest(fixtures.manifests["SAM 2"]!);
    expect(conventions).toMatchObject({ stretched: true, objectScore: true, logitLimit: 32 });
    expect(frames[0]!.decoderContract.inputs.map(({ name }) => name).slice(5)).toEqual([
      "high_res_features_0",
      "high_res_features_1",
    ]);
    expect(frames[0]!.encoderContract.outputs[2]!.shape).toEqual([1, 64, 32, 32]);
    expect(frames[0]!.decoderContract.outputs.at(-1)).toMatchObject({ name: "object_score_logits", shape: ["B", 1] });
  });

  test("those of format 4 have theirs", async () => {
    const efficient = await readManifest(fixtures.manifests.EfficientSAM!);
    expect(efficient.conventions).toMatchObject({ antialiased: false, bicubicMasks: true, slots: 6 });
    expect(efficient.frames[0]!.decoderContract.inputs.map(({ name }) => name)).toEqual([
      "image_embeddings",
      "point_coords",
      "point_labels",
    ]);
    const { frames, conventions } = await readManifest(fixtures.manifests["EfficientViT-SAM"]!);
    expect(conventions).toMatchObject({ antialiased: true, maskPrompts: true, slots: null, imageStride: 2 });
    expect(frames.map(({ encoderContract }) => encoderContract.inputs[0]!.shape)).toEqual([
      [1, 3, 128, 128],
      [1, 3, 96, 128],
    ]);
  });

  test.each<[string, unknown, RegExp]>([
    ["slots", 5, /6 points are not the 5 slots/],
    ["slots", 65, /slots is 65, at most 64/],
    ["image_stride", 3, /image_stride is 3, one of 1, 2/],
    ["antialiased", "no", /antialiased is "no", true or false/],
    ["mask_prompts", null, /mask_prompts is null, true or false/],
    ["text_channels", 4097, /text_channels is 4097, at most 4096/],
  ])("%s of %j is refused", async (name, value, message) => {
    const json = await changed(fixtures.manifests.EfficientSAM!, (document) => {
      (document.conventions as Record<string, unknown>)[name] = value;
    });
    await expect(readManifest(json)).rejects.toThrow(message);
  });

  test("several frames have a file each", async () => {
    const { frames } = await readManifest(fixtures.manifests.frames!);
    expect(frames.map(({ encoder, decoder }) => [encoder, decoder])).toEqual([
      ["encoder.onnx", "decoder.onnx"],
      ["encoder_256x192.onnx", "decoder_256x192.onnx"],
    ]);
    expect(frames[1]!.encoderContract.inputs[0]!.shape).toEqual([1, 3, 192, 256]);
  });

  test.each<[string, string | ((document: Record<string, unknown>) => void), RegExp]>([
    ["no JSON", "{", /is not JSON \(a string is expected at character 1\)/],
    ["too deep", "[".repeat(1000), /nested too deeply/],
    ["another document", "{}", /does not say format 'sam-edge-bundle'/],
    ["a newer format", (document) => (document.format_version = 99), /format_version 99.*reads up to 5: upgrade/],
    ["a version of text", (document) => (document.format_version = "3"), /"3", an integer is expected/],
    ["an impossible side", (document) => (document.input_side = 250), /input_side is 250/],
    ["no files", (document) => delete document.files, /files is missing, an object is expected/],
    ["channels of a fraction", (document) => (document.embedding_channels = 3.5), /3.5, an integer/],
    ["another contract", (document) => (document.embedding_channels = 5), /break the contract at/],
  ])("%s is refused", async (_, change, message) => {
    const json = typeof change === "string" ? change : await changed(fixtures.manifests.SAM!, change);
    await expect(readManifest(json)).rejects.toThrow(BundleError);
    await expect(readManifest(json)).rejects.toThrow(message);
  });

  test.each([
    ["coreml", /for coreml, and browsers run onnx: export it again with --target onnx/],
    ["official", /without --layout official/],
  ])("a bundle that is %s is refused with its remedy", async (name, message) => {
    await expect(readManifest(fixtures.manifests[name]!)).rejects.toThrow(message);
  });

  test.each(["", "/etc/passwd", "../a", "a/../../b", "C:x", "a\\b", "a\nb", "a\u202eb"])(
    "the path %j leaves",
    (name) => {
      expect(() => checkFileName("bundle", name)).toThrow(/not a path inside the bundle/);
    },
  );
});

describe("a bundle", () => {
  test("is read from files in a folder, with progress", async () => {
    const inFolder = new Map([...files(any)].map(([name, file]) => [`nano/${name}`, file]));
    const steps: Progress[] = [];
    const bundle = await Bundle.open(inFolder, { onProgress: (progress) => steps.push(progress) });
    expect(bundle.name).toBe("nano");
    expect(steps.at(-1)!.loaded).toBe(steps.at(-1)!.total);
    expect(bundle.file("decoder.onnx").length).toBe(decoded(any.files["decoder.onnx"]!).length);
    expect(await bundle.golden()).not.toBeNull();
    expect(await bundle.report()).toBeNull();
  });

  test.each<[string, (all: Map<string, Blob>) => void, RegExp]>([
    ["without a manifest", (all) => all.delete("manifest.json"), /hold 0 bundles/],
    ["without a graph", (all) => all.delete("decoder.onnx"), /decoder.onnx is missing/],
    [
      "that was cut off",
      (all) => all.set("decoder.onnx", all.get("decoder.onnx")!.slice(0, 99)),
      /has 99 bytes, \d+ expected/,
    ],
    [
      "that was extended",
      (all) => all.set("decoder.onnx", new Blob([all.get("decoder.onnx")!, "x"])),
      /more than \d+ bytes/,
    ],
    [
      "that was changed",
      (all) => all.set("decoder.onnx", new Blob(["x", all.get("decoder.onnx")!.slice(1)])),
      /has SHA-256/,
    ],
  ])("%s is refused", async (_, breakIt, message) => {
    const all = files(any);
    breakIt(all);
    await expect(Bundle.open(all)).rejects.toThrow(BundleError);
    await expect(Bundle.open(all)).rejects.toThrow(message);
  });

  test("whose golden test was changed opens, and is not verified with it", async () => {
    const all = files(any);
    all.set("golden.npz", new Blob(["x", all.get("golden.npz")!.slice(1)]));
    const bundle = await Bundle.open(all);
    await expect(bundle.golden()).rejects.toThrow(/golden.npz has SHA-256/);
  });

  test("whose manifest names a graph without its hash is refused", async () => {
    const json = await changed(text(any.files["manifest.json"]), (document) => {
      (document.encoder as { file: string }).file = "golden.npz";
    });
    const all = files(any).set("manifest.json", new Blob([json]));
    await expect(Bundle.open(all)).rejects.toThrow(/names the graph golden.npz but not its hash/);
  });

  test("is read from a zip file, stored or deflated, and a damaged one is refused", async () => {
    for (const deflate of [false, true]) {
      const archive = zip(any.files, "standin/", deflate);
      expect((await Bundle.open(new Blob([archive]))).manifest.variant).toBe("standin");
      await expect(Bundle.open(new Blob([archive.slice(0, -30)]))).rejects.toThrow(/nor a zip file of one/);
    }
  });
});

/** A zip archive as other programs write it; checksums, which nobody reads here, are 0. */
function zip(content: Readonly<Record<string, string>>, top: string, deflate: boolean): Bytes {
  const [parts, directory]: [Buffer[], Buffer[]] = [[], []];
  let offset = 0;
  for (const [name, packed] of Object.entries(content)) {
    const raw = Buffer.from(packed, "base64");
    const body = deflate ? deflateRawSync(raw) : raw;
    const path = Buffer.from(top + name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(deflate ? 8 : 0, 8);
    local.writeUInt16LE(path.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(deflate ? 8 : 0, 10);
    central.writeUInt32LE(body.length, 20);
    central.writeUInt32LE(raw.length, 24);
    central.writeUInt16LE(path.length, 28);
    central.writeUInt32LE(offset, 42);
    parts.push(local, path, body);
    directory.push(central, path);
    offset += 30 + path.length + body.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt32LE(Buffer.concat(directory).length, 12);
  end.writeUInt32LE(offset, 16);
  return new Uint8Array(Buffer.concat([...parts, ...directory, end]));
}

describe("a bundle behind a URL", () => {
  let server: Server;
  let base = "";
  const asked: string[] = [];

  beforeAll(async () => {
    server = createServer((request, response) => {
      const path = request.url!.slice(1);
      asked.push(path);
      const content = any.files[path.replace(/^nano\//, "").replace(/\?.*$/, "")];
      if (path === "nano/broken") response.destroy();
      else if (!path.startsWith("nano/") || content === undefined) response.writeHead(404).end();
      else response.end(decoded(content));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  afterAll(() => {
    server.close();
  });

  test.each(["/nano", "/nano/", "/nano/manifest.json"])("%s opens", async (path) => {
    const bundle = await Bundle.open(base + path);
    expect(bundle.manifest.variant).toBe("standin");
    expect(await bundle.golden()).not.toBeNull();
  });

  test("keeps the signature of its URL", async () => {
    await Bundle.open(`${base}/nano/?key=1`);
    expect(asked).toContain("nano/decoder.onnx?key=1");
  });

  test("that is not there is refused", async () => {
    await expect(Bundle.open(`${base}/other/`)).rejects.toThrow(/is no bundle: it has no manifest.json/);
    await expect(Bundle.open("http://127.0.0.1:1/")).rejects.toThrow(/cannot be read .* check the connection/);
  });

  test("whose URL is a path is refused with its remedy", async () => {
    await expect(Bundle.open("out/nano")).rejects.toThrow(/'out\/nano' is no URL of a bundle: give one such as https/);
  });

  test("is given up when it is aborted", async () => {
    const opening = Bundle.open(`${base}/nano/`, { signal: AbortSignal.abort() });
    await expect(opening).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe.each<[string, BundleCase]>([
  ["of any shape", any],
  ["of fixed shape", fixed],
  ...FAMILIES.map((family) => [`with the tensors of ${family}`, fixtures.bundles[family]] as [string, BundleCase]),
])("the predictor with graphs %s", (_, bundle) => {
  let predictor: SamPredictor;

  beforeAll(async () => {
    predictor = await SamPredictor.create(await Bundle.open(files(bundle)), { threads: 1 });
  });

  afterAll(() => predictor.dispose());

  test("answers as the Python runtime does", async () => {
    expect(predictor.engine).toMatchObject({ name: "wasm", threads: 1 });
    await predictor.setImage(photo(bundle.photo));
    for (const answer of bundle.answers) {
      const { maskInput, ...prompt } = answer.prompt;
      const asked = maskInput ? { ...prompt, maskInput: floats(bundle.mask) } : prompt;
      if ("refused" in answer) {
        await expect(predictor.predict(asked)).rejects.toThrow(PromptError);
        continue;
      }
      const { masks, scores, lowRes, objectScore } = await predictor.predict(asked, {
        multimaskOutput: answer.multimask,
      });
      expect(largestDifference(scores, answer.scores)).toBeLessThan(1e-5);
      const expected = parts(answer.low_res);
      lowRes.forEach((each, index) => expect(largestDifference(each, expected[index]!)).toBeLessThan(1e-3));
      const all = decoded(answer.masks.data);
      masks.forEach(({ data }, index) => {
        expect(maskIou(data, all.subarray(index * data.length, (index + 1) * data.length))).toBeGreaterThan(0.999);
      });
      expect(objectScore === null).toBe(answer.object_score === null);
      expect(Math.abs((objectScore ?? 0) - (answer.object_score ?? 0))).toBeLessThan(1e-3);
      expect(masks.length).toBe(answer.scores.length);
    }
  });

  test("gives masks as run lengths, too", async () => {
    await predictor.setImage(photo(bundle.photo));
    const prompt = { box: [10, 10, 90, 70] } as const;
    const { masks } = await predictor.predict(prompt);
    const { masks: compressed } = await predictor.predict(prompt, { outputMode: "coco_rle" });
    const { masks: lengths } = await predictor.predict(prompt, { outputMode: "uncompressed_rle" });
    masks.forEach(({ data }, index) => {
      expect(maskIou(fromRle(compressed[index]!).data, data)).toBeGreaterThan(0.999);
      expect(lengths[index]).toEqual(toUncompressedRle(fromRle(compressed[index]!)));
    });
    await expect(predictor.predict(prompt, { outputMode: "polygons" as "coco_rle" })).rejects.toThrow(/is not one of/);
  });

  test("answers many prompts at once, and calls that overlap", async () => {
    await predictor.setImage(photo(bundle.photo));
    const prompts = [1, 2, 3, 4, 5].map((x) => ({ pointCoords: [[x, 9] as const], pointLabels: [1] }));
    const together = await predictor.predictBatch(prompts, { multimaskOutput: false });
    const one = await Promise.all(prompts.map((prompt) => predictor.predict(prompt, { multimaskOutput: false })));
    expect(together.map(({ scores }) => scores[0])).toEqual(one.map(({ scores }) => scores[0]));
    expect(new Set(together.map(({ scores }) => scores[0])).size).toBe(5);
  });

  test("keeps a photo's features, and refuses others", async () => {
    await predictor.setImage(photo(bundle.photo));
    const features = predictor.getImageFeatures();
    const before = await predictor.predict({ box: [1, 2, 30, 40] });
    predictor.resetImage();
    await expect(predictor.predict({})).rejects.toThrow(StateError);
    predictor.setImageFeatures(features, { height: 80, width: 120 });
    expect((await predictor.predict({ box: [1, 2, 30, 40] })).scores).toEqual(before.scores);
    const wrong = [{ data: new Float32Array(3), shape: [3] }];
    expect(() => predictor.setImageFeatures(wrong, { height: 80, width: 120 })).toThrow(/shapes \(3\) are given/);
    await expect(predictor.predict({ box: [1, 2, 1, 4] })).rejects.toThrow(PromptError);
  });

  test("passes the bundle's acceptance test", async () => {
    const { passed, checks, prompts } = await verify(predictor);
    expect(passed).toBe(true);
    expect(prompts).toBeGreaterThanOrEqual(8);
    expect(checks[0]).toMatchObject({ bound: ">= 0.5", holds: true });
    expect(checks[0]!.value).toBeGreaterThan(0.999);
    expect(checks.find(({ figure }) => figure.startsWith("embedding"))!.value).toBeGreaterThan(100);
  });
});

test("the acceptance test notices an engine that is wrong", async () => {
  const predictor = await SamPredictor.create(await Bundle.open(files(any)), { threads: 1 });
  const backend: Backend = {
    encode: (image) => predictor.backend.encode(image),
    decode: async (...call) => {
      const decoded = await predictor.backend.decode(...call);
      return { ...decoded, iou: decoded.iou.map((value) => value + 0.01) };
    },
  };
  const spoilt = { bundle: predictor.bundle, engine: predictor.engine, backend };
  const { passed, checks } = await verify(spoilt);
  expect(passed).toBe(false);
  expect(checks.filter(({ holds }) => !holds).map(({ figure }) => figure)).toEqual([
    "largest difference of an IoU prediction",
  ]);
});

test("arrays of numpy that claim other sizes are refused", () => {
  const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".padEnd(117) + "\n";
  const array = (values: number): Bytes =>
    new Uint8Array(Buffer.concat([Buffer.from("\x93NUMPY\x01\x00\x76\x00" + header, "latin1"), Buffer.alloc(values)]));
  expect(parseNpy(array(8))).toMatchObject({ dtype: "f4", shape: [2] });
  expect(() => parseNpy(array(9))).toThrow(/claims 8 bytes of values, and 9 follow/);
  expect(() => parseNpy(array(8).slice(1))).toThrow(/no array/);
});
