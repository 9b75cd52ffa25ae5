/** Legend of the comparison of two bundles: colours, their IoU, and the second one's times. */

import { iou, type Runs } from "../masks/runs.ts";
import type { Workbench } from "../photo/workbench.ts";
import { kept } from "../stage/paint.ts";

const measured = kept((a: Runs, b: Runs) => iou(a, b));

export function Difference({ bench }: { readonly bench: Workbench }) {
  const [station, rival] = [bench.station.value, bench.rival.value];
  if (station === null || rival === null) return null;
  const [own, other] = [bench.current.value, bench.rivalCurrent.value];
  const text = own !== null && other !== null ? measured(own.mask, other.mask).toFixed(4) : "–";
  return (
    <div class="difference" role="status" data-testid="difference">
      <span class="key both">both</span>
      <span class="key own">only {station.bundle.title}</span>
      <span class="key rival">only {rival.bundle.title}</span>
      <span class="iou">IoU {text}</span>
    </div>
  );
}
