/** Words are looked up, refused and answered as in the Python runtime. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { readGolden } from "../src/agreement/golden.ts";
import { verify } from "../src/agreement/verify.ts";
import { Bundle } from "../src/bundle/bundle.ts";
import { readManifest } from "../src/bundle/manifest.ts";
import { Vocabulary } from "../src/bundle/vocabulary.ts";
import { BundleError, PromptError } from "../src/errors.ts";
import { SamPredictor } from "../src/predictor.ts";
import { changed, decoded, files, fixtures, photo } from "./fixtures.ts";

const CASE = fixtures.bundles.words;
const [TABLE, VECTORS] = ["text.json", "text.bin"].map((name) => decoded(CASE.files[name]!)) as [
  ReturnType<typeof decoded>,
  ReturnType<typeof decoded>,
];
const VOCABULARY = Vocabulary.read(TABLE, VECTORS, 2);

describe("a vocabulary", () => {
  test("knows names, synonyms and plurals, without regard to case, hyphens and spaces", () => {
    for (const text of ["cat", "Kitten", " CATS\n"]) expect([...VOCABULARY.vector(text)]).toEqual([30, 4]);
    for (const text of ["dining-table", "Dining__Table", "TABLES"])
      expect([...VOCABULARY.vector(text)]).toEqual([9, 9]);
    expect([...VOCABULARY.vector("STRASSE")]).toEqual([55, 0.5]);
    expect(VOCABULARY.words.map(({ name }) => name)).toContain("traffic light");
  });

  test.each(fixtures.unknown_words)("refuses '$text' in the same words as in Python", ({ text, message }) => {
    expect(() => VOCABULARY.vector(text)).toThrow(PromptError);
    expect(() => VOCABULARY.vector(text)).toThrow(message);
  });

  test.each<[string, unknown, RegExp]>([
    ["another format", { format: "words", words: [] }, /format is "words"/],
    ["no words", { format: "sam-edge-words", words: [] }, /a vocabulary of 0 words/],
    ["a name that is no text", { format: "sam-edge-words", words: [{ name: 5 }] }, /5 is no text/],
    ["an empty name", { format: "sam-edge-words", words: [{ name: " - " }] }, /is no word of 1 to 100/],
    [
      "a spelling of two names",
      { format: "sam-edge-words", words: [{ name: "cat" }, { name: "dog", also: ["Cat"] }] },
      /'Cat' is a spelling of 'cat' and of 'dog'/,
    ],
  ])("of %s is refused", (_, document, message) => {
    const table = new TextEncoder().encode(JSON.stringify(document));
    const count = (document as { words: unknown[] }).words.length;
    expect(() => Vocabulary.read(table, new Uint8Array(8 * count), 2)).toThrow(BundleError);
    expect(() => Vocabulary.read(table, new Uint8Array(8 * count), 2)).toThrow(message);
  });

  test("whose vectors are cut off or not finite is refused", () => {
    expect(() => Vocabulary.read(TABLE, VECTORS.slice(0, -4), 2)).toThrow(/6 words of 2 numbers need 48/);
    const broken = new Uint8Array(new Float32Array(12).fill(NaN).buffer);
    expect(() => Vocabulary.read(TABLE, broken, 2)).toThrow(/NaN or infinity/);
  });
});

describe("the manifest's text", () => {
  test("is read, and gives the decoder its inputs", async () => {
    const { text, frames } = await readManifest(fixtures.manifests.words!);
    expect(text).toMatchObject({ kind: "vocabulary", channels: 2, files: ["text.json", "text.bin"] });
    const inputs = frames[0]!.decoderContract.inputs.map(({ name, shape }) => [name, shape]);
    expect(inputs.slice(-2)).toEqual([
      ["text_embeddings", ["B", 2]],
      ["has_text", ["B"]],
    ]);
    expect((await readManifest(fixtures.manifests.SAM!)).text).toBeNull();
  });

  test.each<[string, (text: Record<string, unknown>) => void, RegExp]>([
    ["another kind", (text) => (text.kind = "oracle"), /text.kind is "oracle", one of vocabulary, tower/],
    ["other channels", (text) => (text.channels = 3), /text has 3 channels, and the decoder takes 2/],
    ["no vectors", (text) => delete text.vectors, /text.vectors is missing/],
    ["a file without a hash", (text) => (text.file = "other.json"), /'other.json' but not its hash/],
  ])("with %s is refused", async (_, change, message) => {
    const json = await changed(fixtures.manifests.words!, (document) => {
      change(document.text as Record<string, unknown>);
    });
    await expect(readManifest(json)).rejects.toThrow(message);
  });
});

describe("the predictor with words", () => {
  let predictor: SamPredictor;

  beforeAll(async () => {
    predictor = await SamPredictor.open(files(CASE), { threads: 1 });
    await predictor.setImage(photo(CASE.photo));
  });

  afterAll(() => predictor.dispose());

  test("takes words and embeddings, also beside prompts without any", async () => {
    const [cat, same, none] = await predictor.predictBatch([
      { text: "kitten" },
      { text: Float32Array.of(30, 4) },
      { box: [5, 6, 70, 50] },
    ]);
    expect(cat).toEqual(same);
    expect([cat!.objectScore, none!.objectScore]).toEqual([33, -1]);
    expect(none).toEqual(await predictor.predict({ box: [5, 6, 70, 50] }));
  });

  test("refuses what it cannot know in a line", async () => {
    await expect(predictor.predict({ text: "kat" })).rejects.toThrow(/the nearest are 'cat'/);
    await expect(predictor.predict({ text: new Float32Array(3) })).rejects.toThrow(/has 3 numbers; this model takes 2/);
    await expect(predictor.predict({ text: Float32Array.of(1, NaN) })).rejects.toThrow(/not finite/);
    const wordless = await SamPredictor.open(files(fixtures.bundles.any), { threads: 1 });
    expect([predictor.words.length, wordless.words.length]).toEqual([6, 0]);
    await wordless.setImage(photo(CASE.photo));
    await expect(wordless.predict({ text: "cat" })).rejects.toThrow(/takes no text/);
    await wordless.dispose();
  });

  test("gives the best of three alone where only that is wanted", async () => {
    const prompt = { text: "cat", box: [5, 6, 70, 50] } as const;
    const { masks, scores } = await predictor.predict(prompt);
    const best = scores.indexOf(Math.max(...scores));
    const alone = await predictor.predict(prompt, { bestOnly: true });
    expect([alone.masks, alone.scores]).toEqual([[masks[best]], [scores[best]]]);
  });

  test("passes its acceptance test, which has words", async () => {
    const content = await predictor.bundle.golden();
    const pictures = await readGolden(content!, predictor.bundle.manifest);
    const names = pictures[0]!.cases.filter(({ slots }) => slots.text).map(({ name }) => name);
    expect(names).toEqual(["text cat", "text cat and point", "text cat and box", "text cat and mask", "text dog"]);
    expect((await verify(predictor)).passed).toBe(true);
  });

  test("warms up without a photo, and leaves the one that is set", async () => {
    const fresh = await SamPredictor.open(files(CASE), { threads: 1 });
    await fresh.warmUp();
    expect(fresh.isImageSet).toBe(false);
    await fresh.dispose();
    await predictor.warmUp();
    expect((await predictor.predict({ text: "cat" })).objectScore).toBe(33);
  });

  test("hears of the manifest before the files are read", async () => {
    const heard: string[] = [];
    await Bundle.open(files(CASE), {
      onManifest: ({ variant }) => heard.push(variant),
      onProgress: () => heard.push("file"),
    });
    expect(heard.slice(0, 2)).toEqual(["standin", "file"]);
  });
});
