/** The annotation tool: photos in a queue, masks saved one by one. */

import { computed, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { largestFirst, rgbOf } from "../photo/layers.ts";
import { Workbench } from "../photo/workbench.ts";
import type { Session } from "../session.ts";
import { read, write } from "../stored.ts";
import { actionsOf } from "../stage/actions.ts";
import { KEYS, listenToKeys } from "../stage/keys.ts";
import { focusLost, Stage } from "../stage/stage.tsx";
import { Tools } from "../stage/tools.ts";
import { Badge } from "../ui/badge.tsx";
import { Help, HelpButton } from "../ui/help.tsx";
import { Icon, IconButton } from "../ui/icons.tsx";
import { Candidates, Problem, Waiting } from "../ui/panel.tsx";
import { ThemeButton } from "../ui/theme.tsx";
import { Toolbar } from "../ui/toolbar.tsx";
import { Annotator } from "./annotator.ts";
import { clockText } from "./clock.ts";
import { Masks, Names } from "./masks.tsx";
import { Queue } from "./queue.tsx";
import { StatisticsPage } from "./statistics.tsx";

const STORED = "sam-edge-annotator";
const STATISTICS = "#statistics";
const NAMES_LIST = "names";

const OWN_KEYS = [
  ["N", "save the mask, begin the next"],
  ["Shift+N", "photo done, go on to the next"],
] as const;
const HELP = [...OWN_KEYS, ...KEYS.filter(([keys]) => keys !== "N" && keys !== "E")];

export function AnnotatePage({ session }: { readonly session: Session }) {
  const { bench, tools, annotator, masks, selected, pick } = useMemo(() => makePage(session), [session]);
  const view = useSignal(location.hash);
  const listing = useSignal(false);

  useEffect(() => {
    void bench.use(session.bundles[0]!, session.engine);
    const follow = (): void => {
      view.value = location.hash;
    };
    addEventListener("hashchange", follow);
    const stop = annotator.begin();
    const stopKeys = listenToKeys({
      ...actionsOf(bench, tools),
      undo: () => annotator.undo(),
      redo: () => annotator.redo(),
      next: () => void annotator.save(),
      nextPhoto: () => void annotator.done(),
      everything: () => undefined,
    });
    return () => {
      removeEventListener("hashchange", follow);
      stop();
      stopKeys();
    };
  }, [annotator, bench, session, tools, view]);

  if (view.value === STATISTICS) return <StatisticsPage />;
  const photo = annotator.photo.value;
  const picture = bench.picture.value;
  const total = session.annotate?.photos ?? 0;
  const left = annotator.left.value;
  return (
    <div class="app">
      <header class="bar">
        <span class={`brand${photo === null ? "" : " with-photo"}`}>sam-edge</span>
        {photo !== null && (
          <>
            <h1 class="photo-name" title={photo.file_name}>
              {photo.file_name}
            </h1>
            <span class="position count">
              {photo.number + 1} of {total}
              <span class="wide-only">{left === null ? "" : `, ${total - left} done`}</span>
            </span>
            <span class="clock" title="Seconds on this mask and on this photo" aria-hidden="true">
              <span
                class={annotator.maskSeconds.value > (session.annotate?.maskSeconds ?? Infinity) ? "clock late" : ""}
              >
                {clockText(annotator.maskSeconds.value)}
              </span>
              <span class="count"> / {clockText(annotator.photoSeconds.value)}</span>
            </span>
          </>
        )}
        <span class="space" />
        <Badge bench={bench} />
        {annotator.name.value !== "" && <IconButton icon="list" label="Queue" onClick={() => (listing.value = true)} />}
        <a class="icon-button" href={STATISTICS} aria-label="Statistics" title="Statistics">
          <Icon name="chart" />
        </a>
        <span class={photo === null ? "" : "wide-only"}>
          <ThemeButton />
          <HelpButton />
        </span>
      </header>
      <main class="work">
        <div class="field">
          {photo === null || picture === null ? (
            <Threshold annotator={annotator} />
          ) : (
            <Stage bench={bench} tools={tools} masks={masks} selected={selected} />
          )}
          <Waiting bench={bench} />
          {annotator.offer.value && bench.problem.value === null && <Offer annotator={annotator} />}
          <Problem bench={bench} />
        </div>
        {photo !== null && picture !== null && (
          <>
            <Toolbar
              bench={bench}
              tools={tools}
              undo={() => annotator.undo()}
              redo={() => annotator.redo()}
              canUndo={annotator.canUndo}
              canRedo={annotator.canRedo}
              next={() => void annotator.save()}
              nextLabel="Save the mask"
              everything={null}
            />
            <section class="panel" aria-label="Masks" tabIndex={0}>
              <MaskInHand annotator={annotator} />
              <Candidates bench={bench} keep={null} />
              <Masks annotator={annotator} selected={pick} list={NAMES_LIST} />
            </section>
          </>
        )}
      </main>
      <Names annotator={annotator} id={NAMES_LIST} />
      <Queue annotator={annotator} open={listing} />
      <div class="visually-hidden" aria-live="polite" data-testid="said">
        {bench.said.value}
      </div>
      <Help keys={HELP} />
    </div>
  );
}

function makePage(session: Session) {
  const bench = new Workbench(session);
  const tools = new Tools();
  const annotator = new Annotator(bench, session.annotate!);
  const pick = annotator.picked;
  const masks = computed(() =>
    largestFirst(annotator.masks.value.map(({ runs, colour }) => ({ mask: runs, colour: rgbOf(colour) }))),
  );
  const selected = computed(() => annotator.masks.value.find(({ mask }) => mask === pick.value)?.runs ?? null);
  return { bench, tools, annotator, masks, selected, pick };
}

function MaskInHand({ annotator }: { readonly annotator: Annotator }) {
  const { bench } = annotator;
  const has = bench.current.value !== null;
  return (
    <section class="card in-hand" aria-label="Mask in hand">
      <p class="hint">
        {annotator.session.existing
          ? "The grey masks are there already. Add the things that they miss."
          : "Begin with what stands out most, then the smaller things."}
      </p>
      <label>
        <span class="visually-hidden">Name of the mask, if you like</span>
        <input
          type="text"
          class="field-input"
          list={NAMES_LIST}
          placeholder="Name, if you like"
          maxLength={200}
          autocomplete="off"
          value={annotator.maskName.value}
          onInput={(event) => (annotator.maskName.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") void annotator.save();
            if (event.key === "Enter" || event.key === "Escape") event.currentTarget.blur();
          }}
        />
      </label>
      <div class="actions">
        <button
          type="button"
          class="plain"
          disabled={!has || annotator.saving.value}
          onClick={() => void annotator.save()}
        >
          Save mask
        </button>
        <button type="button" class="plain" onClick={() => void annotator.next()} title="Leave this photo for later">
          Later
        </button>
        <button type="button" class="primary-button small wide" onClick={() => void annotator.done()}>
          Photo done, next
        </button>
      </div>
    </section>
  );
}

function Offer({ annotator }: { readonly annotator: Annotator }) {
  return (
    <div class="offer" role="status">
      <span>This mask takes more than {annotator.session.maskSeconds} seconds.</span>
      <button type="button" class="plain" onClick={() => annotator.decline()}>
        Go on with it
      </button>
      <button type="button" class="primary-button small" onClick={() => void annotator.moveOn()}>
        Next photo
      </button>
    </div>
  );
}

/** Before the first photo, and behind the last. */
function Threshold({ annotator }: { readonly annotator: Annotator }) {
  const typed = useSignal(read(STORED) ?? "");
  if (annotator.finished.value !== null) {
    return (
      <div class="start">
        <h1 tabIndex={-1} ref={focusLost}>
          {annotator.finished.value === "done" ? "All photos are done" : "Others have the rest"}
        </h1>
        <p>
          {annotator.finished.value === "done"
            ? "Thank you. The masks are saved."
            : "Every photo that is left is in somebody's hands. Look again later."}
        </p>
        <div class="samples">
          <button type="button" class="plain" onClick={() => void annotator.next()}>
            Look again
          </button>
          <a class="plain" href={STATISTICS}>
            Statistics
          </a>
        </div>
      </div>
    );
  }
  if (annotator.name.value !== "") return null;
  const begin = (): void => {
    const name = typed.value.trim();
    if (name === "") return;
    write(STORED, name);
    annotator.name.value = name;
    void annotator.next();
  };
  return (
    <div class="start">
      <h1>Masks for your photos</h1>
      <p>
        {annotator.session.photos} {annotator.session.photos === 1 ? "photo waits" : "photos wait"}. Photos and masks
        stay on the machine that runs sam-edge.
      </p>
      <div class="welcome">
        <label>
          <span class="visually-hidden">Your name</span>
          <input
            type="text"
            class="field-input"
            placeholder="Your name"
            maxLength={60}
            autocomplete="nickname"
            value={typed.value}
            onInput={(event) => (typed.value = event.currentTarget.value)}
            onKeyDown={(event) => event.key === "Enter" && begin()}
          />
        </label>
        <button type="button" class="primary-button" disabled={typed.value.trim() === ""} onClick={begin}>
          Begin
        </button>
      </div>
    </div>
  );
}
