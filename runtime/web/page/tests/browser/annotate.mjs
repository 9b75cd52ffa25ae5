/** The annotation tool, as an annotator uses it: `node annotate.mjs ADDRESS [FOLDER FOR SCREENSHOTS]`. */

import assert from "node:assert/strict";
import { DESKTOP, drive, PHONE } from "./driver.mjs";

const [, , address, shots] = process.argv;

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, colorScheme: "light" });
  const { page } = visit;
  await visit.shot(shots, "annotate-start-light");
  await page.getByPlaceholder("Your name").fill("Ada");
  await page.getByRole("button", { name: "Begin" }).click();
  await visit.heard(/is ready/);
  const size = await page.evaluate(async () => {
    const { photos } = await (await fetch("api/queue")).json();
    return await (await fetch(`api/queue/${encodeURIComponent(photos[0].key)}/masks`)).json();
  });
  const mine = page.locator(".grows .layer");
  const already = await mine.count();

  // A click, a name, saved at once.
  await visit.click(size.width / 2, size.height / 2, size);
  await visit.heard(/predicted IoU/);
  await page.getByPlaceholder("Name, if you like").fill("thing");
  await visit.shot(shots, "annotate-mask-light");
  await page.getByPlaceholder("Name, if you like").press("Enter");
  await visit.heard(/Mask \d+ saved/);
  assert.equal(await mine.count(), already + 1);
  assert.equal(await mine.first().locator("input").inputValue(), "thing");

  // Undo takes the saved mask back, redo saves it again.
  await page.keyboard.press("z");
  await visit.heard(/Mask \d+ removed/);
  assert.equal(await mine.count(), already);
  await page.keyboard.press("y");
  await page.waitForFunction((count) => document.querySelectorAll(".grows .layer").length === count, already + 1);

  // A tab that dies keeps the mask in hand.
  await visit.drag([size.width * 0.2, size.height * 0.2], [size.width * 0.6, size.height * 0.6], size);
  await visit.heard(/predicted IoU/);
  await page.keyboard.press("b");
  await visit.drag([size.width * 0.7, size.height * 0.7], [size.width * 0.8, size.height * 0.7], size);
  await page.reload();
  assert.equal(await page.getByPlaceholder("Your name").inputValue(), "Ada");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByRole("button", { name: "Save mask" }).and(page.locator(":enabled")).waitFor();
  await page.getByRole("button", { name: "Save mask" }).click();
  await visit.heard(/Mask \d+ saved/);
  assert.equal(await mine.count(), already + 2);

  // Past thirty seconds on a mask, the next photo is offered.
  await page.clock.install();
  await visit.click(size.width * 0.3, size.height * 0.5, size);
  await visit.heard(/predicted IoU/);
  await page.clock.fastForward(31_000);
  await page.getByText("This mask takes more than 30 seconds.").waitFor();
  await visit.shot(shots, "annotate-offer-light");
  await page.getByRole("button", { name: "Go on with it" }).click();
  await page.clock.resume();
  await page.keyboard.press("Shift+N");
  await visit.heard(/is ready/);
  assert.match(await page.locator(".position").textContent(), /^2 of/);

  // Several photos more, then the statistics.
  for (;;) {
    const masks = await page.evaluate(async () => {
      const name = document.querySelector(".photo-name").textContent;
      const { photos } = await (await fetch("api/queue")).json();
      const { key } = photos.find((each) => each.file_name === name);
      return (await fetch(`api/queue/${encodeURIComponent(key)}/masks`)).json();
    });
    await visit.click(masks.width * 0.5, masks.height * 0.55, masks);
    await visit.heard(/predicted IoU/);
    await page.getByRole("button", { name: "Photo done, next" }).click();
    await page.waitForFunction(
      () =>
        document.querySelector("h1")?.textContent === "All photos are done" ||
        /is ready/.test(document.querySelector('[data-testid="said"]').textContent),
    );
    if (await page.getByRole("heading", { name: "All photos are done" }).count()) break;
  }
  await page.getByRole("link", { name: "Statistics" }).last().click();
  await page.getByRole("heading", { name: "Masks by size" }).waitFor();
  await visit.shot(shots, "statistics-light");
  const figures = await page.evaluate(async () => (await fetch("api/statistics")).json());
  assert.equal(figures.photos.done, figures.photos.total - figures.photos.broken);
  assert.ok(figures.masks.person >= figures.photos.done);
  assert.ok(figures.seconds_a_mask.mean > 0);
  assert.equal(figures.names[0].name, "thing");

  const phone = await open({ ...PHONE, colorScheme: "dark" });
  await phone.page.getByPlaceholder("Your name").fill("Grace");
  await phone.page.getByRole("button", { name: "Begin" }).tap();
  await phone.page.getByRole("heading", { name: "All photos are done" }).waitFor();
  await phone.shot(shots, "annotate-done-phone");

  // A photo that is done, from the queue; its masks are there.
  await phone.page.getByRole("button", { name: "Queue" }).tap();
  await phone.page.getByRole("dialog", { name: "Queue" }).getByRole("listitem").first().waitFor();
  await phone.shot(shots, "annotate-queue-phone");
  await phone.page.getByRole("dialog", { name: "Queue" }).getByRole("button").nth(1).tap();
  await phone.heard(/is ready/);
  assert.ok((await phone.page.locator(".grows .layer").count()) >= 2);
  const spot = await phone.spot(size.width / 2, size.height / 2, size);
  await phone.page.touchscreen.tap(spot.x, spot.y);
  await phone.heard(/predicted IoU/);
  await phone.shot(shots, "annotate-mask-phone");
});
console.log("annotation: all steps done");
