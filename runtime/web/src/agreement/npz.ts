/** numpy's `.npz` files: a zip archive of `.npy` arrays (numpy.lib.format). */

import type { Bytes } from "../arrays.ts";
import { ZipArchive } from "../bundle/zip.ts";

const MAGIC = [0x93, ...new TextEncoder().encode("NUMPY")];
const KINDS = { u1: Uint8Array, i1: Int8Array, i8: BigInt64Array, f4: Float32Array } as const;

export type Values = Uint8Array | Int8Array | BigInt64Array | Float32Array | string[];

/** An array of a file; text is an array of strings. */
export interface NpyArray {
  /** `u1`, `i1`, `i8`, `f4` or `U`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Values;
}

/**
 * The array in a `.npy` file, if the file has exactly the bytes that its header claims.
 *
 * @throws Error - no array, one of a kind that no golden test has, or another size than claimed.
 */
export function parseNpy(content: Bytes): NpyArray {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  if (content.length < 12 || !MAGIC.every((byte, index) => content[index] === byte)) throw new Error("it is no array");
  const wide = content[6] === 2;
  if (content[6] !== 1 && !wide) throw new Error(`its format has the version ${content[6]}`);
  const start = wide ? 12 : 10;
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(content.subarray(start, end));
  const descr = /'descr': '[<|]([a-zA-Z])(\d+)'/.exec(header);
  const sizes = /'shape': \(([\d, ]*)\)/.exec(header)?.[1];
  if (!descr || sizes === undefined || !header.includes("'fortran_order': False")) {
    throw new Error(`its header is ${JSON.stringify(header.trim()).slice(0, 80)}`);
  }
  const shape = sizes
    .split(",")
    .filter((size) => size.trim())
    .map(Number);
  const count = shape.reduce((product, size) => product * size, 1);
  const [kind, size] = [descr[1]!, Number(descr[2])];
  const bytes = count * size * (kind === "U" ? 4 : 1);
  if (bytes !== content.length - end) {
    throw new Error(`its header claims ${bytes} bytes of values, and ${content.length - end} follow`);
  }
  const values = content.slice(end).buffer;
  if (kind === "U") return { dtype: "U", shape, data: strings(new Uint32Array(values), count, size) };
  const dtype = kind + size;
  if (!Object.hasOwn(KINDS, dtype)) throw new Error(`it holds values of the type ${dtype}`);
  return { dtype, shape, data: new KINDS[dtype as keyof typeof KINDS](values) };
}

function strings(codes: Uint32Array, count: number, length: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const own = Array.from(codes.subarray(index * length, (index + 1) * length)).filter((code) => code);
    return String.fromCodePoint(...own);
  });
}

/**
 * The arrays of a `.npz` file by name.
 *
 * @param most - bytes that all arrays may take together.
 * @throws Error - no such file, a member that is no array, or more bytes.
 */
export async function readNpz(content: Bytes, most: number): Promise<Map<string, NpyArray>> {
  const archive = await ZipArchive.open(new Blob([content]));
  const arrays = new Map<string, NpyArray>();
  let left = most;
  for (const name of archive.names) {
    if (!name.endsWith(".npy")) throw new Error(`'${name}' is no array that numpy wrote`);
    const file = await archive.read(name, left);
    left -= file.length;
    try {
      arrays.set(name.slice(0, -".npy".length), parseNpy(file));
    } catch (error) {
      throw new Error(`'${name}': ${(error as Error).message}`, { cause: error });
    }
  }
  return arrays;
}
