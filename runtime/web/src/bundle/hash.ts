/** SHA-256 by the platform. */

import type { Bytes } from "../arrays.ts";
import { BundleError } from "../errors.ts";

/** Whether this page may hash: browsers offer SubtleCrypto to secure contexts alone. */
export function canHash(): boolean {
  return (globalThis.crypto as Crypto | undefined)?.subtle !== undefined;
}

/**
 * The SHA-256 of some bytes, in hexadecimal.
 *
 * @throws BundleError - the page is no secure context.
 */
export async function sha256(content: Bytes): Promise<string> {
  if (!canHash()) {
    throw new BundleError(
      "bundles cannot be checked on this page, because browsers hash on secure pages alone: serve it by https, or " +
        "from localhost",
    );
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
