/** A real browser on the page of a running `sam-edge serve`, and the moves that the scripts share. */

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const DESKTOP = { viewport: { width: 1280, height: 800 } };
export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".jpg": "image/jpeg",
  ".wasm": "application/wasm",
};

/** A host of static files that sends no headers of its own. */
export class Host {
  #server;

  /** Gives out the files of a folder at `address`, which no other machine reaches. */
  static async of(folder) {
    const host = new Host();
    host.#server = createServer(async (request, response) => {
      const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)).slice(1);
      try {
        if (path.startsWith("..")) throw new Error("outside");
        const name = path === "" ? "index.html" : path;
        const content = await readFile(join(folder, name));
        response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream" }).end(content);
      } catch {
        response.writeHead(404).end();
      }
    });
    await new Promise((resolve) => host.#server.listen(0, "127.0.0.1", resolve));
    host.address = `http://127.0.0.1:${host.#server.address().port}/`;
    return host;
  }

  /** Answers nobody any more. */
  close() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }
}

/**
 * Runs `script` with a fresh browser and fails if the page reports an error, opens a dialog or asks another host.
 *
 * `open(options, prepare)` opens the address in a context of its own; `prepare(page)` comes before it is loaded.
 *
 * @param {string} address - what `sam-edge serve` printed.
 * @param {(open: (options?: object, prepare?: (page: object) => Promise<void>) => Promise<Visit>) => Promise<void>} script
 */
export async function drive(address, script) {
  const executablePath = process.env.SAM_EDGE_CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });
  const faults = [];
  try {
    const contexts = [];
    await script(async (options = DESKTOP, prepare = null) => {
      const context = await browser.newContext({ acceptDownloads: true, ...options });
      contexts.push(context);
      const page = await context.newPage();
      page.setDefaultTimeout(60_000);
      page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
      page.on("dialog", (dialog) => {
        faults.push(`dialog: ${dialog.message()}`);
        void dialog.dismiss();
      });
      page.on("console", (message) => {
        if (message.type() === "error" && !/Failed to load resource/.test(message.text())) faults.push(message.text());
      });
      page.on("request", (request) => {
        const url = new URL(request.url());
        if (url.protocol.startsWith("http") && url.host !== new URL(address).host) faults.push(`asked ${url.host}`);
      });
      await prepare?.(page);
      await page.goto(address);
      return new Visit(page);
    });
    for (const context of contexts) await context.close();
  } finally {
    await browser.close();
  }
  assert.deepEqual(faults, []);
}

/** One page, and what a person does on it. */
export class Visit {
  constructor(page) {
    this.page = page;
    this.stage = page.getByTestId("stage");
    this.said = page.getByTestId("said");
  }

  /** A sample photo, encoded. */
  async sample(what) {
    await this.page.getByRole("button", { name: what }).click();
    await this.heard(/is ready/);
  }

  /** Waits until the live region says something. */
  async heard(pattern, timeout = 60_000) {
    await this.page.waitForFunction(
      ([source, flags]) =>
        new RegExp(source, flags).test(document.querySelector('[data-testid="said"]')?.textContent ?? ""),
      [pattern.source, pattern.flags],
      { timeout },
    );
    return this.said.textContent();
  }

  /** The second bundle beside the first. */
  async compareWithSecond() {
    await this.page.getByTestId("badge").click();
    await this.page.getByLabel("Compare with").selectOption({ index: 1 });
    await this.page.keyboard.press("Escape");
    await this.page.getByTestId("difference").waitFor();
  }

  /** Waits until the difference of both bundles' masks is there. */
  async compared() {
    await this.page.waitForFunction(() =>
      /IoU \d/.test(document.querySelector('[data-testid="difference"]').textContent),
    );
  }

  /** A photo of the person's, encoded. `photo` is a path, or a name with content. */
  async photo(photo) {
    await this.page.locator('input[type="file"]').first().setInputFiles(photo);
    await this.heard(/is ready/);
  }

  /** The text of the alert, which is closed. */
  async problem() {
    const text = await this.page.getByRole("alert").textContent();
    await this.page.getByRole("button", { name: "Close the message" }).click();
    return text;
  }

  /** Where a pixel of the photo lies on the screen, while the whole photo is shown. */
  async spot(x, y, { width, height }) {
    const box = await this.stage.boundingBox();
    const scale = Math.min((box.width - 32) / width, (box.height - 32) / height, 4);
    return {
      x: box.x + (box.width - width * scale) / 2 + x * scale,
      y: box.y + (box.height - height * scale) / 2 + y * scale,
    };
  }

  async click(x, y, size, options = {}) {
    const spot = await this.spot(x, y, size);
    await this.page.mouse.click(spot.x, spot.y, options);
  }

  async drag(from, to, size) {
    const [a, b] = [await this.spot(...from, size), await this.spot(...to, size)];
    await this.page.mouse.move(a.x, a.y);
    await this.page.mouse.down();
    await this.page.mouse.move((a.x + b.x) / 2, (a.y + b.y) / 2, { steps: 5 });
    await this.page.mouse.move(b.x, b.y, { steps: 5 });
    await this.page.mouse.up();
  }

  /** Pixels of the stage, as a number that changes when the picture does. */
  async pixels() {
    return this.page.evaluate(async () => {
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      const canvas = document.querySelector(".stage canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let sum = 0;
      for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + 3 * data[i + 1] + 7 * data[i + 2]) % 1000003;
      return sum;
    });
  }

  async changed(before) {
    for (let i = 0; i < 200; i++) {
      if ((await this.pixels()) !== before) return;
      await this.page.waitForTimeout(50);
    }
    assert.fail("the stage did not change");
  }

  /** The content of the file that a button saves, and its name. */
  async saved(button) {
    const waiting = this.page.waitForEvent("download");
    await this.page.getByRole("button", { name: button, exact: true }).click();
    const download = await waiting;
    const chunks = [];
    for await (const chunk of await download.createReadStream()) chunks.push(chunk);
    return { name: download.suggestedFilename(), content: Buffer.concat(chunks) };
  }

  async shot(folder, name) {
    if (!folder) return;
    await mkdir(folder, { recursive: true });
    await this.page.waitForTimeout(150);
    await this.page.screenshot({ path: join(folder, `${name}.png`) });
  }
}
