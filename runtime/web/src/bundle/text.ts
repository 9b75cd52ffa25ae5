/** The manifest's section `text`: what turns words into text embeddings. */

import { LARGEST_TEXT, MANIFEST_FILE, MOST_TOKENIZER_FILES, MOST_TOKENS, TOWER, VOCABULARY } from "../contract.ts";
import { BundleError, quoted } from "../errors.ts";
import type { Fields } from "./fields.ts";

/** A table of words with their vectors, or a graph from tokens to an embedding, which this package does not run. */
export interface TextPart {
  readonly kind: typeof VOCABULARY | typeof TOWER;
  /** Numbers of an embedding. */
  readonly channels: number;
  /** The table of words, or the graph. */
  readonly file: string;
  /** The array of a vocabulary; null for a tower. */
  readonly vectors: string | null;
  /** All files, without doubles. */
  readonly files: readonly string[];
}

/** The text part in a manifest's section; a `BundleError` where a field is missing or wrong. */
export function readTextPart(section: Fields): TextPart {
  const kind = section.text("kind");
  if (kind !== VOCABULARY && kind !== TOWER) throw section.error("kind", `one of ${VOCABULARY}, ${TOWER} is expected`);
  const channels = section.integer("channels", 1, LARGEST_TEXT);
  const file = section.text("file");
  const tokenizer = section.sections("tokenizer", MOST_TOKENIZER_FILES).map((each) => each.text("file"));
  const vectors = kind === VOCABULARY ? section.text("vectors") : null;
  if (kind === TOWER) section.integer("tokens", 1, MOST_TOKENS);
  section.text("source");
  section.text("licence");
  const files = [...new Set([file, ...(vectors === null ? [] : [vectors]), ...tokenizer])];
  return { kind, channels, file, vectors, files };
}

/** Refuse a part that does not fit the decoder, or whose files have no hash. */
export function checkTextPart(part: TextPart, textChannels: number | null, hashed: readonly string[]): void {
  if (part.channels !== textChannels) {
    throw new BundleError(
      `${MANIFEST_FILE}: text has ${part.channels} channels, and the decoder takes ${textChannels ?? "no text"}: export ` +
        "the bundle again",
    );
  }
  const missing = part.files.find((name) => !hashed.some((each) => each === name || each.startsWith(`${name}/`)));
  if (missing !== undefined) {
    throw new BundleError(
      `${MANIFEST_FILE} names the text file ${quoted(missing, 200)} but not its hash: export the bundle again`,
    );
  }
}
