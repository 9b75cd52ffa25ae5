import { join } from "node:path";
import { defineConfig } from "vite";

const PACKAGE = join(import.meta.dirname, "..", "..");

/** The page of the tests, with the package as it is published. */
export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  logLevel: "warn",
  resolve: { alias: { "@sam-edge/runtime": join(PACKAGE, "dist", "index.js") } },
  worker: { format: "es" },
  build: { target: "es2022", emptyOutDir: true, assetsInlineLimit: 0 },
});
