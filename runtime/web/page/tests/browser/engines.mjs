/** The same clicks in the browser and on the server: `node engines.mjs ADDRESS PHOTO FOLDER` writes both records. */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { drive } from "./driver.mjs";

const [, , address, photo, folder, width, height, ...clicks] = process.argv;
const size = { width: Number(width), height: Number(height) };

await mkdir(folder, { recursive: true });
await drive(address, async (open) => {
  const { page, ...visit } = await prepared(await open());
  for (const place of ["browser", "server"]) {
    await page.getByTestId("badge").click();
    await page.getByLabel("Compute in").selectOption(place);
    await page.getByTestId("badge").click();
    await page.waitForFunction(
      (word) => document.querySelector('[data-testid="badge"]').textContent.includes(word),
      place === "browser" ? "WASM" : "ONNX Runtime",
    );
    for (const click of clicks) {
      const [x, y] = click.split(",").map(Number);
      await visit.of.click(x, y, size);
      await visit.of.heard(/predicted IoU/);
      await page.keyboard.press("n");
      await visit.of.heard(/kept/);
    }
    const { content } = await visit.of.saved("SA-1B JSON");
    await writeFile(join(folder, `${place}.json`), content);
    await page.getByRole("button", { name: "Remove all" }).click();
  }
});

async function prepared(of) {
  const { page } = of;
  await page.locator('input[type="file"]').first().setInputFiles(photo);
  await of.heard(/is ready/);
  return { page, of };
}
console.log("engines: both records written");
