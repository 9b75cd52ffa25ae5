/**
 * A vocabulary: words with synonyms and plurals, and a vector for each.
 *
 * The table is JSON, the vectors are float32, little-endian, one row for each word. A text is looked up without regard to
 * case, hyphens and spaces around it.
 */

import type { Bytes, Floats } from "../arrays.ts";
import {
  LARGEST_TABLE,
  LONGEST_WORD,
  MOST_WORDS,
  NEAR_WORDS,
  SHOWN_WORDS,
  VOCABULARY,
  WORDS_FORMAT,
} from "../contract.ts";
import { BundleError, firstLine, PromptError, quoted } from "../errors.ts";
import { closest } from "./closest.ts";
import type { TextPart } from "./text.ts";

/** A word: its name, and its synonyms and plurals. */
export interface Word {
  readonly name: string;
  readonly also: readonly string[];
}

/** A text as it is looked up: without case, with single spaces instead of hyphens, underscores and line ends. */
export function plain(text: string): string {
  // Upper case first makes "ss" of a sharp s, as Python's casefold does; a sigma at the end has a form of its own.
  return text
    .replace(/[\s_-]+/gu, " ")
    .trim()
    .toUpperCase()
    .toLowerCase()
    .replaceAll("\u03c2", "\u03c3");
}

/** Known words and their vectors. */
export class Vocabulary {
  readonly words: readonly Word[];
  readonly #vectors: Floats;
  readonly #channels: number;
  readonly #rows = new Map<string, number>();

  /** @throws BundleError - there is no word, one is empty, too long or given twice, or vectors do not fit. */
  constructor(words: readonly Word[], vectors: Floats, channels: number) {
    if (!words.length || words.length > MOST_WORDS) {
      throw new BundleError(`a vocabulary of ${words.length} words: 1 to ${MOST_WORDS} are expected`);
    }
    if (!vectors.every(Number.isFinite)) {
      throw new BundleError("the vectors of the vocabulary hold NaN or infinity: export the bundle again");
    }
    this.words = words;
    this.#vectors = vectors;
    this.#channels = channels;
    words.forEach(({ name, also }, row) => {
      for (const spelling of [name, ...also]) this.#add(spelling, row);
    });
  }

  #add(spelling: string, row: number): void {
    const key = plain(spelling);
    if (!key || key.length > LONGEST_WORD) {
      throw new BundleError(`${quoted(spelling, 120)} is no word of 1 to ${LONGEST_WORD} characters`);
    }
    const other = this.#rows.get(key) ?? row;
    if (this.words[other]!.name !== this.words[row]!.name) {
      const names = [other, row].map((each) => quoted(this.words[each]!.name)).join(" and of ");
      throw new BundleError(`${quoted(spelling)} is a spelling of ${names}: remove one`);
    }
    this.#rows.set(key, row);
  }

  /**
   * The vector of a word.
   *
   * @throws PromptError - the text is empty, or no known word; the message names the nearest ones.
   */
  vector(text: string): Floats {
    const key = plain(text);
    if (!key) throw new PromptError(`the text is empty: give a word such as ${quoted(this.words[0]!.name)}`);
    const row = this.#rows.get(key);
    if (row === undefined) throw new PromptError(this.#unknown(text, key.slice(0, LONGEST_WORD)));
    return this.#vectors.slice(row * this.#channels, (row + 1) * this.#channels);
  }

  /** What is near a text that is no known word: similar spellings, and names that share a word with it. */
  #unknown(text: string, key: string): string {
    const spellings = [...this.#rows.keys()];
    const parts = new Set(key.split(" "));
    const near = [
      ...closest(key, spellings, SHOWN_WORDS, NEAR_WORDS),
      ...spellings.filter((each) => each.split(" ").some((part) => parts.has(part))),
    ];
    const found = near.length ? near : closest(key, spellings, SHOWN_WORDS, 0);
    const names = new Set(found.map((each) => this.words[this.#rows.get(each)!]!.name));
    const shown = [...names].slice(0, SHOWN_WORDS).map((name) => quoted(name));
    return `the vocabulary of ${this.words.length} words does not have ${quoted(text)}: the nearest are ${shown.join(", ")}`;
  }

  /**
   * The vocabulary of a table and an array.
   *
   * @throws BundleError - either is damaged, or they do not fit together.
   */
  static read(table: Bytes, array: Bytes, channels: number): Vocabulary {
    const words = readTable(table);
    if (array.length !== 4 * channels * words.length) {
      throw new BundleError(
        `the vectors of the vocabulary have ${array.length} bytes, and ${words.length} words of ${channels} numbers need ` +
          `${4 * channels * words.length}: export the bundle again`,
      );
    }
    const view = new DataView(array.buffer, array.byteOffset, array.byteLength);
    const vectors = Float32Array.from({ length: array.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
    return new Vocabulary(words, vectors, channels);
  }

  /**
   * The vocabulary of a bundle.
   *
   * @param bundle - its name, for messages.
   * @param part - of its manifest.
   * @param file - the content of a file.
   * @throws PromptError - the bundle has no vocabulary.
   * @throws BundleError - its files are damaged.
   */
  static ofBundle(bundle: string, part: TextPart | null, file: (name: string) => Bytes): Vocabulary {
    if (part?.kind !== VOCABULARY || part.vectors === null) {
      const has = part ? `a text ${part.kind} instead of a vocabulary` : "no text";
      throw new PromptError(
        `${bundle} has ${has}, so it knows no words: export one that does, with \`sam-edge export --words shipped\``,
      );
    }
    return Vocabulary.read(file(part.file), file(part.vectors), part.channels);
  }
}

function readTable(table: Bytes): Word[] {
  if (table.length > LARGEST_TABLE) {
    throw new BundleError("the table of words has more bytes than any: export the bundle again");
  }
  try {
    const { format, words } = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(table)) as {
      format: unknown;
      words: unknown[];
    };
    if (format !== WORDS_FORMAT) throw new Error(`format is ${JSON.stringify(format)}`);
    return words.map((each) => {
      const { name, also = [] } = each as { name: unknown; also?: unknown[] };
      return { name: textOf(name), also: also.map(textOf) };
    });
  } catch (error) {
    throw new BundleError(`the table of words is no ${WORDS_FORMAT} (${firstLine(error)}): export the bundle again`, {
      cause: error,
    });
  }
}

function textOf(value: unknown): string {
  if (typeof value !== "string") throw new Error(`${JSON.stringify(value)} is no text`);
  return value;
}
