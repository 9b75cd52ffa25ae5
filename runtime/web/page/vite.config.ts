import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The page goes where `sam-edge serve` and `sam-edge site` take it from, and where the wheel packs it. */
export default defineConfig({
  base: "./",
  resolve: { alias: { "@sam-edge/runtime/": here("../src/"), "@sam-edge/runtime": here("../src/index.ts") } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    outDir: here("../../../sam_edge/serving/static"),
    emptyOutDir: true,
    target: "es2022",
    // The policy of the page allows no inline script and no data: script.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
});
