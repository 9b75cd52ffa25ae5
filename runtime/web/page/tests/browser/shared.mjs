/**
 * Three annotators on one queue of four photos, with masks that are there already: `node shared.mjs ADDRESS`.
 *
 * The server's leases run out after a few seconds, so that it can be waited for.
 */

import assert from "node:assert/strict";
import { DESKTOP, drive } from "./driver.mjs";

const [, , address, leaseSeconds] = process.argv;

await drive(address, async (open) => {
  const begin = async (name, prepare = null) => {
    const visit = await open({ ...DESKTOP, colorScheme: "light" }, prepare);
    await visit.page.getByPlaceholder("Your name").fill(name);
    await visit.page.getByPlaceholder("Your name").press("Enter");
    return visit;
  };
  const photoOf = ({ page }) => page.locator(".photo-name").textContent();
  const became = async ({ page }, name) =>
    page.waitForFunction((wanted) => document.querySelector(".photo-name")?.textContent === wanted, name);
  const queue = async ({ page }) =>
    page.evaluate(async () => {
      const { photos } = await (await fetch("api/queue")).json();
      return Object.fromEntries(photos.map(({ key, state, annotator }) => [key, annotator ?? state]));
    });
  const ready = (visit) => visit.heard(/is ready/);

  // The masks that are there already are shown, and cannot be changed; Ada adds one.
  const ada = await begin("Ada");
  await ready(ada);
  assert.equal(await photoOf(ada), "a.png");
  await ada.page.getByText("The grey masks are there already.").waitFor();
  const rows = ada.page.locator(".grows .layer");
  assert.equal(await rows.count(), 1);
  assert.equal(
    (await rows.getByRole("textbox").count()) + (await rows.getByRole("button", { name: /^Remove/ }).count()),
    0,
  );
  const size = { width: 240, height: 160 };
  await ada.click(60, 40, size);
  await ada.heard(/predicted IoU/);
  await ada.page.keyboard.press("n");
  await ada.heard(/Mask \d+ saved, 2 on this photo/);
  await ada.page.keyboard.press("z");
  await ada.heard(/Mask \d+ removed/);
  await ada.page.keyboard.press("z"); // the mask that was there stays
  await ada.click(60, 40, size);
  await ada.heard(/predicted IoU/);
  await ada.page.keyboard.press("n");
  await ada.heard(/Mask \d+ saved, 2 on this photo/);

  // Grace gets another photo. Her first heartbeat is kept, to come late.
  const beats = [];
  const grace = await begin("Grace", (page) =>
    page.on("request", (request) => {
      if (request.url().endsWith("/heartbeat")) beats.push({ url: request.url(), body: request.postData() });
    }),
  );
  await ready(grace);
  assert.equal(await photoOf(grace), "b.png");
  for (let i = 0; i < 100 && beats.length === 0; i++) await grace.page.waitForTimeout(100);
  assert.ok(beats[0].url.includes("/b/"));

  // Pressed twice, a photo is done once, and the next one is not.
  await ada.page.evaluate(() => {
    const button = [...document.querySelectorAll("button")].find((each) => each.textContent === "Photo done, next");
    button.click();
    button.click();
  });
  await became(ada, "c.png");
  await ready(ada);
  await ada.page.waitForTimeout(300);
  assert.deepEqual(await queue(ada), { a: "done", b: "Grace", c: "Ada", d: "open" });

  // "Later", pressed twice, passes over one photo. A heartbeat of the photo before takes nothing away.
  await grace.page.evaluate(() => {
    const button = [...document.querySelectorAll("button")].find((each) => each.textContent === "Later");
    button.click();
    button.click();
  });
  await became(grace, "d.png");
  await ready(grace);
  const late = await grace.page.evaluate(async ({ url, body }) => {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(url, { method: "POST", body, headers });
    return [answer.status, (await answer.json()).code];
  }, beats[0]);
  assert.deepEqual(late, [409, "late"]);
  assert.deepEqual(await queue(grace), { a: "done", b: "open", c: "Ada", d: "Grace" });

  // Heartbeats keep both leases beyond their length; a third person gets what is left, and no more.
  const third = await begin("Edsger");
  await ready(third);
  assert.equal(await photoOf(third), "b.png");
  await third.click(120, 80, size);
  await third.heard(/predicted IoU/);
  await third.page.waitForTimeout(1000 * Number(leaseSeconds) + 500);
  assert.deepEqual(await queue(third), { a: "done", b: "Edsger", c: "Ada", d: "Grace" });
  await third.page.keyboard.press("Shift+N");
  await third.page.getByRole("heading", { name: "Others have the rest" }).waitFor();

  // Ada's machine is lost. Her lease runs out, and the photo comes again, once.
  await ada.page.context().setOffline(true);
  for (let i = 0; (await queue(third)).c === "Ada"; i++) {
    assert.ok(i < 100, "the lease does not run out");
    await third.page.waitForTimeout(200);
  }
  await third.page.getByRole("button", { name: "Look again" }).click();
  await became(third, "c.png");
  await ready(third);

  // She comes back: her mask is refused with the reason, and her page goes on with what is left.
  await ada.click(100, 100, size);
  await ada.heard(/predicted IoU/);
  await ada.page.context().setOffline(false);
  assert.match(await ada.problem(), /Edsger works on this photo/);
  await ada.page.keyboard.press("n");
  await ada.page.getByRole("alert").filter({ hasText: "Edsger works on this photo" }).waitFor();
  await ada.page.getByRole("button", { name: "Later" }).click();
  await ada.page.getByRole("heading", { name: "Others have the rest" }).waitFor();

  // To the end.
  for (const visit of [grace, third]) {
    await visit.click(120, 80, size);
    await visit.heard(/predicted IoU/);
    await visit.page.keyboard.press("Shift+N");
    await visit.page.getByRole("heading", { name: /All photos are done|Others have the rest/ }).waitFor();
  }
  assert.deepEqual(await queue(ada), { a: "done", b: "done", c: "done", d: "done" });
  await ada.page.getByRole("button", { name: "Look again" }).click();
  await ada.page.getByRole("heading", { name: "All photos are done" }).waitFor();
});
console.log("shared queue: all steps done");
