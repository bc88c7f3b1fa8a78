// The key figures of the show, each with how it has gone and with what it is made of.

import { html, useComputed, useSignal, Icon } from "../ui/ui.js";
import { clockTime, compact, count, duration, money, percent } from "../ui/format.js";
import { t } from "./figure-words.js";
import { perMinute } from "./timeline.js";
import { TRENDED, trendsOf, wayOf } from "./trend.js";

export function Figures({ desk }) {
  const shown = useSignal(null);
  const isLive = desk.room.value?.state === "live";
  const trends = useComputed(() => trendsOf(desk.trend.value));
  const figures = desk.figures.value;
  if (!figures) return html`<section class="card panel" aria-label=${t("figures")}>
    <p class="soft" aria-busy="true">${t("figuresComing")}</p></section>`;
  const open = shown.value, viewers = isLive ? desk.viewers.value : null, currency = desk.trend.value?.currency;
  const isOld = isLive && desk.link.value !== "open";
  return html`<section class="panel figures" aria-label=${t("figures")}>
    ${isOld && html`<p class="note warn small">${t("figuresOld", { time: clockTime(figures.at_ms, { seconds: true }) })}</p>`}
    <ul class="figure-strip">${figuresOf(figures, viewers, desk.report.value).map((each) => html`<${Figure}
      key=${each.name} ...${each} trend=${trends.value.get(each.name)} currency=${currency} isOpen=${open === each.name}
      onOpen=${() => { shown.value = open === each.name ? null : each.name; }} />`)}</ul>
    ${open && html`<${About} name=${open} figures=${figures} trend=${trends.value.get(open)} currency=${currency}
      isLive=${isLive} />`}
    ${figures.other_currencies?.length > 0 && html`<p class="soft small">
      ${t("otherCurrencies", { list: others(figures.other_currencies) })}</p>`}
  </section>`;
}

const others = (all) => all.map((each) => `${money(each.gmv_paid_minor, each.currency)} (${count(each.orders_paid)})`).join(", ");

/** Which error stands behind which figure; the others are the ledger's own. */
const ERRORS = {
  viewers_now: "now", comments: "report", watch_avg_s: "watch",
  orders_per_entry: "visits", ordering_viewers_per_shop_viewer: "visits", orders_per_visit: "visits",
};

/** What a figure is, how far it may be off, and how it has gone. */
function About({ name, figures, trend, currency, isLive }) {
  const { visits_lag_s: visits, watch_lag_s: watch, cut_sockets, missed_visits } = figures.error;
  const facts = { visits, watch, cut: count(cut_sockets), missed: count(missed_visits) };
  return html`<div class="note figure-about" role="status"><p><b>${t(`figure_${name}`)}</b>: ${t(`is_${name}`)}</p>
    <p class="small">${t(`error_${ERRORS[name] ?? "exact"}`, facts)}</p>
    ${isLive && html`<p class="small">${trend ? said(name, trend, currency) : t(TRENDED.has(name) ? "noTrend" : "neverTrend")}</p>`}
  </div>`;
}

function figuresOf(figures, viewers, report) {
  const { currency } = figures;
  const each = (name, value, beside) => ({ name, value, beside });
  return [
    each("viewers_now", count(viewers ?? figures.viewers_now ?? 0), t("peakOf", { n: count(figures.viewers_peak ?? 0) })),
    each("comments", count(perMinute(report, "comments_per_s")), t("inAll", { n: compact(figures.comments) })),
    each("orders_placed", count(figures.orders_placed), t("perMinute", { n: count(perMinute(report, "orders_per_s")) })),
    each("orders_paid", count(figures.orders_paid), t("expiredOf", { n: count(figures.orders_expired) })),
    each("gmv_placed_minor", money(figures.gmv_placed_minor, currency)),
    each("gmv_paid_minor", money(figures.gmv_paid_minor, currency),
      figures.order_value_avg_minor !== undefined && t("averageOf", { amount: money(figures.order_value_avg_minor, currency) })),
    each("payment_rate", percent(figures.payment_rate)),
    each("orders_per_entry", percent(figures.orders_per_entry), t("entriesOf", { n: compact(figures.shop_entries) })),
    each("ordering_viewers_per_shop_viewer", percent(figures.ordering_viewers_per_shop_viewer),
      t("shopViewersOf", { n: compact(figures.shop_viewers) })),
    each("orders_per_visit", percent(figures.orders_per_visit), t("visitsOf", { n: compact(figures.visits) })),
    each("watch_avg_s", figures.watch_avg_s === undefined ? "–" : duration(figures.watch_avg_s * 1000),
      t("viewersOf", { n: compact(figures.viewers) })),
    each("new_customer_share", percent(figures.new_customer_share)),
  ];
}

function Figure({ name, value, beside, trend, currency, isOpen, onOpen }) {
  return html`<li class=${`figure ${trend?.isWorst ? "worst" : ""}`}>
    <button type="button" class="figure-name" aria-expanded=${isOpen ? "true" : "false"} title=${t(`is_${name}`)}
      onClick=${onOpen}>${t(`figure_${name}`)}</button>
    <p class="figure-value number">${value}
      ${trend?.isWorst && html`<span class="badge bad figure-worst"><${Icon} name="warn" size=${12} /> ${t("worst")}</span>`}</p>
    <p class="figure-more small"><${Trend} name=${name} trend=${trend} currency=${currency} />
      ${beside && html`<span class="soft number">${beside}</span>`}</p>
  </li>`;
}

const ARROWS = { up: "▲", down: "▼", steady: "▬" };

/** An arrow where both ten minutes are whole; else what the last ones were. */
function Trend({ name, trend, currency }) {
  if (!trend) return null;
  const way = trend.isWhole ? wayOf(trend) : "", looks = { up: "good", down: "bad" }[way] ?? "";
  const change = trend.change === null ? t("fromNothing") : percent(Math.abs(trend.change));
  return html`<span class=${`trend ${looks}`} title=${said(name, trend, currency)}>
    <span aria-hidden="true">${way ? `${ARROWS[way]} ${change}` : t("inTen", { n: shownAs(name, currency)(trend.last) })}</span>
    <span class="visually-hidden">${said(name, trend, currency)}</span></span>`;
}

const shownAs = (name, currency) => (name.endsWith("_minor") ? (n) => money(n, currency)
  : /rate|_per_/.test(name) ? percent : (n) => count(Math.round(n)));

/** The trend as a sentence: what was, what is. */
function said(name, { last, before, isWhole }, currency) {
  const shown = shownAs(name, currency), facts = { last: shown(last), before: isWhole ? shown(before) : "" };
  return t(!isWhole ? "trendSoFar" : name === "viewers_now" ? "trendOfMean" : "trendIs", facts);
}
