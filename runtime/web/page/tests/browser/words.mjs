/**
 * Masks by name: `node words.mjs ADDRESS WORDLESS_ADDRESS FOLDER [FOLDER FOR SCREENSHOTS]`.
 *
 * The bundle knows "left" and "right", which are discs at the sides of the photo. Records go into FOLDER.
 */

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DESKTOP, drive } from "./driver.mjs";

const [, , address, wordless, folder, shots] = process.argv;
const CAT = { width: 451, height: 300 };
await mkdir(folder, { recursive: true });

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, colorScheme: "light" });
  const { page } = visit;
  const field = page.getByRole("combobox", { name: "Name of a thing, or several with commas" });
  const button = page.getByRole("button", { name: "Find", exact: true });
  const layers = page.locator(".layers li .name");
  const named = () => layers.evaluateAll((all) => all.map(({ value }) => value));

  for (const place of ["browser", "server"]) {
    if (place === "browser") await visit.sample("Cat");
    else {
      await page.getByTestId("badge").click();
      await page.getByLabel("Compute in").selectOption(place);
      await page.keyboard.press("Escape");
      await page.waitForFunction(() => /ONNX/.test(document.querySelector('[data-testid="badge"]').textContent));
    }

    // By keyboard: a known word, and its layer with the word as its name.
    assert.deepEqual(await page.locator("datalist option").evaluateAll((all) => all.map(({ value }) => value)), [
      "left",
      "right",
    ]);
    assert.ok(await button.isDisabled());
    await field.focus();
    await page.keyboard.type("Lefts");
    await page.keyboard.press("Enter");
    await visit.heard(/Lefts: \d+ percent of the photo, 62 percent sure/);
    assert.deepEqual(await named(), ["Lefts"]);
    await page
      .getByText(/Lefts: \d+ percent/, { exact: false })
      .last()
      .waitFor();

    // Several at once.
    await field.fill("left, right");
    await button.click();
    await visit.heard(/left: \d+ percent.*right: \d+ percent/);
    assert.deepEqual(await named(), ["Lefts", "left", "right"]);
    if (place === "browser") await visit.shot(shots, "words-light");

    // With a click: between the word's place and the click. Undo takes the layer back.
    await visit.click(220, 150, CAT);
    await visit.heard(/predicted IoU/);
    await page.getByText("With the clicks in hand: the thing there.").waitFor();
    await field.fill("right");
    await page.keyboard.press("Enter");
    await visit.heard(/right: \d+ percent.*82 percent sure/);
    assert.equal((await named()).length, 4);
    const { content } = await visit.saved("SA-1B JSON");
    await writeFile(join(folder, `${place}.json`), content);

    // An unknown word names the nearest, and adds nothing.
    await field.fill("rihgt");
    await page.keyboard.press("Enter");
    assert.match(await visit.problem(), /does not have 'rihgt': the nearest are 'right'/);
    assert.equal((await named()).length, 4);
    await page.getByRole("button", { name: "Undo" }).click();
    assert.deepEqual(await named(), ["Lefts", "left", "right"]);
    await page.getByRole("button", { name: "Remove all" }).click();
    await page.getByRole("button", { name: "Give the mask up" }).click();
    await field.fill("");
  }
});

// A bundle without words has no field for them.
await drive(wordless, async (open) => {
  const visit = await open();
  await visit.sample("Cat");
  assert.equal(await visit.page.getByRole("combobox", { name: /Name of a thing/ }).count(), 0);
});
console.log("words: all steps done");
