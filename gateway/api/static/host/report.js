// The report of the show, after it or so far: from being told of it to having paid, by item, coupon and source; and as files.

import { html, useComputed, useEffect, Button, Icon, toast } from "../ui/ui.js";
import { clockTime, count, dayTime, duration, money, percent } from "../ui/format.js";
import { marksOf } from "./chart.js";
import { explain } from "./errors.js";
import { t } from "./figure-words.js";
import { Marks } from "./marks.js";
import { Plot } from "./plot.js";
import { MOST_POINTS, pointsOf, wider } from "./timeline.js";

const PARTS = ["skus", "figures", "timeline", "marks", "coupons", "sources"];
const PERSONS = new Set(["bookings", "viewers", "shop_viewers", "ordering_viewers"]);

export function Report({ desk }) {
  useEffect(() => { void desk.refreshReport(); }, [desk.room.value?.room]);
  const points = useComputed(() => wider(pointsOf(desk.report.value), MOST_POINTS)), marks = useComputed(() => marksOf(desk.report.value));
  const report = desk.report.value;
  if (!report) return html`<section class="card panel"><p class="soft" aria-busy="true">${t("reportComing")}</p></section>`;
  const { figures, currency } = report;
  return html`<section class="card panel stack report" aria-label=${t("report")}>
    <header><h2>${t("report")}</h2>
      <span class=${`badge ${report.final ? "good" : ""}`}>${t(report.final ? "final" : "soFar")}</span></header>
    <p class="soft small">${lengthOf(report)} · ${t("asOf", { at: clockTime(report.at, { seconds: true }) })}</p>
    <${Funnel} steps=${report.funnel} />
    ${report.final && points.value.at.length > 1 && html`<div class="stack tight"><h3>${t("timeline")}</h3>
      <${Plot} points=${points} marks=${marks}
        label=${t("chartOf", { from: clockTime(report.started_at),
        to: clockTime(report.ended_at ?? report.at) })} /></div>`}
    ${report.orders_outside > 0 && html`<p class="soft small">${t("outside", { n: count(report.orders_outside) })}</p>`}
    <${Lines} title=${t("items")} rows=${report.skus} columns=${ITEM_COLUMNS} />
    <${Lines} title=${t("coupons")} rows=${report.coupons} columns=${COUPON_COLUMNS} />
    <${Lines} title=${t("sources")} rows=${report.sources} columns=${SOURCE_COLUMNS} />
    <details class="part"><summary><h3>${t("allFigures")}</h3></summary><dl class="facts">
      ${Object.entries(figures).map(([name, value]) =>
        html`<div key=${name}><dt>${t(`f_${name}`)}</dt>
        <dd class="number">${shownFigure(name, value, currency)}</dd></div>`)}</dl></details>
    <details class="part"><summary><h3>${t("marks")}</h3><span class="badge">${count(report.marks.length)}</span></summary>
      <${Marks} marks=${marks.value} desk=${desk} />
        ${report.marks_are_more && html`<p class="soft small">${t("marksAreMore")}</p>`}</details>
    <${Downloads} desk=${desk} report=${report} />
  </section>`;
}

function lengthOf({ started_at, ended_at, at }) {
  if (!started_at) return t("notStarted");
  const until = ended_at ?? at, length_ms = Date.parse(until) - Date.parse(started_at);
  return t("length", { from: dayTime(started_at), to: length_ms < 43_200_000 ? clockTime(until) : dayTime(until),
    length: duration(length_ms) });
}

/** Persons, then orders; each bar is of the largest of its own kind, as a person may order twice. */
function Funnel({ steps }) {
  const most = (isOfPersons) => Math.max(1, ...steps.filter(({ step }) => PERSONS.has(step) === isOfPersons).map((each) => each.count));
  return html`<div class="stack tight"><h3>${t("funnel")}</h3><ol class="funnel">${steps.map(({ step, count: n }, at) => {
    const isOfPersons = PERSONS.has(step), before = steps[at - 1];
    const share = before && before.count > 0 && PERSONS.has(before.step) === isOfPersons && before.step !== "bookings"
      ? percent(n / before.count) : null;
    return html`<li key=${step}><span class="funnel-name">${t(`step_${step}`)}</span>
      <span class="meter" aria-hidden="true"><span class=${isOfPersons ? "meter-taken" : "meter-used"}
        style=${{ width: `${(100 * n) / most(isOfPersons)}%` }}></span></span>
      <span class="funnel-count"><b class="number">${count(n)}</b>
        ${" "}<span class="soft small">${t(isOfPersons ? "persons" : "orders")}
        ${share && ` · ${t("ofBefore", { share })}`}</span></span></li>`;
  })}</ol></div>`;
}

