/**
 * The service worker of a static site. It isolates the page where the host sends no such headers, which threads need,
 * and keeps the page's files, so that it opens without a network.
 */

const TRIED = "sam-edge-isolation";
const PATIENCE_MS = 5000;

/** Registers the service worker. Returns whether the page is about to load again, isolated. */
export async function isolate(): Promise<boolean> {
  if (!window.isSecureContext || !("serviceWorker" in navigator)) return false;
  try {
    const ready = navigator.serviceWorker.register("isolation-sw.js").then(() => navigator.serviceWorker.ready);
    if (window.crossOriginIsolated) {
      ready.catch(ignored); // it is for the next visit
      return false;
    }
    if (sessionStorage.getItem(TRIED) !== null || !(await isSettled(ready, PATIENCE_MS))) return false;
    sessionStorage.setItem(TRIED, "1");
  } catch {
    return false; // the page works with one thread
  }
  location.reload();
  return true;
}

/** Whether a promise is fulfilled in time. Where service workers are blocked, `ready` never is. */
function isSettled(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const late = new Promise<boolean>((resolve) => setTimeout(() => resolve(false), ms));
  return Promise.race([promise.then(() => true), late]);
}

function ignored(): void {
  // The page works without it.
}
