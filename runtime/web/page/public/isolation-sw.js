// For static sites. Adds the headers of cross-origin isolation on hosts that cannot send them, so that WebAssembly may use
// threads. Keeps the page's files, so that it opens without a network; the page itself keeps the graphs of bundles.
const KEPT = "sam-edge-page";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || request.headers.has("range")) return;
  if (request.cache === "only-if-cached" && request.mode !== "same-origin") return;
  if (new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(event).then(isolated));
});

async function answer(event) {
  const { request } = event;
  const url = new URL(request.url);
  const path = url.pathname.slice(new URL(self.registration.scope).pathname.length);
  if (path.startsWith("bundles/") && !path.endsWith("/manifest.json")) return fetch(request);
  url.search = "";
  const store = await caches.open(KEPT).catch(() => null);
  const kept = await store?.match(url.href);
  if (kept !== undefined && path.startsWith("assets/")) return kept; // its name changes with its content
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (kept !== undefined) return kept;
    throw error;
  }
  if (store !== null && response.status === 200) {
    event.waitUntil(keep(store, url.href, request.mode === "navigate", response.clone()).catch(() => undefined));
  }
  return response;
}

/** Keeps a file. With a new version of the page, files of the one before go. */
async function keep(store, url, isPage, response) {
  if (isPage) {
    const before = await (await store.match(url))?.text();
    const now = await response.clone().text();
    if (before !== undefined && before !== now) {
      for (const request of await store.keys()) await store.delete(request);
    }
  }
  await store.put(url, response);
}

function isolated(response) {
  if (response.status === 0 || response.status === 304) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
