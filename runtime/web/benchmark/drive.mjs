/**
 * Drives Chromium for `benchmarks/web.py`: `node drive.mjs CHROMIUM SITE DATA`. A line of JSON on stdin is a request:
 *
 *     {"open": {name, bundle, photo, threads}}                   a tab with a bundle in it; answers its engine
 *     {"measure": name}                                         {"seconds": {step: seconds}}, measured once
 *     {"close": true}                                           closes these tabs
 *     {"visit": {address, photo, width, height, seconds}}       a page of `sam-edge serve` in a fresh profile, twice
 */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { DESKTOP, FLAGS as COMMON, Visit } from "../page/tests/browser/driver.mjs";

const [, , executablePath, site, data] = process.argv;

const FLAGS = [
  ...COMMON,
  // Every tab is measured as if it were the one in front.
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".png": "image/png" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const roots = { site, data };

/** `/site/index.html`, `/data/photo.png`: a root and a file in it. */
const server = createServer(async (request, response) => {
  const [, root, ...path] = decodeURIComponent(new URL(request.url, "http://localhost").pathname).split("/");
  const file = normalize(path.join("/"));
  if (!(root in roots) || file.startsWith("..")) return void response.writeHead(404).end();
  try {
    const content = await readFile(join(roots[root], file));
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type, ...ISOLATED }).end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const base = `http://localhost:${server.address().port}`;

let browser = null;
const tabs = new Map();

async function open({ name, bundle, photo, threads }) {
  browser ??= await chromium.launch({ executablePath, args: FLAGS });
  const context = await browser.newContext(); // a renderer process of its own
  const page = await context.newPage();
  await page.goto(`${base}/site/index.html`);
  await page.waitForFunction(() => "begin" in window);
  const job = { bundle: `${base}/data/${bundle}/`, photo: `${base}/data/${photo}`, threads };
  tabs.set(name, page);
  return { engine: await page.evaluate((own) => window.begin(own), job), chromium: browser.version() };
}

async function measure(name) {
  return { seconds: await tabs.get(name).evaluate(() => window.measure()) };
}

async function close() {
  tabs.clear();
  await browser?.close();
  browser = null;
  return {};
}

/** Runs in the page before its scripts: notes when something is there to see, and each mask that the worker sends. */
function watch() {
  const seen = (window.seen = {});
  const answers = (window.answers = []);
  const note = (what) => {
    if (what in seen) return;
    seen[what] = Infinity;
    // What was said is drawn with the next frame.
    requestAnimationFrame(() => requestAnimationFrame(() => (seen[what] = performance.timeOrigin + performance.now())));
  };
  new MutationObserver(() => {
    if (document.querySelector('input[type="file"]')) note("page");
    const said = document.querySelector('[data-testid="said"]')?.textContent ?? "";
    if (/is ready/.test(said)) note("photo");
    if (/predicted IoU|mask is empty/.test(said)) note("mask");
  }).observe(document, { subtree: true, childList: true, characterData: true });
  window.Worker = class extends window.Worker {
    constructor(...from) {
      super(...from);
      this.addEventListener("message", (event) => {
        if (Array.isArray(event.data?.result)) answers.push(performance.now());
      });
    }
  };
}

/** Seconds from opening the page until it, the photo and a first mask were seen, and what the page says of itself. */
async function firstMask(page, { address, photo, width, height }) {
  const visit = new Visit(page);
  const opened = Date.now();
  await page.goto(address, { waitUntil: "commit" });
  await page.locator('input[type="file"]').first().setInputFiles(photo);
  await page.waitForFunction(() => Number.isFinite(window.seen?.photo));
  await visit.click(width / 2, height / 2, { width, height });
  await page.waitForFunction(() => Number.isFinite(window.seen.mask));
  const seen = await page.evaluate(() => window.seen);
  const seconds = Object.fromEntries(Object.entries(seen).map(([what, at]) => [what, (at - opened) / 1000]));
  return { seconds, said: await visit.said.textContent(), badge: await page.getByTestId("badge").textContent() };
}

/** Masks that the page makes while the pointer moves over the whole photo. */
async function hover(page, { width, height, seconds }) {
  const visit = new Visit(page);
  await page.keyboard.press("Escape"); // gives the mask up: masks follow the pointer again
  const [low, high] = [
    await visit.spot(0.1 * width, 0.1 * height, { width, height }),
    await visit.spot(0.9 * width, 0.9 * height, { width, height }),
  ];
  await page.evaluate(() => void (window.answers.length = 0));
  const started = Date.now();
  let moves = 0;
  for (; Date.now() - started < 1000 * seconds; moves++) {
    const [across, down] = [0.5 + 0.5 * Math.sin(moves / 40), 0.5 + 0.5 * Math.sin(0.7 * (moves / 40) + 1)];
    await page.mouse.move(low.x + (high.x - low.x) * across, low.y + (high.y - low.y) * down);
  }
  const taken = (Date.now() - started) / 1000;
  const answers = await page.evaluate(() => window.answers);
  const between = (answers.at(-1) - answers[0]) / 1000;
  return { rate: answers.length > 1 ? (answers.length - 1) / between : 0, moves: moves / taken };
}

async function visit(job) {
  const profile = await mkdtemp(join(tmpdir(), "sam-edge-profile-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS, ...DESKTOP });
  try {
    await context.addInitScript(watch);
    context.setDefaultTimeout(120_000);
    const [blank] = context.pages();
    const finished = [];
    const note = async (request) => {
      const { responseHeadersSize, responseBodySize } = await request.sizes();
      return { path: new URL(request.url()).pathname, bytes: responseHeadersSize + responseBodySize };
    };
    context.on("requestfinished", (request) => finished.push(note(request)));
    const page = await context.newPage();
    await page.bringToFront();
    const cold = await firstMask(page, job);
    const wire = (await Promise.all(finished)).filter(({ path }) => !path.startsWith("blob:"));
    const hovered = await hover(page, job);
    await page.close();
    const next = await context.newPage();
    const again = await firstMask(next, job);
    await blank?.close();
    return { cold, again, hover: hovered, wire, chromium: context.browser()?.version() ?? null };
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}

const answers = { open, measure, close, visit };
for await (const line of createInterface({ input: process.stdin })) {
  const [[what, argument]] = Object.entries(JSON.parse(line));
  let reply;
  try {
    reply = await answers[what](argument);
  } catch (error) {
    reply = { error: `${what}: ${String(error).split("\n")[0]}` };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
await close();
server.close();
