/** The photo page, as a person uses it: `node photo.mjs ADDRESS [FOLDER FOR SCREENSHOTS]`. */

import assert from "node:assert/strict";
import { DESKTOP, drive, PHONE } from "./driver.mjs";

const [, , address, shots] = process.argv;
const ASTRONAUT = { width: 512, height: 512 };
const CAT = { width: 451, height: 300 };

await drive(address, async (open) => {
  const visit = await open({ ...DESKTOP, colorScheme: "light" });
  const { page } = visit;
  await page.getByRole("heading", { name: "Cut anything out of a photo" }).waitFor();
  await visit.shot(shots, "start-light");
  await visit.sample("Astronaut");
  assert.match(await page.getByTestId("badge").textContent(), /\d ms/);

  // A mask under the pointer.
  const bare = await visit.pixels();
  const over = await visit.spot(210, 390, ASTRONAUT);
  await page.mouse.move(over.x, over.y);
  await visit.changed(bare);
  await visit.shot(shots, "hover-light");

  // Click, candidates, right click, undo and redo.
  await visit.click(210, 390, ASTRONAUT);
  await visit.heard(/predicted IoU/);
  const radios = page.getByRole("radio");
  assert.equal(await radios.count(), 3);
  for (const [key, name] of [
    ["1", "Whole"],
    ["2", "Part"],
    ["3", "Subpart"],
  ]) {
    await page.keyboard.press(key);
    await visit.heard(new RegExp(`^${name},`));
    assert.equal(await page.getByRole("radio", { name: new RegExp(`^${name},`) }).getAttribute("aria-checked"), "true");
  }
  await page.keyboard.press("1");
  await visit.shot(shots, "mask-light");
  await visit.click(60, 60, ASTRONAUT, { button: "right" });
  await visit.heard(/^Mask, predicted IoU/);
  assert.equal(await radios.count(), 0);
  await page.keyboard.press("z");
  await page.getByRole("radio").first().waitFor();
  assert.equal(await radios.count(), 3);
  await page.keyboard.press("y");
  await page.getByText("Best fit").waitFor();
  const before = await visit.said.textContent();
  await page.keyboard.press("r");
  await page.waitForFunction((text) => document.querySelector('[data-testid="said"]').textContent !== text, before);

  // Layers: keep, name with markup, colour, box, everything.
  await page.keyboard.press("n");
  await visit.heard(/Layer 1 kept/);
  const markup = '<img src=x onerror="alert(1)">';
  await page.getByLabel("Name of Layer 1").fill(markup);
  await page.getByLabel("Name of Layer 1").press("Enter");
  assert.equal(await page.locator(".panel img").count(), 0);
  await visit.drag([0, 2], [430, 510], ASTRONAUT);
  await visit.heard(/^Mask, predicted IoU/);
  await visit.shot(shots, "box-light");
  await page.keyboard.press("n");
  await visit.heard(/Layer 2 kept/);
  await page.keyboard.press("e");
  const found = Number((await visit.heard(/masks found/, 300_000)).split(" ")[0]);
  assert.ok(found > 0, `${found} masks found`);
  assert.equal(await page.locator(".layer").count(), 2 + found);
  await visit.shot(shots, "everything-light");

  // Files to take away.
  const coco = JSON.parse((await visit.saved("COCO JSON")).content);
  assert.equal(coco.annotations.length, 2 + found);
  assert.equal(coco.categories[0].name, markup);
  assert.deepEqual(coco.annotations[0].segmentation.size, [512, 512]);
  const sa1b = await visit.saved("SA-1B JSON");
  assert.equal(sa1b.name, "astronaut.json");
  assert.equal(JSON.parse(sa1b.content).annotations.length, 2 + found);
  const svg = (await visit.saved("SVG")).content.toString();
  assert.equal(svg.match(/<path /g).length, 2 + found);
  assert.ok(!svg.includes("<img"));
  await page.getByRole("button", { name: "Select Layer 2", exact: true }).click();
  for (const [button, name] of [
    ["Cut-out PNG", "astronaut_cutout.png"],
    ["Mask PNG", "astronaut_mask.png"],
  ]) {
    const file = await visit.saved(button);
    assert.equal(file.name, name);
    assert.equal(file.content.subarray(1, 4).toString(), "PNG");
    assert.ok(file.content.length > 1000);
  }
  await page.getByRole("button", { name: "Select Layer 2", exact: true }).click();
  await page.keyboard.press("z");
  await page.waitForFunction(() => document.querySelectorAll(".layer").length === 2);

  // By keyboard alone.
  await visit.stage.focus();
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await visit.heard(/predicted IoU/);
  await page.keyboard.press("Escape");
  await page.keyboard.press("m");
  for (let i = 0; i < 12; i++) await page.keyboard.press(i % 2 ? "ArrowRight" : "ArrowDown");
  await page.keyboard.press("Enter");
  await visit.heard(/^Mask, predicted IoU/);
  await page.keyboard.press("Escape");

  // Brush and eraser.
  await page.keyboard.press("b");
  await visit.drag([100, 100], [300, 120], ASTRONAUT);
  await page.getByText("Painted by hand.").waitFor();
  await page.keyboard.press("d");
  await visit.drag([200, 60], [200, 200], ASTRONAUT);
  await visit.shot(shots, "brush-light");
  await page.keyboard.press("n");
  await visit.heard(/Layer 3 kept/);
  await page.keyboard.press("p");

  // Zoom and pan keep clicks where they are.
  await page.keyboard.press("+");
  assert.notEqual(await page.getByLabel(/^Zoom \d+ %/).textContent(), "");
  await page.keyboard.press("0");

  // Paste and drop; a name that is markup; a file that is no photo.
  await page.evaluate(async () => {
    const blob = await (await fetch("samples/chelsea.jpg")).blob();
    const data = new DataTransfer();
    data.items.add(new File([blob], "<b>cat</b>.jpg", { type: "image/jpeg" }));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await visit.heard(/cat<\/b>.jpg is ready/);
  assert.equal(await page.locator(".photo-name b").count(), 0);
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(["no photo"], "notes.txt", { type: "text/plain" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  });
  assert.match(await page.getByRole("alert").textContent(), /cannot read notes.txt: save it as/);
  await visit.shot(shots, "problem-light");
  await page.getByRole("button", { name: "Close the message" }).click();

  // Ten thousand random pointer events, then a click that still makes a mask.
  const events = await page.evaluate(async () => {
    let state = 12345;
    const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
    const stage = document.querySelector(".stage");
    const kinds = ["pointerdown", "pointermove", "pointermove", "pointermove", "pointerup", "pointercancel", "wheel"];
    const box = stage.getBoundingClientRect();
    for (let i = 0; i < 10_000; i++) {
      const kind = kinds[Math.floor(random() * kinds.length)];
      const touch = random() < 0.3;
      const shared = {
        bubbles: true,
        cancelable: true,
        clientX: box.left + (random() * 1.2 - 0.1) * box.width,
        clientY: box.top + (random() * 1.2 - 0.1) * box.height,
        ctrlKey: random() < 0.05,
        shiftKey: random() < 0.05,
      };
      if (kind === "wheel") stage.dispatchEvent(new WheelEvent(kind, { ...shared, deltaY: (random() - 0.5) * 400 }));
      else {
        const pointerType = touch ? "touch" : "mouse";
        const pointerId = touch ? 2 + Math.floor(3 * random()) : 1;
        stage.dispatchEvent(
          new PointerEvent(kind, { ...shared, pointerType, pointerId, button: Math.floor(3 * random()) }),
        );
      }
      if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve));
    }
    for (let id = 1; id < 6; id++) stage.dispatchEvent(new PointerEvent("pointercancel", { pointerId: id }));
    return 10_000;
  });
  assert.equal(events, 10_000);
  await page.keyboard.press("Escape");
  await page.keyboard.press("0");
  await page.keyboard.press("x");
  await page.keyboard.press("x");
  await page.waitForTimeout(500);
  await page.keyboard.press("p");
  assert.equal(await page.getByRole("radio").count(), 0);
  await visit.click(220, 170, CAT);
  await page.getByRole("radio").first().waitFor();
});

