/** The queue as a list, to go to a certain photo. */

import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { IconButton } from "../ui/icons.tsx";
import type { Annotator } from "./annotator.ts";
import { queuePage, type QueueEntry, type QueuePage } from "./api.ts";

const PAGE = 100;

export function Queue({ annotator, open }: { readonly annotator: Annotator; readonly open: Signal<boolean> }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const page = useSignal<QueuePage | null>(null);
  const isOpen = open.value;
  const load = (offset: number): void => {
    queuePage(offset, PAGE).then(
      (loaded) => (page.value = loaded),
      (error: unknown) => annotator.bench.fail(error),
    );
  };
  useEffect(() => {
    if (!isOpen) {
      dialog.current!.close();
      return;
    }
    load(Math.floor((annotator.photo.peek()?.number ?? 0) / PAGE) * PAGE);
    dialog.current!.showModal();
  }, [isOpen]);
  const shown = page.value;
  return (
    <dialog ref={dialog} aria-label="Queue" onClose={() => (open.value = false)}>
      <header>
        <h2>Queue</h2>
        <span class="state">{shown === null ? "" : `${shown.done} of ${shown.total} done`}</span>
        <IconButton icon="close" label="Close" onClick={() => (open.value = false)} />
      </header>
      <ul class="queue-list">
        {shown?.photos.map((entry) => (
          <li key={entry.key}>
            <button
              type="button"
              disabled={entry.state === "broken"}
              aria-current={annotator.photo.value?.key === entry.key}
              title={entry.reason}
              onClick={() => {
                open.value = false;
                void annotator.go(entry.key);
              }}
            >
              <span>{entry.file_name}</span>
              <span class="state">{stateText(entry)}</span>
            </button>
          </li>
        ))}
      </ul>
      {shown !== null && shown.total > PAGE && (
        <div class="pages">
          <button
            type="button"
            class="plain"
            disabled={shown.offset === 0}
            onClick={() => load(Math.max(0, shown.offset - PAGE))}
          >
            Earlier
          </button>
          <button
            type="button"
            class="plain"
            disabled={shown.offset + PAGE >= shown.total}
            onClick={() => load(shown.offset + PAGE)}
          >
            Later
          </button>
        </div>
      )}
    </dialog>
  );
}

function stateText({ state, masks, annotator }: QueueEntry): string {
  const count = masks === 1 ? "1 mask" : `${masks} masks`;
  switch (state) {
    case "open":
      return masks === 0 ? "open" : count;
    case "started":
      return `begun, ${count}`;
    case "leased":
      return `with ${annotator ?? "somebody"}`;
    case "done":
      return `done, ${count}`;
    case "broken":
      return "cannot be read";
  }
}
