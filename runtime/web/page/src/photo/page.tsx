/** The photo page: one photo, masks by clicks, layers, files to take away. */

import { computed, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type { Session } from "../session.ts";
import { actionsOf } from "../stage/actions.ts";
import { listenToKeys } from "../stage/keys.ts";
import { Stage } from "../stage/stage.tsx";
import { Tools } from "../stage/tools.ts";
import { Badge } from "../ui/badge.tsx";
import { Difference } from "../ui/difference.tsx";
import { Help, HelpButton } from "../ui/help.tsx";
import { Candidates, Export, Layers, Problem, Waiting } from "../ui/panel.tsx";
import { ThemeButton } from "../ui/theme.tsx";
import { Toolbar } from "../ui/toolbar.tsx";
import { Words } from "../ui/words.tsx";
import { largestFirst, rgbOf } from "./layers.ts";
import { ChooseButton, openFiles, Start } from "./start.tsx";
import { Workbench } from "./workbench.ts";

export function PhotoPage({ session }: { readonly session: Session }) {
  const { bench, tools, masks, selected } = useMemo(() => makePage(session), [session]);
  const dropping = useSignal(false);

  useEffect(() => {
    void bench.use(session.bundles[0]!, session.engine);
    return listenToKeys({
      ...actionsOf(bench, tools),
      undo: () => bench.undo(),
      redo: () => bench.redo(),
      next: () => void bench.keep(),
      everything: () => void bench.everything(),
    });
  }, [bench, tools, session]);

  useEffect(() => {
    const stop = new AbortController();
    const on = <K extends keyof DocumentEventMap>(kind: K, handle: (event: DocumentEventMap[K]) => void): void =>
      document.addEventListener(kind, handle, { signal: stop.signal });
    on("paste", (event) => {
      const files = event.clipboardData?.files;
      if (files !== undefined && files.length > 0) void openFiles(bench, files);
    });
    on("dragover", (event) => {
      event.preventDefault();
      dropping.value = true;
    });
    on("dragleave", (event) => {
      if (event.relatedTarget === null) dropping.value = false;
    });
    on("drop", (event) => {
      event.preventDefault();
      dropping.value = false;
      void openFiles(bench, event.dataTransfer?.files ?? []);
    });
    return () => stop.abort();
  }, [bench, dropping]);

  const picture = bench.picture.value;
  const line = bench.line.value;
  return (
    <div class={`app${dropping.value ? " dropping" : ""}`}>
      <header class="bar">
        <span class={`brand${picture === null ? "" : " with-photo"}`}>sam-edge</span>
        {picture !== null && (
          <>
            <h1 class="photo-name" title={picture.source.name}>
              {picture.source.name}
              <small>
                {picture.width} × {picture.height}
              </small>
            </h1>
            <ChooseButton bench={bench} label="Other photo" />
          </>
        )}
        <span class="space" />
        <Badge bench={bench} />
        <ThemeButton />
        <HelpButton />
      </header>
      <main class="work">
        <div class="field">
          {picture === null ? (
            <Start bench={bench} />
          ) : (
            <Stage bench={bench} tools={tools} masks={masks} selected={selected} />
          )}
          <Difference bench={bench} />
          <Waiting bench={bench} />
          <Problem bench={bench} />
        </div>
        {picture !== null && (
          <>
            <Toolbar
              bench={bench}
              tools={tools}
              undo={() => bench.undo()}
              redo={() => bench.redo()}
              canUndo={line.past.length > 0}
              canRedo={line.future.length > 0}
              next={() => void bench.keep()}
              nextLabel="Keep as a layer"
              everything={() => void bench.everything()}
            />
            <section class="panel" aria-label="Masks" tabIndex={0}>
              <Candidates bench={bench} keep={() => void bench.keep()} />
              <Words bench={bench} />
              <Layers bench={bench} />
              <Export bench={bench} />
            </section>
          </>
        )}
      </main>
      <div class="visually-hidden" aria-live="polite" data-testid="said">
        {bench.said.value}
      </div>
      <Help />
    </div>
  );
}

function makePage(session: Session) {
  const bench = new Workbench(session);
  const tools = new Tools();
  const masks = computed(() =>
    largestFirst(bench.doc.value.layers.filter(({ visible }) => visible)).map(({ mask, colour }) => ({
      mask,
      colour: rgbOf(colour),
    })),
  );
  const selected = computed(() => {
    const { layers, selected: id } = bench.doc.value;
    return layers.find((layer) => layer.id === id)?.mask ?? null;
  });
  return { bench, tools, masks, selected };
}
