/** The tools below the photo. */

import type { Workbench } from "../photo/workbench.ts";
import { isEmpty } from "../prompt/draft.ts";
import type { Tool, Tools } from "../stage/tools.ts";
import { zoomStep } from "../stage/stage.tsx";
import { IconButton, type IconName } from "./icons.tsx";

const TOOLS: readonly {
  readonly tool: Tool;
  readonly icon: IconName;
  readonly label: string;
  readonly keys: string;
}[] = [
  { tool: "point", icon: "point", label: "Points and boxes", keys: "P" },
  { tool: "brush", icon: "brush", label: "Brush", keys: "B" },
  { tool: "eraser", icon: "eraser", label: "Eraser", keys: "D" },
  { tool: "hand", icon: "hand", label: "Move the photo", keys: "H" },
];

export interface ToolbarProps {
  readonly bench: Workbench;
  readonly tools: Tools;
  readonly undo: () => void;
  readonly redo: () => void;
  readonly canUndo: boolean;
  readonly canRedo: boolean;
  /** Keeps the mask in hand. */
  readonly next: () => void;
  readonly nextLabel: string;
  /** Finds everything in the photo; null where that makes no sense. */
  readonly everything: (() => void) | null;
}

export function Toolbar({ bench, tools, undo, redo, canUndo, canRedo, next, nextLabel, everything }: ToolbarProps) {
  const tool = tools.tool.value;
  const label = tools.label.value;
  const ready = bench.ready.value;
  const empty = isEmpty(bench.draft.value);
  const current = bench.current.value;
  return (
    <div class="toolbar" role="toolbar" aria-label="Tools">
      <div class="group">
        {TOOLS.map((each) => (
          <IconButton
            key={each.tool}
            icon={each.icon}
            label={each.label}
            keys={each.keys}
            pressed={tool === each.tool}
            onClick={() => tools.pick(each.tool)}
          />
        ))}
      </div>
      {tool === "point" && (
        <div class="group">
          <IconButton
            icon="add"
            label="Clicks add"
            keys="X"
            class="add"
            pressed={label === 1}
            onClick={() => (tools.label.value = 1)}
          />
          <IconButton
            icon="take"
            label="Clicks take away"
            keys="X"
            class="take"
            pressed={label === 0}
            onClick={() => (tools.label.value = 0)}
          />
        </div>
      )}
      {(tool === "brush" || tool === "eraser") && (
        <label class="group size">
          <span class="visually-hidden">Size of the brush</span>
          <input
            type="range"
            min={2}
            max={120}
            value={tools.radius.value}
            onInput={(event) => (tools.radius.value = Number(event.currentTarget.value))}
          />
        </label>
      )}
      <div class="group">
        <IconButton icon="undo" label="Undo" keys="Z" disabled={!canUndo} onClick={undo} />
        <IconButton icon="redo" label="Redo" keys="Y" disabled={!canRedo} onClick={redo} />
      </div>
      <div class="group">
        <IconButton
          icon="refine"
          label="Refine the mask"
          keys="R"
          disabled={!current?.lowRes}
          onClick={() => bench.refine()}
        />
        <IconButton
          icon="close"
          label="Give the mask up"
          keys="Escape"
          disabled={empty}
          onClick={() => bench.clear()}
        />
        <IconButton
          icon="check"
          label={nextLabel}
          keys="N"
          class="primary"
          disabled={current === null}
          onClick={next}
        />
      </div>
      <div class="group">
        {everything !== null && (
          <IconButton
            icon="everything"
            label="Everything in the photo"
            keys="E"
            disabled={!ready}
            onClick={everything}
          />
        )}
        <IconButton
          icon={tools.shown.value ? "eye" : "hidden"}
          label={tools.shown.value ? "Hide the masks" : "Show the masks"}
          keys="Space"
          onClick={() => (tools.shown.value = !tools.shown.value)}
        />
      </div>
      <div class="group zoom">
        <IconButton icon="zoomOut" label="Zoom out" keys="-" onClick={() => zoomStep(bench, tools, -1)} />
        <button
          type="button"
          class="percent"
          title="Whole photo (0)"
          aria-label={`Zoom ${tools.percent.value}; show the whole photo`}
          onClick={() => {
            const picture = bench.picture.peek();
            if (picture !== null) tools.fit(picture);
          }}
        >
          {tools.percent.value}
        </button>
        <IconButton icon="zoomIn" label="Zoom in" keys="+" onClick={() => zoomStep(bench, tools, 1)} />
      </div>
    </div>
  );
}
