/**
 * JSON whose numbers keep their text.
 *
 * A manifest's digest is the hash of its canonical form, as Python writes it. `JSON.parse` would make 1.0 and 1 the same
 * number, so the digest could not be computed.
 */

const DEEPEST = 100;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

/** A number as it is written. */
export class JsonNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  get value(): number {
    return Number(this.text);
  }
  get isInteger(): boolean {
    return /^-?\d+$/.test(this.text);
  }
}

export type JsonObject = Map<string, Json>;
export type Json = null | boolean | string | JsonNumber | Json[] | JsonObject;

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    const value = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) throw this.#error("text follows the document");
    return value;
  }

  #error(what: string): SyntaxError {
    return new SyntaxError(`${what} at character ${this.#at}`);
  }

  #space(): void {
    while (" \t\n\r".includes(this.#text[this.#at] ?? "x")) this.#at++;
  }

  #take(token: string): boolean {
    if (!this.#text.startsWith(token, this.#at)) return false;
    this.#at += token.length;
    return true;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return null;
    this.#at += found.length;
    return found;
  }

  #value(depth: number): Json {
    if (depth > DEEPEST) throw this.#error("nested too deeply");
    this.#space();
    if (this.#take("{")) return this.#object(depth + 1);
    if (this.#take("[")) return this.#array(depth + 1);
    if (this.#text[this.#at] === '"') return this.#string();
    if (this.#take("null")) return null;
    if (this.#take("true")) return true;
    if (this.#take("false")) return false;
    const number = this.#match(NUMBER);
    if (number === null) throw this.#error("a value is expected");
    return new JsonNumber(number);
  }

  #string(): string {
    const written = this.#match(STRING);
    if (written === null) throw this.#error("a string is expected");
    return JSON.parse(written) as string;
  }

  #object(depth: number): JsonObject {
    const members: JsonObject = new Map();
    this.#space();
    if (this.#take("}")) return members;
    do {
      this.#space();
      const key = this.#string();
      this.#space();
      if (!this.#take(":")) throw this.#error("':' is expected");
      members.set(key, this.#value(depth));
      this.#space();
    } while (this.#take(","));
    if (!this.#take("}")) throw this.#error("'}' is expected");
    return members;
  }

  #array(depth: number): Json[] {
    const values: Json[] = [];
    this.#space();
    if (this.#take("]")) return values;
    do {
      values.push(this.#value(depth));
      this.#space();
    } while (this.#take(","));
    if (!this.#take("]")) throw this.#error("']' is expected");
    return values;
  }
}

/**
 * A JSON document.
 *
 * @throws SyntaxError - the text is no JSON, or is nested too deeply.
 */
export function parseJson(text: string): Json {
  return new Parser(text.startsWith("\ufeff") ? text.slice(1) : text).document();
}

/** By code points, as Python sorts strings; UTF-16 units would put a few characters elsewhere. */
function byCodePoints(a: string, b: string): number {
  const [one, other] = [Array.from(a), Array.from(b)];
  for (let index = 0; index < Math.min(one.length, other.length); index++) {
    const difference = one[index]!.codePointAt(0)! - other[index]!.codePointAt(0)!;
    if (difference) return difference;
  }
  return one.length - other.length;
}

function escaped(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The canonical form, as Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` writes it. */
export function canonical(value: Json): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return escaped(value);
  if (value instanceof JsonNumber) return value.text;
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const members = [...value].sort(([a], [b]) => byCodePoints(a, b));
  return `{${members.map(([key, each]) => `${escaped(key)}:${canonical(each)}`).join(",")}}`;
}

/** The value as `JSON.parse` would give it. */
export function plain(value: Json): unknown {
  if (value instanceof JsonNumber) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  return value instanceof Map ? Object.fromEntries([...value].map(([key, each]) => [key, plain(each)])) : value;
}
