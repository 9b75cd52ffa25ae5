/** The photo page without a pointer: `node keyboard.mjs ADDRESS`. */

import assert from "node:assert/strict";
import { DESKTOP, drive } from "./driver.mjs";

const [, , address] = process.argv;

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, reducedMotion: "reduce" });
  const { page } = visit;
  const { keyboard } = page;
  await page.getByRole("heading", { name: "Cut anything out of a photo" }).waitFor();

  /** Presses a key until the focus is where `wanted` matches role and name. */
  const to = async (wanted, key = "Tab") => {
    const seen = [];
    for (let i = 0; i < 60; i++) {
      await keyboard.press(key);
      const name = await page.evaluate(() => {
        const { activeElement: at } = document;
        return at === document.body ? "" : (at.getAttribute("aria-label") ?? at.textContent ?? "");
      });
      seen.push(name);
      if (wanted.test(name)) return;
    }
    assert.fail(`no focus on ${wanted}: ${seen.join(" | ")}`);
  };
  const focused = () => page.evaluate(() => document.activeElement.dataset.testid ?? document.activeElement.className);

  // A sample photo; the stage has the focus when it is there.
  await to(/^Cat$/);
  await keyboard.press("Enter");
  await visit.heard(/is ready, 451 by 300 pixels/);
  assert.equal(await focused(), "stage");

  // A point, told with its place; its mask, told with its score and the number of masks.
  for (const key of ["ArrowRight", "ArrowRight", "ArrowDown"]) await keyboard.press(key);
  assert.match(await visit.said.textContent(), /^\d+ across, \d+ down/);
  await keyboard.press("Enter");
  assert.match(await visit.heard(/predicted IoU/), /^Whole, predicted IoU \d\.\d\d, \d+ percent .* 1 of 3 masks/);

  // Another candidate: one stop for Tab, arrows within.
  await to(/^Whole, predicted IoU/);
  await keyboard.press("ArrowRight");
  await visit.heard(/^Part, predicted IoU .* 2 of 3 masks/);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-checked")), "true");
  await keyboard.press("ArrowLeft");
  await keyboard.press("ArrowLeft");
  await visit.heard(/^Subpart, predicted IoU .* 3 of 3 masks/);
  await keyboard.press("ArrowRight");
  await visit.heard(/^Whole/);

  // Kept, named, exported.
  await keyboard.press("n");
  await visit.heard(/Layer 1 kept, 1 layer/);
  await to(/^Name of Layer 1/);
  await keyboard.type("cat");
  await keyboard.press("Enter");
  assert.equal(await page.getByLabel("Name of cat").inputValue(), "cat");
  const waiting = page.waitForEvent("download");
  await to(/^COCO JSON$/);
  await keyboard.press("Enter");
  assert.equal((await waiting).suggestedFilename(), "chelsea_coco.json");
  await visit.heard(/chelsea_coco.json saved/);

  // What goes wrong is an alert, and the message can be closed.
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(["no photo"], "notes.txt", { type: "text/plain" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  });
  await page.getByRole("alert").filter({ hasText: "cannot read notes.txt" }).waitFor();
  await to(/^Close the message$/, "Shift+Tab");
  await keyboard.press("Enter");
  await page.getByRole("alert").waitFor({ state: "detached" });

  // The help, and out of it again; undo of the name, then of the layer: the mask is in hand again.
  await keyboard.press("?");
  await page.getByRole("dialog").waitFor();
  await keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await keyboard.press("z");
  await visit.heard(/^Undone/);
  await keyboard.press("z");
  await visit.heard(/^Whole, predicted IoU/);
});
console.log("keyboard: all steps done");
