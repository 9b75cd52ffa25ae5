/** A static site on a host that sends no headers of its own: `node site.mjs ADDRESS`. */

import assert from "node:assert/strict";
import { drive } from "./driver.mjs";

const [, , address] = process.argv;
const CAT = { width: 451, height: 300 };

await drive(address, async (open) => {
  const visit = await open();
  const { page } = visit;
  await page.waitForFunction(() => globalThis.crossOriginIsolated && document.querySelector(".start") !== null);
  await visit.sample("Cat");
  await visit.click(220, 170, CAT);
  await visit.heard(/predicted IoU/);
  assert.match(await page.getByTestId("badge").textContent(), /WASM, \d+ thread|WebGPU/);
  await page.getByTestId("badge").click();
  assert.equal(await page.getByLabel("Compute in").count(), 0);
});
console.log("static site: all steps done");
