/** Which engine computes and how long it takes; behind it the choice of bundle, place and comparison. */

import { useEffect, useRef } from "preact/hooks";
import type { Station } from "../photo/station.ts";
import type { Workbench } from "../photo/workbench.ts";
import type { Place, Session, SessionBundle } from "../session.ts";

/** "WASM, 2 threads". */
export function engineText(station: Station): string {
  const { engine, threads } = station.info.value;
  return threads === null ? engine : `${engine}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

function ms(value: number | null): string {
  return value === null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function Badge({ bench }: { readonly bench: Workbench }) {
  const details = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event): void => {
      const open = details.current;
      if (open?.open && event.target instanceof Node && !open.contains(event.target)) open.open = false;
    };
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, []);
  const station = bench.station.value;
  if (station === null) return null;
  const { session } = bench;
  const place = station.info.value.place;
  const times = [station.encodeMs.value, station.clickMs.value];
  const isTimed = times.some((each) => each !== null);
  return (
    <details
      ref={details}
      class={`badge${isTimed ? " timed" : ""}`}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !details.current?.open) return;
        details.current.open = false;
        event.stopPropagation();
        details.current.querySelector("summary")?.focus();
      }}
    >
      <summary data-testid="badge">
        <span class="badge-bundle">{station.bundle.title}</span>
        <span class="badge-engine">{engineText(station)}</span>
        {isTimed && (
          <span class="badge-time" title="Encoder and click">
            {times.map(ms).join(" · ")}
          </span>
        )}
      </summary>
      <div class="popover">
        <dl>
          <dt>Engine</dt>
          <dd>
            {engineText(station)}, in {place === "browser" ? "this browser" : "the server"}
          </dd>
          <dt>Encoder</dt>
          <dd>{ms(station.encodeMs.value)}</dd>
          <dt>Click</dt>
          <dd>{ms(station.clickMs.value)}</dd>
          <dt>Bundle</dt>
          <dd>
            {station.bundle.variant}, {station.bundle.target}, {station.bundle.precision},{" "}
            {(station.bundle.bytes / 1e6).toFixed(1)} MB
          </dd>
        </dl>
        {station.info.value.note !== null && <p class="hint">{station.info.value.note}</p>}
        {station.bundle.randomWeights && (
          <p class="hint warn">This bundle has random weights: its masks mean nothing.</p>
        )}
        <label>
          Bundle
          <select
            value={station.bundle.name}
            onChange={(event) => {
              const bundle = session.bundles.find(({ name }) => name === event.currentTarget.value);
              if (bundle !== undefined) void bench.use(bundle, place);
            }}
          >
            {session.bundles.map((bundle) => (
              <option key={bundle.name} value={bundle.name}>
                {bundle.title}
              </option>
            ))}
          </select>
        </label>
        {session.server && (
          <label>
            Compute in
            <select
              value={place}
              onChange={(event) => void bench.use(station.bundle, event.currentTarget.value as Place)}
            >
              {(["browser", "server"] as const).map((each) => (
                <option key={each} value={each} disabled={!station.bundle.engines.includes(each)}>
                  {each === "browser" ? "this browser" : "the server"}
                </option>
              ))}
            </select>
          </label>
        )}
        {session.bundles.length > 1 && session.mode === "photo" && (
          <Compare bench={bench} session={session} own={station.bundle} />
        )}
      </div>
    </details>
  );
}

interface CompareProps {
  readonly bench: Workbench;
  readonly session: Session;
  readonly own: SessionBundle;
}

function Compare({ bench, session, own }: CompareProps) {
  return (
    <label>
      Compare with
      <select
        value={bench.rival.value?.bundle.name ?? ""}
        onChange={(event) => {
          const name = event.currentTarget.value;
          void bench.compare(session.bundles.find((bundle) => bundle.name === name) ?? null);
        }}
      >
        <option value="">nothing</option>
        {session.bundles
          .filter((bundle) => bundle.name !== own.name)
          .map((bundle) => (
            <option key={bundle.name} value={bundle.name}>
              {bundle.title}
            </option>
          ))}
      </select>
    </label>
  );
}