// Dark, and small with touch.
await drive(address, async (open) => {
  const dark = await open({ ...DESKTOP, colorScheme: "dark" });
  await dark.shot(shots, "start-dark");
  await dark.sample("Cat");
  await dark.click(220, 170, CAT);
  await dark.heard(/predicted IoU/);
  await dark.shot(shots, "mask-dark");
  await dark.page.getByTestId("badge").click();
  await dark.shot(shots, "badge-dark");
  await dark.page.keyboard.press("Escape");
  await dark.page.getByRole("button", { name: "Colours: as the system" }).click();
  assert.equal(await dark.page.evaluate(() => document.documentElement.dataset.theme), "light");
  await dark.page.getByRole("button", { name: "Keys and gestures" }).click();
  await dark.page.getByRole("dialog").waitFor();
  await dark.shot(shots, "help-light");
  await dark.page.keyboard.press("Escape");

  const phone = await open({ ...PHONE, colorScheme: "light" });
  const { page } = phone;
  await phone.shot(shots, "start-phone");
  await page.getByRole("button", { name: "Cat" }).tap();
  await phone.heard(/is ready/);
  const spot = await phone.spot(220, 170, CAT);
  await page.touchscreen.tap(spot.x, spot.y);
  await phone.heard(/predicted IoU/);
  assert.equal(await page.getByRole("radio").count(), 3);
  await phone.shot(shots, "mask-phone");
  const devtools = await page.context().newCDPSession(page);
  const touch = (type, ...points) =>
    devtools.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  const away = await phone.spot(20, 20, CAT);
  await touch("touchStart", [away.x, away.y]);
  await page.waitForTimeout(700);
  await touch("touchEnd");
  await phone.heard(/^Mask, predicted IoU/);
  const before = await phone.pixels();
  await touch("touchStart", [spot.x - 30, spot.y], [spot.x + 30, spot.y]);
  for (let i = 1; i <= 5; i++) await touch("touchMove", [spot.x - 30 - 10 * i, spot.y], [spot.x + 30 + 10 * i, spot.y]);
  await touch("touchEnd");
  await phone.changed(before);
  await phone.shot(shots, "zoom-phone");
});
console.log("photo page: all steps done");
