/**
 * The pictures of docs/serve.md: `node pictures.mjs PHOTO_ADDRESS COMPARE_ADDRESS ANNOTATE_ADDRESS FOLDER`.
 * docs/retake_pictures.py starts the servers.
 */

import { drive, PHONE } from "./driver.mjs";

const [, , photoAddress, compareAddress, annotateAddress, folder] = process.argv;
const WIDE = { viewport: { width: 1120, height: 700 }, reducedMotion: "reduce" };
const CAT = { width: 451, height: 300 };
const SMALL = { ...PHONE, deviceScaleFactor: 1, reducedMotion: "reduce" };

/** Clicks a few times at one place: the badge shows the time of a click that is warm. */
async function warm(visit, x, y, size) {
  for (let i = 0; i < 3; i++) {
    await visit.click(x, y, size);
    await visit.heard(/predicted IoU/);
    await visit.page.getByRole("button", { name: "Give the mask up" }).click();
  }
}

await drive(photoAddress, async (open) => {
  const visit = await open({ ...WIDE, colorScheme: "light" });
  const { page } = visit;
  await visit.sample("Cat");
  await warm(visit, 220, 170, CAT);
  await visit.drag([2, 2], [405, 297], CAT);
  await visit.heard(/^Mask, predicted IoU/);
  await page.keyboard.press("n");
  await visit.heard(/kept/);
  await page.getByLabel("Name of Layer 1").fill("cat");
  await page.getByLabel("Name of Layer 1").press("Enter");
  await visit.drag([132, 78], [222, 150], CAT);
  await visit.heard(/^Mask, predicted IoU/);
  await page.keyboard.press("n");
  await visit.heard(/kept/);
  await page.getByLabel("Name of Layer 2").fill("eye");
  await page.getByLabel("Name of Layer 2").press("Enter");
  await visit.drag([232, 212], [312, 262], CAT);
  await visit.heard(/^Mask, predicted IoU/);
  await page.mouse.move(5, 5);
  await visit.shot(folder, "serve-photo");

  const phone = await open({ ...SMALL, colorScheme: "light" });
  await phone.page.getByRole("button", { name: "Cat" }).tap();
  await phone.heard(/is ready/);
  await warm(phone, 220, 170, CAT);
  await phone.click(220, 170, CAT);
  await phone.heard(/predicted IoU/);
  await phone.shot(folder, "serve-phone");
});

await drive(compareAddress, async (open) => {
  const visit = await open({ ...WIDE, colorScheme: "dark" });
  const { page } = visit;
  await visit.sample("Cat");
  await visit.compareWithSecond();
  await visit.heard(/^Compared with/);
  await warm(visit, 220, 170, CAT);
  await visit.click(220, 170, CAT);
  await visit.compared();
  await page.mouse.move(5, 5);
  await visit.shot(folder, "serve-compare");
});

await drive(annotateAddress, async (open) => {
  const begun = async (options, name) => {
    const visit = await open(options);
    await visit.page.getByPlaceholder("Your name").fill(name);
    await visit.page.getByRole("button", { name: "Begin" }).click();
    return visit;
  };
  const sizeOf = async (visit) => {
    const [, width, height] = /is ready, (\d+) by (\d+)/.exec(await visit.heard(/is ready/));
    return { width: Number(width), height: Number(height) };
  };
  const visit = await begun(
    { viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", colorScheme: "light" },
    "Ada",
  );
  const { page } = visit;
  let size = await sizeOf(visit);
  await page.clock.install();
  const box = async (name, seconds, from, to) => {
    await visit.drag(from, to, size);
    await visit.heard(/^Mask, predicted IoU/);
    await page.clock.fastForward(1000 * seconds);
    await page.clock.resume();
    if (name === null) return;
    await page.getByPlaceholder("Name, if you like").fill(name);
    await page.getByPlaceholder("Name, if you like").press("Enter");
    await visit.heard(/Mask \d+ saved/);
  };
  const whole = ([x0, y0, x1, y1]) => [
    [x0 * size.width, y0 * size.height],
    [x1 * size.width, y1 * size.height],
  ];
  await box("cat", 8, ...whole([0.01, 0.01, 0.9, 0.99]));
  await box("eye", 5, ...whole([0.29, 0.26, 0.49, 0.5]));
  await box(null, 31, ...whole([0.51, 0.7, 0.69, 0.87]));
  await page.getByText("This mask takes more than 30 seconds.").waitFor();
  await page.mouse.move(5, 5);
  await visit.shot(folder, "serve-annotate");
  await page.getByRole("button", { name: "Go on with it" }).click();
  await page.getByPlaceholder("Name, if you like").fill("nose");
  await page.getByRole("button", { name: "Photo done, next" }).click();
  await page.waitForFunction(() => /^2 of/.test(document.querySelector(".position").textContent));
  size = await sizeOf(visit);

  const phone = await begun({ ...SMALL, colorScheme: "dark" }, "Grace");
  const small = await sizeOf(phone);
  const spot = await phone.spot(small.width * 0.42, small.height * 0.75, small);
  await phone.page.touchscreen.tap(spot.x, spot.y);
  await phone.heard(/predicted IoU/);
  await phone.shot(folder, "serve-annotate-phone");

  await page.getByRole("link", { name: "Statistics" }).click();
  await page.getByRole("heading", { name: "Masks by size" }).waitFor();
  await visit.shot(folder, "serve-statistics");
});
console.log("pictures: all taken");
