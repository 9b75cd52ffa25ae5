/** The masks that are saved on the photo. */

import type { Signal } from "@preact/signals";
import { rgbOf } from "../photo/layers.ts";
import { IconButton } from "../ui/icons.tsx";
import { Thumb } from "../ui/thumb.tsx";
import type { Annotator, Kept } from "./annotator.ts";

export interface MasksProps {
  readonly annotator: Annotator;
  /** Number of the mask that is highlighted. */
  readonly selected: Signal<number | null>;
  /** Id of the list of names. */
  readonly list: string;
}

export function Masks({ annotator, selected, list }: MasksProps) {
  const masks = annotator.masks.value;
  return (
    <section class="card grows" aria-label="Saved masks">
      <h2>
        Saved <span class="count">{masks.length}</span>
      </h2>
      <ul>
        {[...masks].reverse().map((mask) => (
          <MaskRow key={mask.mask} annotator={annotator} mask={mask} selected={selected} list={list} />
        ))}
      </ul>
    </section>
  );
}

interface MaskRowProps extends MasksProps {
  readonly mask: Kept;
}

function MaskRow({ annotator, mask, selected, list }: MaskRowProps) {
  const picture = annotator.bench.picture.value;
  const title = `Mask ${mask.mask}`;
  const isSelected = selected.value === mask.mask;
  const existing = mask.source === "existing";
  return (
    <li class={`layer${isSelected ? " selected" : ""}`}>
      <button
        type="button"
        class="pick"
        aria-pressed={isSelected}
        aria-label={`Select ${title}`}
        onClick={() => (selected.value = isSelected ? null : mask.mask)}
      >
        {picture !== null && (
          <Thumb picture={picture} mask={mask.runs} around={null} colour={rgbOf(mask.colour)} width={40} height={30} />
        )}
      </button>
      {existing ? (
        <span class="name">{mask.name ?? "there already"}</span>
      ) : (
        <input
          type="text"
          class="name"
          list={list}
          value={mask.name ?? ""}
          placeholder={title}
          maxLength={200}
          autocomplete="off"
          aria-label={`Name of ${title}`}
          onChange={(event) => annotator.rename(mask.mask, event.currentTarget.value)}
          onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()}
        />
      )}
      <span class="state">{mask.seconds === null || existing ? "" : `${Math.round(mask.seconds)} s`}</span>
      {!existing && <IconButton icon="remove" label={`Remove ${title}`} onClick={() => annotator.remove(mask.mask)} />}
    </li>
  );
}

/** Names in use, for completion. */
export function Names({ annotator, id }: { readonly annotator: Annotator; readonly id: string }) {
  return (
    <datalist id={id}>
      {annotator.names.value.map((name) => (
        <option key={name} value={name} />
      ))}
    </datalist>
  );
}
