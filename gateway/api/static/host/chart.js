// The show as it goes: the report's timeline, continued from what the room is told until the next report.

import { html, useComputed, useSignal } from "../ui/ui.js";
import { clockTime } from "../ui/format.js";
import { t } from "./figure-words.js";
import { Marks } from "./marks.js";
import { pastOf } from "./past.js";
import { Plot } from "./plot.js";
import { MOST_POINTS, pointsOf, pointsSince, wider } from "./timeline.js";

const SPANS_MS = { ten: 600_000, hour: 3_600_000, all: Infinity };
const DRAWN_EVERY_MS = 2_000, LAST_MARKS = 5;

export function Chart({ desk }) {
  const past = pastOf(desk), span = useSignal("all");
  const beat = useComputed(() => (desk.room.value?.state === "live" ? Math.floor(desk.second.value / DRAWN_EVERY_MS) : 0));
  const points = useComputed(() => {
    void beat.value;
    const isOpen = desk.room.value?.state === "live" && desk.link.value === "open";
    const all = pointsOf(desk.report.value, past.seconds, isOpen ? desk.now() : null);
    return wider(span.value === "all" || !all.at.length ? all : pointsSince(all, all.at.at(-1) - SPANS_MS[span.value]), MOST_POINTS);
  });
  const marks = useComputed(() => marksOf(desk.report.value));
  const length_ms = points.value.at.length ? Date.now() - Date.parse(desk.report.value.started_at) : 0;
  const isEmpty = desk.report.value === null || points.value.at.length < 2;
  const useful = Object.keys(SPANS_MS).filter((each) => each === "all" || length_ms > SPANS_MS[each]);
  return html`<section class="card panel chart" aria-label=${t("chart")}>
    <header><h2>${t("chart")}</h2>
      ${useful.length > 1 && html`<div class="row kinds" role="group" aria-label=${t("span")}>${useful.map((each) =>
        html`<button key=${each} type="button"
        class="button small"
        aria-pressed=${span.value === each ? "true" : "false"}
          onClick=${() => { span.value = each; }}>${t(`span_${each}`)}</button>`)}</div>`}</header>
    ${isEmpty ? html`<p class="soft chart-empty">${t(desk.room.value?.state === "scheduled" ? "chartEarly" : "chartComing")}</p>`
      : html`<${Plot} points=${points} marks=${marks}
        label=${t("chartOf", { from: clockTime(points.value.at[0]), to: clockTime(points.value.at.at(-1)) })} />`}
    <${Marks} marks=${marks.value.slice(-LAST_MARKS).reverse()} title=${t("lastMarks")} desk=${desk} />
  </section>`;
}

export const marksOf = (report) => (report?.marks ?? []).map(({ at, kind, label = "" }) => ({ at_ms: Date.parse(at), kind, label }));
