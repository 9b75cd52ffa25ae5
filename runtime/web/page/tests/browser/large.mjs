/** A photo of a hundred megapixels: `node large.mjs ADDRESS PHOTO WIDTH HEIGHT FOLDER`; the SA-1B record goes to FOLDER. */

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DESKTOP, drive } from "./driver.mjs";

const [, , address, photo, width, height, folder] = process.argv;
const size = { width: Number(width), height: Number(height) };
const MINUTES = 60_000;

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, colorScheme: "light" });
  const { page } = visit;
  page.setDefaultTimeout(4 * MINUTES);
  await page.locator('input[type="file"]').first().setInputFiles(photo);
  await visit.heard(/is ready/, 4 * MINUTES);
  assert.match(await page.locator(".photo-name").textContent(), new RegExp(`${width} × ${height}`));

  // The page stays alive while the pointer moves: frames come, and no longer pause than this.
  const longest = page.evaluate(
    (ms) =>
      new Promise((resolve) => {
        let [worst, before] = [0, performance.now()];
        const end = before + ms;
        const tick = (now) => {
          worst = Math.max(worst, now - before);
          before = now;
          if (now < end) requestAnimationFrame(tick);
          else resolve(worst);
        };
        requestAnimationFrame(tick);
      }),
    6000,
  );
  for (let i = 0; i < 20; i++) {
    const spot = await visit.spot(size.width * (0.3 + 0.02 * i), size.height * 0.5, size);
    await page.mouse.move(spot.x, spot.y);
    await page.waitForTimeout(100);
  }
  console.log(`longest pause ${Math.round(await longest)} ms`);

  await visit.click(size.width * 0.5, size.height * 0.5, size);
  await visit.heard(/predicted IoU/, 4 * MINUTES);
  await page.keyboard.press("n");
  await visit.heard(/Layer 1 kept/, 4 * MINUTES);
  const { content } = await visit.saved("SA-1B JSON");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "large.json"), content);
  const cutout = await visit.saved("Cut-out PNG");
  assert.equal(cutout.content.subarray(1, 4).toString(), "PNG");
  assert.ok(cutout.content.readUInt32BE(16) > 1000);
  assert.equal(await page.getByRole("alert").count(), 0);
});
console.log("large photo: all steps done");
