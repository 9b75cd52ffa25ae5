/**
 * Drives Chromium over the jobs in a JSON file and prints what the pages answered: `node drive.mjs JOBS RESULTS`.
 *
 * The page is served by three origins: `isolated` (cross-origin isolated), `plain` (not), and `insecure` (no secure
 * context, so neither SubtleCrypto nor Cache Storage).
 */

import { readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const [, , jobsFile, resultsFile] = process.argv;
const { executable, roots, runs } = JSON.parse(readFileSync(jobsFile, "utf-8"));

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const HOST = "sam-edge.test";

const requests = {};
let cutOff = false; // whether requests for data meet a connection that breaks

/** What a page answers to a job, or that it did not within the job's limit. */
async function answerOf(page, job) {
  let timer;
  const limit = (job.limit ?? 120) * 1000;
  const late = new Promise((resolve) => {
    const error = { name: "TimeoutError", message: `no answer within ${limit / 1000} s` };
    timer = setTimeout(() => resolve({ error }), limit);
  });
  const answer = await Promise.race([page.evaluate((own) => window.run(own), job), late]);
  clearTimeout(timer);
  return answer;
}

/** `/isolated/site/index.html`: the headers, a root of `roots`, and a file in it. */
const server = createServer(async (request, response) => {
  const [, headers, root, ...path] = decodeURIComponent(new URL(request.url, "http://localhost").pathname).split("/");
  const file = normalize(path.join("/"));
  if (!(root in roots) || file.startsWith("..")) return void response.writeHead(404).end();
  if (root !== "site") requests[file] = (requests[file] ?? 0) + 1;
  if (root !== "site" && cutOff) return void response.destroy();
  try {
    const content = await readFile(join(roots[root], file));
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type, ...(headers === "isolated" ? ISOLATED : {}) }).end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address();

const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  `--host-resolver-rules=MAP ${HOST} 127.0.0.1`,
];

const results = {};
for (const { name, origin, flags = [], quota, jobs } of runs) {
  const browser = await chromium.launch({ executablePath: executable, args: [...FLAGS, ...flags] });
  try {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    const host = origin === "insecure" ? HOST : "localhost";
    const base = `http://${host}:${port}/${origin}`;
    if (quota !== undefined) {
      const devtools = await page.context().newCDPSession(page);
      await devtools.send("Storage.overrideQuotaForOrigin", { origin: new URL(base).origin, quotaSize: quota });
    }
    await page.goto(`${base}/site/index.html`);
    await page.waitForFunction(() => "run" in window);
    const environment = await page.evaluate(() => ({
      isolated: crossOriginIsolated,
      secure: isSecureContext,
      gpu: "gpu" in navigator,
    }));
    const answers = [];
    const counts = [];
    for (const job of jobs) {
      for (const file of Object.keys(requests)) delete requests[file];
      cutOff = job.offline ?? false;
      const bundle = job.bundle ? `${base}/data/${job.bundle}` : "";
      answers.push(await answerOf(page, { ...job, bundle }));
      counts.push({ ...requests });
    }
    results[name] = { environment, answers, requests: counts, errors, version: browser.version() };
  } catch (error) {
    results[name] = { failure: String(error) };
  } finally {
    await browser.close();
  }
}
server.close();
writeFileSync(resultsFile, JSON.stringify(results));
