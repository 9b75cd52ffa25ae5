/** Cross-origin isolation on hosts that send no such headers: a service worker adds them. Threads need it. */

const TRIED = "sam-edge-isolation";

/** Registers the service worker where it is needed. Returns whether the page is about to load again. */
export async function isolate(): Promise<boolean> {
  if (window.crossOriginIsolated || !window.isSecureContext || !("serviceWorker" in navigator)) return false;
  try {
    if (sessionStorage.getItem(TRIED) !== null) return false;
    await navigator.serviceWorker.register("isolation-sw.js");
    await navigator.serviceWorker.ready;
    sessionStorage.setItem(TRIED, "1");
  } catch {
    return false; // the page works with one thread
  }
  location.reload();
  return true;
}
