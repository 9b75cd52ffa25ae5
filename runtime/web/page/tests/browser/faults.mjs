/**
 * What a page may lack, and bundles that are broken: `node faults.mjs FOLDER`.
 *
 * FOLDER is a static site with the bundles discs, truncated, tampered, newer and missing, the last four broken.
 */

import assert from "node:assert/strict";
import { DESKTOP, drive, Host } from "./driver.mjs";

const [, , folder] = process.argv;
const CAT = { width: 451, height: 300 };

/** Refuses everything that a browser could keep. */
const NO_STORAGE = `
  for (const name of ["localStorage", "sessionStorage", "caches", "indexedDB"]) {
    Object.defineProperty(globalThis, name, { get() { throw new DOMException("refused", "SecurityError"); } });
  }
  if (navigator.storage) navigator.storage.getDirectory = () => Promise.reject(new DOMException("refused", "SecurityError"));
`;
const NO_GPU = `Object.defineProperty(navigator, "gpu", { value: undefined });`;
const NO_SERVICE_WORKER = `delete Navigator.prototype.serviceWorker;`;

/** Runs a script before those of the page and of its worker. */
const everywhere =
  (script, alone = "") =>
  async (page) => {
    await page.addInitScript(script + alone);
    await page.route("**/assets/worker-*.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: script + (await response.text()) });
    });
  };

const works = async (visit) => {
  await visit.sample("Cat");
  await visit.click(220, 170, CAT);
  await visit.heard(/predicted IoU/);
};

/** The line below the badge on why it is this engine. */
const reason = async ({ page }) => {
  await page.getByTestId("badge").click();
  const text = await page.locator(".popover .hint").first().textContent();
  await page.keyboard.press("Escape");
  return text;
};

const host = await Host.of(folder);
await drive(host.address, async (open) => {
  // No isolation, no WebGPU, nothing may be kept: one thread, and the page says why.
  const poor = await open(DESKTOP, everywhere(NO_STORAGE + NO_GPU, NO_SERVICE_WORKER));
  await works(poor);
  assert.equal(await poor.page.evaluate(() => crossOriginIsolated), false);
  assert.match(await poor.page.getByTestId("badge").textContent(), /WASM, 1 thread/);
  assert.match(await reason(poor), /no WebGPU.*not cross-origin isolated/);
  await poor.page.getByRole("button", { name: /^Colours/ }).click();
  assert.equal((await poor.saved("Mask PNG")).content.subarray(1, 4).toString(), "PNG");
  assert.equal(await poor.page.getByRole("alert").count(), 0);

  // Service workers that never become ready do not keep the page from opening.
  const blocked = await open({ ...DESKTOP, serviceWorkers: "block" });
  await blocked.page.getByRole("button", { name: "Cat" }).waitFor({ timeout: 15_000 });

  // Broken bundles are refused in one line; a sound one then works, and the photo is still there.
  const visit = await open();
  const { page } = visit;
  await page.waitForFunction(() => globalThis.crossOriginIsolated && document.querySelector(".start") !== null);
  await works(visit);
  for (const [bundle, says] of [
    ["truncated", /decoder\.onnx has 100 bytes/],
    ["tampered", /encoder\.onnx has SHA-256/],
    ["newer", /format_version 99, and this runtime reads up to \d/],
    ["missing", /decoder\.onnx is missing/],
  ]) {
    await page.getByTestId("badge").click();
    await page.locator(".popover select").first().selectOption({ label: bundle });
    await page.keyboard.press("Escape");
    const text = await visit.problem();
    assert.match(text, says);
    assert.ok(!text.includes("\n"));
  }
  await page.getByTestId("badge").click();
  await page.locator(".popover select").first().selectOption({ label: "discs" });
  await page.keyboard.press("Escape");
  await visit.heard(/predicted IoU/); // of the click that is still there
  await visit.click(100, 100, CAT);
  await visit.heard(/^Mask, predicted IoU/);

  // Without a network an open page goes on; what it would have to fetch is told.
  await page.context().setOffline(true);
  await page.keyboard.press("Escape");
  await visit.click(120, 200, CAT);
  await visit.heard(/^Whole, predicted IoU/);
  await page.keyboard.press("n");
  await visit.heard(/Layer 1 kept/);
  assert.equal((await visit.saved("Cut-out PNG")).content.subarray(1, 4).toString(), "PNG");
  const own = { name: "own.png", mimeType: "image/png", buffer: (await visit.saved("Mask PNG")).content };
  await visit.photo(own);
  await visit.click(120, 200, CAT);
  await visit.heard(/^Whole, predicted IoU/);
  await page.context().setOffline(false);
});
await host.close();
console.log("faults: all steps done");
