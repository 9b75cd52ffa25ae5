/** The panel beside the photo: candidates, layers, files to take away. */

import type { Workbench } from "../photo/workbench.ts";
import { CANDIDATE_NAMES, counted } from "../photo/said.ts";
import { rgbOf, titleOf, type Layer } from "../photo/layers.ts";
import { area, bounds, type Bounds } from "../masks/runs.ts";
import { download, exported, FORMATS, type Format } from "../export/files.ts";
import type { Choice } from "../prompt/draft.ts";
import { Icon, IconButton } from "./icons.tsx";
import { Thumb } from "./thumb.tsx";
import { ACCENT } from "../stage/draw.ts";

export interface CandidatesProps {
  readonly bench: Workbench;
  /** Keeps the mask in hand; null where another button does. */
  readonly keep: (() => void) | null;
}

export function Candidates({ bench, keep }: CandidatesProps) {
  const picture = bench.picture.value;
  const answer = bench.answer.value;
  const current = bench.current.value;
  if (picture === null) return null;
  if (current === null || answer === null) {
    return (
      <section class="card" aria-label="Mask">
        <h2>Mask</h2>
        <p class="hint">
          {current === null
            ? "Click a thing in the photo. Right-click or press long to take away, drag to draw a box."
            : "Painted by hand."}
        </p>
        {current !== null && <Keep keep={keep} />}
      </section>
    );
  }
  const three = answer.candidates.length === 3;
  const around = answer.candidates.map(({ mask }) => bounds(mask)).reduce(largest, null);
  return (
    <section class="card" aria-label="Mask">
      <h2>Mask</h2>
      <div
        class="candidates"
        role={three ? "radiogroup" : undefined}
        aria-label={three ? "Whole, part or subpart" : undefined}
        onKeyDown={three ? (event) => stepThrough(event, bench, current.index) : undefined}
      >
        {answer.candidates.map((candidate, i) => {
          const name = three ? CANDIDATE_NAMES[i]! : "Best fit";
          return (
            <button
              key={name}
              type="button"
              class="candidate"
              role={three ? "radio" : undefined}
              aria-checked={three ? i === current.index : undefined}
              tabIndex={three && i !== current.index ? -1 : 0}
              aria-label={`${name}, predicted IoU ${candidate.predictedIou.toFixed(2)}`}
              title={three ? `${name} (${i + 1})` : name}
              onClick={() => three && bench.choose(i as Choice)}
            >
              <Thumb picture={picture} mask={candidate.mask} around={around} colour={ACCENT} width={88} height={66} />
              <span>{name}</span>
              <span class="score">{candidate.predictedIou.toFixed(2)}</span>
            </button>
          );
        })}
        {!three && (
          <button type="button" class="text-button" onClick={() => bench.choose(0)}>
            Whole, part or subpart…
          </button>
        )}
      </div>
      <Keep keep={keep} />
    </section>
  );
}

const STEPS: Readonly<Record<string, 1 | -1>> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** Arrow keys within a group of radio buttons. */
function stepThrough(event: KeyboardEvent, bench: Workbench, index: number): void {
  const step = STEPS[event.key];
  if (step === undefined || !(event.currentTarget instanceof HTMLElement)) return;
  const next = (index + step + CANDIDATE_NAMES.length) % CANDIDATE_NAMES.length;
  bench.choose(next as Choice);
  event.currentTarget.querySelectorAll<HTMLElement>('[role="radio"]')[next]?.focus();
  event.preventDefault();
}

function Keep({ keep }: Pick<CandidatesProps, "keep">) {
  if (keep === null) return null;
  return (
    <button type="button" class="plain keep" aria-keyshortcuts="N" onClick={keep}>
      Keep as a layer
    </button>
  );
}

function largest(a: Bounds | null, b: Bounds | null): Bounds | null {
  if (a === null || b === null) return a ?? b;
  return {
    x0: Math.min(a.x0, b.x0),
    y0: Math.min(a.y0, b.y0),
    x1: Math.max(a.x1, b.x1),
    y1: Math.max(a.y1, b.y1),
  };
}

export function Layers({ bench }: { readonly bench: Workbench }) {
  const { layers, selected } = bench.doc.value;
  return (
    <section class="card layers" aria-label="Layers">
      <h2>
        Layers <span class="count">{layers.length}</span>
        {layers.length > 0 && (
          <button type="button" class="text-button end" onClick={() => bench.removeAllLayers()}>
            Remove all
          </button>
        )}
      </h2>
      {layers.length === 0 ? (
        <p class="hint">Keep the masks that you want, or find everything in the photo (E).</p>
      ) : (
        <ul>
          {layers.map((layer) => (
            <LayerRow key={layer.id} bench={bench} layer={layer} selected={layer.id === selected} />
          ))}
        </ul>
      )}
    </section>
  );
}

