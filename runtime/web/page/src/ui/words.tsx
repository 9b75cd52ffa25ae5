/** The field for words: masks by name. */

import { useSignal } from "@preact/signals";
import type { Workbench } from "../photo/workbench.ts";

const KNOWN = "known-words";

/** Nothing for bundles that take no words. */
export function Words({ bench }: { readonly bench: Workbench }) {
  const typed = useSignal("");
  const told = useSignal("");
  const known = bench.station.value?.bundle.words ?? [];
  if (known.length === 0) return null;
  const inHand = bench.draft.value.prompt !== null;
  const words = typed.value
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
  const find = async (): Promise<void> => {
    told.value = "";
    told.value = (await bench.find(words)) ?? "";
  };
  return (
    <section class="card words" aria-label="Find by name">
      <h2>Find by name</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void find();
        }}
      >
        <input
          type="text"
          class="field-input"
          list={KNOWN}
          placeholder={`${known.slice(0, 2).join(", ")} …`}
          maxLength={200}
          autocomplete="off"
          autocapitalize="off"
          aria-label="Name of a thing, or several with commas"
          aria-describedby="words-hint"
          value={typed.value}
          onInput={(event) => (typed.value = event.currentTarget.value)}
          onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
        />
        <button type="submit" class="plain" disabled={!bench.ready.value || words.length === 0}>
          Find
        </button>
      </form>
      <datalist id={KNOWN}>
        {known.map((each) => (
          <option key={each} value={each} />
        ))}
      </datalist>
      <p class="hint" id="words-hint">
        {inHand
          ? "With the clicks in hand: the thing there."
          : `${known.length} names are known. What is found becomes a layer.`}
      </p>
      {told.value !== "" && <p class="hint">{told.value}</p>}
    </section>
  );
}
