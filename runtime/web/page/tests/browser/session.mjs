/**
 * An annotation session of five photos, in two parts with a new server between them:
 * `node session.mjs ADDRESS first|second`.
 */

import assert from "node:assert/strict";
import { DESKTOP, drive } from "./driver.mjs";

const [, , address, part] = process.argv;

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, colorScheme: "light" });
  const { page } = visit;
  await page.getByPlaceholder("Your name").fill("Ada");
  await page.getByRole("button", { name: "Begin" }).click();

  /** The size of the photo that is shown; places are shares of it. */
  const size = async () => {
    const [, width, height] = /is ready, (\d+) by (\d+)/.exec(await visit.heard(/is ready/));
    return { width: Number(width), height: Number(height) };
  };
  const at = ({ width, height }, [x, y]) => [Math.round(x * width), Math.round(y * height)];
  const click = async (photo, place) => {
    await visit.click(...at(photo, place), photo);
    await visit.heard(/^Whole, predicted IoU|^Part, predicted IoU|^Subpart, predicted IoU/);
  };
  const drag = (photo, from, to) => visit.drag(at(photo, from), at(photo, to), photo);
  const box = async (photo, from, to) => {
    await drag(photo, from, to);
    await visit.heard(/^Mask, predicted IoU/);
  };
  const named = (name) => page.getByPlaceholder("Name, if you like").fill(name);
  const save = async () => {
    await page.getByRole("button", { name: "Save mask", exact: true }).click();
    await visit.heard(/Mask \d+ saved/);
  };
  const saved = async (count) =>
    page.waitForFunction((wanted) => document.querySelectorAll(".grows .layer").length === wanted, count);
  /** Presses a button that leads to another photo, and waits for it, or for the end. */
  const goOn = async (button) => {
    const before = await page.locator(".photo-name").textContent();
    await page.getByRole("button", { name: button, exact: true }).click();
    await page.waitForFunction((name) => {
      const heading = document.querySelector("h1")?.textContent;
      if (heading === "All photos are done") return true;
      return heading !== name && document.querySelector('[data-testid="said"]').textContent.startsWith(`${heading} is`);
    }, before);
  };
  const done = () => goOn("Photo done, next");
  const position = () => page.locator(".position").textContent();

  if (part === "first") {
    // A click with a name; a box, corrected by brush and eraser; undo and redo.
    let photo = await size();
    await click(photo, [0.5, 0.5]);
    await named("whole thing");
    await save();
    await box(photo, [0.2, 0.2], [0.8, 0.8]);
    await page.keyboard.press("b");
    await drag(photo, [0.1, 0.85], [0.4, 0.9]);
    await page.keyboard.press("d");
    await drag(photo, [0.3, 0.3], [0.5, 0.3]);
    await page.keyboard.press("p");
    await page.keyboard.press("n");
    await saved(2);
    await page.keyboard.press("z");
    await saved(1);
    await page.keyboard.press("y");
    await saved(2);
    await page.getByLabel("Name of Mask 2").fill("boxed thing");
    await page.getByLabel("Name of Mask 2").press("Enter");
    await done();
    assert.match(await position(), /^2 of 5/);

    // A click that takes away. Then the tab is closed with a mask in hand, and opened again.
    photo = await size();
    await click(photo, [0.5, 0.5]);
    await visit.click(...at(photo, [0.9, 0.1]), photo, { button: "right" });
    await visit.heard(/^Mask, predicted IoU/);
    await save();
    await drag(photo, [0.3, 0.3], [0.7, 0.7]);
    await visit.heard(/^Mask, predicted IoU/);
    await page.reload();
    await page.getByRole("button", { name: "Begin" }).click();
    await visit.heard(/is here again/);
    await save();
    await saved(2);
  } else {
    // The second photo is open still, with what was saved.
    await size();
    assert.match(await position(), /^2 of 5, 1 done/);
    await saved(2);
    await done();
    assert.match(await position(), /^3 of 5/);

    // By brush and eraser alone.
    let photo = await size();
    await page.keyboard.press("b");
    await drag(photo, [0.3, 0.4], [0.7, 0.4]);
    await drag(photo, [0.3, 0.5], [0.7, 0.5]);
    await page.keyboard.press("d");
    await drag(photo, [0.5, 0.3], [0.5, 0.6]);
    await named("painted");
    await save();
    await page.keyboard.press("p");
    await done();

    // The fourth is left for later and comes after the fifth.
    await goOn("Later");
    assert.match(await position(), /^5 of 5/);
    photo = await size();
    await click(photo, [0.4, 0.6]);
    await done();
    assert.match(await position(), /^4 of 5, 4 done/);
    photo = await size();
    await box(photo, [0.1, 0.1], [0.6, 0.9]);
    await done();
    await page.getByRole("heading", { name: "All photos are done" }).waitFor();
  }
});
console.log(`session, ${part} part: all steps done`);