interface LayerRowProps {
  readonly bench: Workbench;
  readonly layer: Layer;
  readonly selected: boolean;
}

function LayerRow({ bench, layer, selected }: LayerRowProps) {
  const picture = bench.picture.value;
  const title = titleOf(layer);
  const share = picture === null ? 0 : (100 * area(layer.mask)) / (picture.width * picture.height);
  return (
    <li class={`layer${selected ? " selected" : ""}${layer.visible ? "" : " off"}`}>
      <input
        type="color"
        class="swatch"
        value={layer.colour}
        aria-label={`Colour of ${title}`}
        onChange={(event) => bench.changeLayer(layer.id, { colour: event.currentTarget.value })}
      />
      <button
        type="button"
        class="pick"
        aria-pressed={selected}
        aria-label={`Select ${title}`}
        title={`${share < 1 ? share.toFixed(1) : Math.round(share)} % of the photo, predicted IoU ${layer.predictedIou.toFixed(2)}`}
        onClick={() => bench.select(selected ? null : layer.id)}
      >
        {picture !== null && (
          <Thumb
            picture={picture}
            mask={layer.mask}
            around={null}
            colour={rgbOf(layer.colour)}
            width={40}
            height={30}
          />
        )}
      </button>
      <input
        type="text"
        class="name"
        value={layer.name}
        placeholder={title}
        maxLength={200}
        aria-label={`Name of ${title}`}
        autocomplete="off"
        onChange={(event) => bench.changeLayer(layer.id, { name: event.currentTarget.value.trim() })}
        onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()}
      />
      <IconButton
        icon={layer.visible ? "eye" : "hidden"}
        label={layer.visible ? `Hide ${title}` : `Show ${title}`}
        onClick={() => bench.changeLayer(layer.id, { visible: !layer.visible })}
      />
      <IconButton icon="remove" label={`Remove ${title}`} onClick={() => bench.removeLayer(layer.id)} />
    </li>
  );
}

export function Export({ bench }: { readonly bench: Workbench }) {
  const layers = wanted(bench);
  const { selected, layers: all } = bench.doc.value;
  const chosen = all.find(({ id }) => id === selected);
  const save = async (format: Format): Promise<void> => {
    const picture = bench.picture.peek();
    if (picture === null) return;
    try {
      const { blob, name } = await exported(format, picture, wanted(bench));
      download(blob, name);
      bench.say(`${name} saved`);
    } catch (error) {
      bench.fail(error);
    }
  };
  const count = counted(layers.length, "mask");
  return (
    <section class="card export" aria-label="Export">
      <h2>
        Export <span class="count">{chosen === undefined ? count : titleOf(chosen)}</span>
      </h2>
      <div class="exports">
        {FORMATS.map(({ format, title }) => (
          <button
            key={format}
            type="button"
            class="plain"
            disabled={layers.length === 0}
            onClick={() => void save(format)}
          >
            {title}
          </button>
        ))}
      </div>
    </section>
  );
}

/** The selected layer; else all that are visible, and the mask in hand. */
export function wanted(bench: Workbench): readonly Layer[] {
  const { layers, selected } = bench.doc.value;
  const chosen = layers.find(({ id }) => id === selected);
  if (chosen !== undefined) return [chosen];
  const visible = layers.filter((layer) => layer.visible);
  const own = bench.layerInHand();
  return own === null ? visible : [...visible, { ...own, colour: "#2f80ff" }];
}

export function Problem({ bench }: { readonly bench: Workbench }) {
  const problem = bench.problem.value;
  if (problem === null) return null;
  return (
    <div class="problem" role="alert">
      <span>{problem}</span>
      <IconButton icon="close" label="Close the message" onClick={() => (bench.problem.value = null)} />
    </div>
  );
}

/** What the person waits for, with its progress. */
export function Waiting({ bench }: { readonly bench: Workbench }) {
  const work = bench.work.value;
  if (work === null) return null;
  const percent = work.share === null ? null : Math.round(100 * work.share);
  return (
    <div class="waiting">
      <span>
        {work.step}
        {percent === null ? " …" : ` ${percent} %`}
      </span>
      <progress max={100} value={percent ?? undefined} aria-label={work.step} />
      <button type="button" class="icon-button" aria-label="Stop" title="Stop" onClick={() => bench.stop()}>
        <Icon name="stop" />
      </button>
    </div>
  );
}