const shownFigure = (name, value, currency) => (name.endsWith("_minor") ? money(value, currency)
  : name.endsWith("_avg_s") ? duration(value * 1000)
    : /_rate$|_share$|_per_(entry|shop_viewer|visit)$/.test(name) ? percent(value) : count(value));

const ITEM_COLUMNS = [
  ["item", ({ title, sku }) => html`${title}<br /><span class="soft small">${sku}</span>`, true],
  ["stock", (row) => count(row.stock)],
    ["placed", (row) => withUnits(row.orders_placed, row.units_placed)],
    ["paid", (row) => withUnits(row.orders_paid, row.units_paid)],
  ["expired", (row) => count(row.orders_expired)],
    ["gmv", (row) => money(row.gmv_paid_minor, row.currency)],
    ["discount", (row) => money(row.discount_paid_minor, row.currency)],
];
const COUPON_COLUMNS = [
  ["coupon", ({ title }) => title, true], ["copies", (row) => count(row.copies)], ["claimed", (row) => withShare(row.claimed, row.copies)],
  ["redeemed", (row) => withShare(row.redeemed, row.claimed)], ["discount", (row) => money(row.discount_minor, row.currency)],
];
const SOURCE_COLUMNS = [
  ["source", ({ source }) => source || t("noSource"), true],
    ["placed", (row) => count(row.orders_placed)], ["paid", (row) => count(row.orders_paid)],
    ["gmv", (row) => money(row.gmv_paid_minor, row.currency)],
];
const withUnits = (orders, units) => html`${count(orders)}<br /><span class="soft small">${t("units", { n: count(units) })}</span>`;
const withShare = (n, of) => html`${count(n)}<br /><span class="soft small">${of ? percent(n / of) : "–"}</span>`;

function Lines({ title, rows, columns }) {
  return html`<div class="stack tight"><h3>${title}</h3>${rows.length === 0 ? html`<p class="soft">${t("none")}</p>`
    : html`<div class="table-scroll" tabindex="0" role="region" aria-label=${title}><table class="table"><thead><tr>
      ${columns.map(([name, , isText]) => html`<th key=${name} scope="col" class=${isText ? "" : "right"}>${t(name)}</th>`)}</tr></thead>
      <tbody>${rows.map((row, at) => html`<tr key=${at}>${columns.map(([name, shown, isText]) =>
        (isText ? html`<th key=${name} scope="row" class="line-name">${shown(row)}</th>`
        : html`<td key=${name} class="right">${shown(row)}</td>`))}</tr>`)}</tbody></table></div>`}</div>`;
}

/** Files need the token, which an address must not carry: so they are fetched, and given to the browser as its own. */
function Downloads({ desk, report }) {
  const room = encodeURIComponent(report.room);
  const save = async (path, name) => {
    try {
      const link = document.createElement("a"), address = URL.createObjectURL(await desk.http.blob(path));
      Object.assign(link, { href: address, download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (error) { toast(explain(error), "bad"); }
  };
  const file = (key, text, path, name) => html`<${Button} key=${key} does=${() => save(path, name)}>
    <${Icon} name="download" size=${16} /> ${text}<//>`;
  return html`<div class="stack tight"><h3>${t("downloads")}</h3><div class="row">
    ${PARTS.map((part) => file(part, t(`part_${part}`), `/v1/rooms/${room}/report.csv?part=${part}`, `report-${report.room}-${part}.csv`))}
    ${desk.sales.value.map(({ sale, title }) => file(sale, t("ordersOf", { title }),
      `/v1/sales/${encodeURIComponent(sale)}/orders.csv`, `orders-${sale}.csv`))}
  </div></div>`;
}
