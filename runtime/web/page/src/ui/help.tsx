/** The list of keys, as a dialog. */

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { KEYS } from "../stage/keys.ts";
import { IconButton } from "./icons.tsx";

export const helpOpen = signal(false);

export function HelpButton() {
  return <IconButton icon="help" label="Keys and gestures" keys="?" onClick={() => (helpOpen.value = true)} />;
}

export function Help({ keys = KEYS }: { readonly keys?: readonly (readonly [string, string])[] }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpOpen.value;
  useEffect(() => {
    if (open && !dialog.current!.open) dialog.current!.showModal();
    if (!open && dialog.current!.open) dialog.current!.close();
  }, [open]);
  return (
    <dialog ref={dialog} class="help" aria-label="Keys and gestures" onClose={() => (helpOpen.value = false)}>
      <header>
        <h2>Keys and gestures</h2>
        <IconButton icon="close" label="Close" onClick={() => (helpOpen.value = false)} />
      </header>
      <dl>
        {keys.map(([names, what]) => (
          <div key={names}>
            <dt>{names}</dt>
            <dd>{what}</dd>
          </div>
        ))}
        <div>
          <dt>Wheel, two fingers</dt>
          <dd>zoom; drag with the middle button or Ctrl to move</dd>
        </div>
      </dl>
    </dialog>
  );
}
