/**
 * axe-core over the main states of both pages, light, dark and small: `node axe.mjs PHOTO_ADDRESS ANNOTATE_ADDRESS`.
 */

import assert from "node:assert/strict";
import axe from "axe-core";
import { DESKTOP, drive, PHONE } from "./driver.mjs";

const [, , photoAddress, annotateAddress] = process.argv;
const CAT = { width: 451, height: 300 };
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const found = [];

/** Runs axe on what is shown. */
async function check({ page }, state) {
  if ((await page.evaluate(() => typeof globalThis.axe)) === "undefined") await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(
    (tags) => globalThis.axe.run(document, { runOnly: tags, resultTypes: ["violations", "passes"] }),
    TAGS,
  );
  assert.ok(passes.length > 10, `axe looked at nothing in ${state}`);
  for (const { id, help, nodes } of violations) {
    for (const node of nodes)
      found.push(`${state}: ${id} (${help}): ${node.html.slice(0, 160)} ${node.failureSummary}`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) found.push(`${state}: the page is ${wide} pixels wider than the window`);
}

for (const colorScheme of ["light", "dark"]) {
  await drive(photoAddress, async (open) => {
    for (const [device, kind] of [[DESKTOP, colorScheme], ...(colorScheme === "light" ? [[PHONE, "phone"]] : [])]) {
      const visit = await open({ ...device, colorScheme, reducedMotion: "reduce" });
      const { page } = visit;
      await page.getByRole("button", { name: "Cat" }).waitFor();
      await check(visit, `${kind} start`);
      await visit.sample("Cat");
      await check(visit, `${kind} photo`);
      await page.keyboard.press("?");
      await page.getByRole("dialog").waitFor();
      await check(visit, `${kind} help`);
      await page.keyboard.press("Escape");
      await visit.click(220, 170, CAT);
      await visit.heard(/predicted IoU/);
      await page.keyboard.press("n");
      await visit.heard(/Layer 1 kept/);
      await page.getByRole("button", { name: "Hide Layer 1" }).click();
      await visit.click(100, 200, CAT);
      await visit.heard(/predicted IoU/);
      await check(visit, `${kind} mask and layer`);
      await page.getByTestId("badge").click();
      await page.locator(".popover select").last().selectOption({ index: 1 });
      await page.getByTestId("difference").waitFor();
      await check(visit, `${kind} badge and comparison`);
      await page.keyboard.press("Escape");
      await page
        .locator('input[type="file"]')
        .first()
        .setInputFiles({
          name: "notes.txt",
          mimeType: "text/plain",
          buffer: Buffer.from("no photo"),
        });
      await page.getByRole("alert").waitFor();
      await check(visit, `${kind} problem`);
    }
  });
  await drive(annotateAddress, async (open) => {
    const visit = await open({ ...(colorScheme === "light" ? DESKTOP : PHONE), colorScheme, reducedMotion: "reduce" });
    const { page } = visit;
    await page.getByPlaceholder("Your name").waitFor();
    await check(visit, `${colorScheme} name`);
    await page.getByPlaceholder("Your name").fill("Ada");
    await page.getByPlaceholder("Your name").press("Enter");
    const [, width, height] = /is ready, (\d+) by (\d+)/.exec(await visit.heard(/is ready/));
    const size = { width: Number(width), height: Number(height) };
    await visit.click(size.width / 2, size.height / 2, size);
    await visit.heard(/predicted IoU/);
    await page.getByPlaceholder("Name, if you like").fill("thing");
    await page.getByRole("button", { name: "Save mask", exact: true }).click();
    await visit.heard(/Mask \d+ saved/);
    await page.clock.install();
    await visit.click(size.width / 3, size.height / 3, size);
    await visit.heard(/predicted IoU/);
    await page.clock.fastForward(31_000);
    await page.getByText("This mask takes more than 30 seconds.").waitFor();
    await page.clock.resume();
    await check(visit, `${colorScheme} annotation and offer`);
    await page.getByRole("button", { name: "Queue" }).click();
    await page.getByRole("dialog", { name: "Queue" }).getByRole("listitem").first().waitFor();
    await check(visit, `${colorScheme} queue`);
    await page.keyboard.press("Escape");
    await page.getByRole("link", { name: "Statistics" }).click();
    await page.getByRole("heading", { name: "Masks by size" }).waitFor();
    await check(visit, `${colorScheme} statistics`);
  });
}

// A page without its session says so.
await drive(photoAddress, async (open) => {
  const visit = await open(DESKTOP, (page) => page.route("**/session.json", (route) => route.fulfill({ json: {} })));
  await visit.page.getByRole("alert").waitFor();
  await check(visit, "failure");
});

assert.deepEqual(found, []);
console.log("axe: all states passed");
