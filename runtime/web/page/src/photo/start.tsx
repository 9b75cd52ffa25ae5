/** Before the first photo: drop, paste, choose, or take a sample. */

import type { Workbench } from "./workbench.ts";
import { Icon } from "../ui/icons.tsx";
import { PageError } from "../errors.ts";

export const SAMPLES: readonly { readonly name: string; readonly what: string }[] = [
  { name: "astronaut.jpg", what: "Astronaut" },
  { name: "chelsea.jpg", what: "Cat" },
  { name: "coffee.jpg", what: "Cup of coffee" },
  { name: "rocket.jpg", what: "Rocket" },
];

const ACCEPTED = "image/*";

/** Opens the first picture among files; says so if there is none. */
export async function openFiles(bench: Workbench, files: Iterable<File>): Promise<void> {
  const all = [...files];
  const file = all.find(({ type }) => type.startsWith("image/")) ?? all[0];
  if (file === undefined) {
    bench.fail(new PageError("That was no photo: drop or paste a picture file"));
    return;
  }
  await bench.open({ name: file.name === "" ? "pasted.png" : file.name, file, key: null });
}

async function openSample(bench: Workbench, name: string): Promise<void> {
  try {
    const response = await fetch(`samples/${name}`).catch(() => null);
    if (response === null) throw new PageError(`The sample ${name} cannot be fetched: choose a photo of yours`);
    if (!response.ok) throw new PageError(`The sample ${name} is missing: choose a photo of yours`);
    await bench.open({ name, file: await response.blob(), key: null });
  } catch (error) {
    bench.fail(error);
  }
}

export function ChooseButton({
  bench,
  label,
  primary,
}: {
  readonly bench: Workbench;
  readonly label: string;
  readonly primary?: boolean;
}) {
  return (
    <label class={`choose ${primary ? "primary-button" : "plain"}`}>
      <Icon name="photo" />
      <span>{label}</span>
      <input
        type="file"
        class="visually-hidden"
        accept={ACCEPTED}
        aria-label={label}
        onChange={(event) => {
          const input = event.currentTarget;
          if (input.files !== null && input.files.length > 0) void openFiles(bench, input.files);
          input.value = "";
        }}
      />
    </label>
  );
}

export function Start({ bench }: { readonly bench: Workbench }) {
  return (
    <div class="start">
      <h1>Cut anything out of a photo</h1>
      <p>Drop a photo here, paste one, or choose it. Then point at a thing and click.</p>
      <ChooseButton bench={bench} label="Choose a photo" primary />
      <p class="or">or try one of these</p>
      <div class="samples">
        {SAMPLES.map(({ name, what }) => (
          <button key={name} type="button" class="sample" onClick={() => void openSample(bench, name)}>
            <img src={`samples/${name}`} alt="" width={120} height={90} loading="lazy" />
            <span>{what}</span>
          </button>
        ))}
      </div>
      <p class="hint">
        {bench.station.value?.info.value.place === "server"
          ? "The photo goes to the server that you started, and nowhere else."
          : "The photo stays in this browser."}
      </p>
    </div>
  );
}
