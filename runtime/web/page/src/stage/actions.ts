/** What the keys do alike on the photo page and in annotation. */

import type { Workbench } from "../photo/workbench.ts";
import { helpOpen } from "../ui/help.tsx";
import type { Actions } from "./keys.ts";
import { zoomStep } from "./stage.tsx";
import type { Tools } from "./tools.ts";

type Shared = "escape" | "choose" | "toggleMasks" | "flip" | "refine" | "tool" | "brush" | "zoom" | "help";

export function actionsOf(bench: Workbench, tools: Tools): Pick<Actions, Shared> {
  return {
    escape: () => (tools.corner.value === null ? bench.clear() : (tools.corner.value = null)),
    choose: (choice) => bench.choose(choice),
    toggleMasks: () => (tools.shown.value = !tools.shown.value),
    flip: () => tools.flip(),
    refine: () => bench.refine(),
    tool: (tool) => tools.pick(tool),
    brush: (factor) => tools.resizeBrush(factor),
    zoom: (direction) => {
      const picture = bench.picture.peek();
      if (direction !== 0) zoomStep(bench, tools, direction);
      else if (picture !== null) tools.fit(picture);
    },
    help: () => (helpOpen.value = true),
  };
}
