import { defineConfig } from "vite";

/** The page of `benchmarks/web.py`, with the package's sources as the served page has them. */
export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  logLevel: "warn",
  worker: { format: "es" },
  build: { target: "es2022", emptyOutDir: true, assetsInlineLimit: 0 },
});
