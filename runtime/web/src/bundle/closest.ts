/**
 * Texts that are spelled alike, as Python's `difflib.get_close_matches` finds them.
 *
 * The measure is Ratcliff and Obershelp's: twice the characters of the longest common block, and of the blocks on both
 * sides of it, by the characters of both texts.
 */

/** At most `most` of the texts whose likeness to `wanted` is at least `least` (0 to 1), the likest first. */
export function closest(wanted: string, texts: readonly string[], most: number, least: number): string[] {
  const b = [...wanted];
  return texts
    .map((text) => ({ text, likeness: likeness([...text], b) }))
    .filter((each) => each.likeness >= least)
    .sort((one, other) => other.likeness - one.likeness || (one.text < other.text ? 1 : -1))
    .slice(0, most)
    .map(({ text }) => text);
}

function likeness(a: readonly string[], b: readonly string[]): number {
  return a.length + b.length ? (2 * matches(a, b)) / (a.length + b.length) : 1;
}

function matches(a: readonly string[], b: readonly string[]): number {
  const [from, at, length] = longestBlock(a, b);
  if (!length) return 0;
  const before = matches(a.slice(0, from), b.slice(0, at));
  return before + length + matches(a.slice(from + length), b.slice(at + length));
}

/** Where the longest common block begins in both, the first of several, and its length. */
function longestBlock(a: readonly string[], b: readonly string[]): [number, number, number] {
  let [from, at, longest] = [0, 0, 0];
  let before: number[] = []; // lengths of the blocks that end at each place of b, and at the last one of a
  for (let i = 0; i < a.length; i++) {
    const lengths = b.map((each, j) => (each === a[i] ? (j ? (before[j - 1] ?? 0) : 0) + 1 : 0));
    lengths.forEach((length, j) => {
      if (length > longest) [from, at, longest] = [i - length + 1, j - length + 1, length];
    });
    before = lengths;
  }
  return [from, at, longest];
}
