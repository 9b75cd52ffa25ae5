/** A static site on a host that sends no headers of its own, then without that host: `node site.mjs FOLDER`. */

import assert from "node:assert/strict";
import { drive, Host } from "./driver.mjs";

const [, , folder] = process.argv;
const CAT = { width: 451, height: 300 };
const host = await Host.of(folder);

await drive(host.address, async (open) => {
  const visit = await open();
  const { page } = visit;
  const isIsolated = () =>
    page.waitForFunction(() => globalThis.crossOriginIsolated && document.querySelector(".start") !== null);
  await isIsolated();
  await visit.sample("Cat");
  await visit.click(220, 170, CAT);
  await visit.heard(/predicted IoU/);
  assert.match(await page.getByTestId("badge").textContent(), /WASM, \d+ thread|WebGPU/);
  await page.getByTestId("badge").click();
  assert.equal(await page.getByLabel("Compute in").count(), 0);

  // The host is gone: the page opens again, isolated, with its bundle and the photo that it had shown.
  await host.close();
  await page.reload();
  await isIsolated();
  await visit.sample("Cat");
  await visit.click(220, 170, CAT);
  await visit.heard(/predicted IoU/);
  const { content } = await visit.saved("Cut-out PNG");
  assert.equal(content.subarray(1, 4).toString(), "PNG");
});
console.log("static site: all steps done");
