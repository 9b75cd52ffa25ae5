/** Typed access to a JSON object that is checked field by field. */

import { BundleError, printable } from "../errors.ts";
import { canonical, JsonNumber, type Json, type JsonObject } from "./json.ts";

/** The fields of an object; every method throws a `BundleError` that names the field which is missing or wrong. */
export class Fields {
  readonly members: JsonObject;
  readonly #file: string;
  readonly #path: string;

  constructor(members: JsonObject, file: string, path = "") {
    this.members = members;
    this.#file = file;
    this.#path = path;
  }

  error(key: string, expected: string): BundleError {
    const value = this.members.get(key);
    const shown = value === undefined ? "missing" : printable(canonical(value), 60);
    return new BundleError(
      `${this.#file}: ${printable(this.#path + key, 200)} is ${shown}, ${expected}: export the bundle again`,
    );
  }

  has(key: string): boolean {
    return (this.members.get(key) ?? null) !== null;
  }

  section(key: string): Fields {
    const value = this.members.get(key);
    if (!(value instanceof Map)) throw this.error(key, "an object is expected");
    return new Fields(value, this.#file, `${this.#path}${key}.`);
  }

  /** The list of at most `most` objects at `key`; empty where there is no such field. */
  sections(key: string, most: number): Fields[] {
    const values = this.members.get(key) ?? [];
    if (!Array.isArray(values) || values.length > most || !values.every((value) => value instanceof Map)) {
      throw this.error(key, `a list of up to ${most} objects is expected`);
    }
    return values.map((value, index) => new Fields(value, this.#file, `${this.#path}${key}.${index}.`));
  }

  text(key: string): string {
    const value = this.members.get(key);
    if (typeof value !== "string") throw this.error(key, "a string is expected");
    return value;
  }

  optionalText(key: string): string | null {
    return this.has(key) ? this.text(key) : null;
  }

  /** The name of a tensor: letters, digits and underscores. */
  identifier(key: string): string {
    const value = this.text(key);
    if (!/^[A-Za-z_]\w*$/.test(value)) throw this.error(key, "letters, digits and underscores are expected");
    return value;
  }

  /** The boolean at `key`; `otherwise`, if that is given, where there is no such field. */
  flag(key: string, otherwise?: boolean): boolean {
    const value = this.members.get(key) ?? (this.members.has(key) ? null : otherwise);
    if (typeof value !== "boolean") throw this.error(key, "true or false is expected");
    return value;
  }

  integer(key: string, least = 1, most = Number.MAX_SAFE_INTEGER): number {
    const number = this.members.get(key);
    if (!(number instanceof JsonNumber) || !number.isInteger) throw this.error(key, "an integer is expected");
    if (number.value < least) throw this.error(key, `at least ${least} is expected`);
    if (number.value > most) throw this.error(key, `at most ${most} is expected`);
    return number.value;
  }

  optionalInteger(key: string, most: number): number | null {
    return this.has(key) ? this.integer(key, 1, most) : null;
  }

  choice(key: string, choices: readonly number[]): number {
    const value = this.integer(key);
    if (!choices.includes(value)) throw this.error(key, `one of ${choices.join(", ")} is expected`);
    return value;
  }

  /** The finite number above 0 at `key`; null where it is null or missing. */
  optionalPositive(key: string): number | null {
    if (!this.has(key)) return null;
    const number = this.members.get(key);
    const value = number instanceof JsonNumber ? number.value : NaN;
    if (!(value > 0 && value < Infinity)) throw this.error(key, "a finite number above 0 is expected");
    return value;
  }

  value(key: string): Json | undefined {
    return this.members.get(key);
  }
}
