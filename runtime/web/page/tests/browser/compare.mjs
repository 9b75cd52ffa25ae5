/** The comparison of two bundles: `node compare.mjs ADDRESS [FOLDER FOR SCREENSHOTS]`. The second equals the first. */

import assert from "node:assert/strict";
import { DESKTOP, drive } from "./driver.mjs";

const [, , address, shots] = process.argv;
const CAT = { width: 451, height: 300 };

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, colorScheme: "light" });
  const { page } = visit;
  await visit.sample("Cat");
  await visit.compareWithSecond();
  await visit.click(220, 170, CAT);
  await visit.heard(/predicted IoU/);
  await visit.compared();
  await visit.shot(shots, "compare-light");
  const text = await page.getByTestId("difference").textContent();
  const iou = Number(/IoU ([\d.]+)/.exec(text)[1]);
  assert.ok(process.env.SAME === "no" ? iou > 0.5 : iou === 1, text);
});
console.log("comparison: all steps done");
