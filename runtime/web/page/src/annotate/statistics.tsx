/** Figures of the annotation session. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { lineOf } from "../errors.ts";
import { statistics, type Statistics, type Summary } from "./api.ts";

export function StatisticsPage() {
  const figures = useSignal<Statistics | null>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    document.title = "Statistics, sam-edge";
    statistics().then(
      (loaded) => (figures.value = loaded),
      (error: unknown) => (problem.value = lineOf(error)),
    );
    return () => (document.title = "sam-edge");
  }, [figures, problem]);
  return (
    <main class="statistics">
      <p>
        <a class="text-button" href="#">
          Back to the photos
        </a>
      </p>
      <h1>Statistics</h1>
      {problem.value !== null && <p role="alert">{problem.value}</p>}
      {figures.value !== null && <Figures figures={figures.value} />}
    </main>
  );
}

function Figures({ figures }: { readonly figures: Statistics }) {
  const { photos, masks, by_size, relative_size } = figures;
  const edges = relative_size.edges;
  return (
    <>
      <div class="figures">
        <Figure value={`${photos.done} of ${photos.total}`} what="photos done" more={`${photos.started} begun`} />
        <Figure value={String(masks.total)} what="masks" more={`${masks.person} by people, ${masks.named} named`} />
        <Figure value={seconds(figures.seconds_a_mask)} what="a mask" more={median(figures.seconds_a_mask, " s")} />
        <Figure value={seconds(figures.seconds_a_photo)} what="a photo" more={median(figures.seconds_a_photo, " s")} />
        <Figure
          value={number(figures.masks_a_photo.mean)}
          what="masks a photo"
          more={median(figures.masks_a_photo, "")}
        />
      </div>
      <div class="charts">
        <Chart
          title="Masks by size"
          rows={[
            ["small, below 32²", by_size.small],
            ["medium, to 96²", by_size.medium],
            ["large", by_size.large],
          ]}
        />
        <Chart
          title="Size relative to the photo"
          rows={relative_size.counts.map((count, i) => [
            `${edges[i]!.toFixed(1)} – ${edges[i + 1]!.toFixed(1)}`,
            count,
          ])}
        />
        {figures.annotators.length > 0 && (
          <Chart
            title="By annotator"
            rows={figures.annotators.map(({ annotator, masks: count, seconds_a_mask }) => [
              `${annotator}${seconds_a_mask === null ? "" : `, ${seconds_a_mask.toFixed(1)} s`}`,
              count,
            ])}
          />
        )}
        {figures.names.length > 0 && (
          <Chart title="By name" rows={figures.names.slice(0, 20).map(({ name, masks: count }) => [name, count])} />
        )}
      </div>
    </>
  );
}

function number(value: number | null): string {
  return value === null ? "–" : value.toFixed(1);
}

function seconds(summary: Summary): string {
  return summary.mean === null ? "–" : `${summary.mean.toFixed(1)} s`;
}

function median(summary: Summary, unit: string): string {
  return summary.median === null ? "none yet" : `median ${summary.median.toFixed(1)}${unit}`;
}

interface FigureProps {
  readonly value: string;
  readonly what: string;
  readonly more: string;
}

function Figure({ value, what, more }: FigureProps) {
  return (
    <div class="figure">
      <strong>{value}</strong> {what}
      <div class="hint">{more}</div>
    </div>
  );
}

interface ChartProps {
  readonly title: string;
  readonly rows: readonly (readonly [string, number])[];
}

/** Bars in a table: screen readers read the numbers. */
function Chart({ title, rows }: ChartProps) {
  const most = Math.max(1, ...rows.map(([, count]) => count));
  return (
    <section class="chart">
      <h2>{title}</h2>
      <table>
        <tbody>
          {rows.map(([name, count], i) => (
            <tr key={i}>
              <th scope="row" title={name}>
                {name}
              </th>
              <td>
                <svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
                  <rect width={(100 * count) / most} height="12" rx="2" />
                </svg>
              </td>
              <td>{count}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
