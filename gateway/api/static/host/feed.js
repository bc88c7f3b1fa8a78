// The orders of the room's sales as they come and change, newest first; each unfolds to all that is known of it.

import { html, useComputed, useSignal, Button } from "../ui/ui.js";
import { clockTime, countdown, count, money } from "../ui/format.js";
import { explain } from "./errors.js";
import { useHolding } from "./holding.js";
import { shortViewer } from "./people.js";
import { t } from "./talk-words.js";

const SOON_MS = 60_000, SOON_SHARE = 1 / 3; // an unpaid order is marked in its last minute, or its last third if that is less
const KINDS = { all: null, unpaid: ["reserved", "confirmed"], paid: ["paid"], owed: ["refund_due"] };
const LOOKS = { paid: "good", refund_due: "warn", expired: "", cancelled: "", refused: "bad" };

export function Feed({ desk }) {
  const kind = useSignal("all");
  const { shown, held, newOnes, hovered } = useHolding(desk.feed, ({ order }) => order);
  const orders = useComputed(() => (KINDS[kind.value] ? shown.value.filter(({ status }) => KINDS[kind.value].includes(status))
    : shown.value));
  const facts = useComputed(() => factsOf(desk.sales.value));
  // Most seconds change nothing that is drawn.
  const soon = useComputed(() => orders.value.filter((order) => isDueSoon(payBy(order, facts.value), order, desk.second.value)).length);
  return html`<section class="card panel feed" aria-label=${t("feed")}>
    <header><h2>${t("feed")}</h2>${held.value && newOnes.value > 0
      ? html`<span class="badge">${t("newOrders", { n: count(newOnes.value) })}</span>`
      : soon.value > 0 && html`<span class="badge warn">${t("dueSoon", { n: count(soon.value) })}</span>`}</header>
    <div class="row kinds" role="group" aria-label=${t("feedKinds")}>${Object.keys(KINDS).map((each) =>
      html`<button key=${each} type="button" class="button small" aria-pressed=${kind.value === each ? "true" : "false"}
        onClick=${() => { kind.value = each; }}>${t(`feed_${each}`)}</button>`)}</div>
    <ul class="feed-list" tabindex="0" aria-label=${t("feed")} ...${hovered}>
      ${orders.value.map((order) => html`<${FedOrder} key=${order.order} desk=${desk} order=${order}
        title=${titleOf(order, facts.value)} by=${payBy(order, facts.value)} />`)}</ul>
    ${orders.value.length === 0 && html`<p class="soft">${t(emptyWord(desk, kind.value))}</p>`}
    ${desk.feedMissed.value > 0 && html`<p class="soft small">${t("feedMissed", { n: count(desk.feedMissed.value) })}</p>`}
  </section>`;
}

/** The socket of a show that is over has ended, and with it the feed. */
const emptyWord = (desk, kind) => (kind !== "all" ? "noOrdersOfKind" : desk.room.value?.state === "ended" ? "noOrdersOver" : "noOrders");

/** By sale what the feed does not say: titles, and how long one has to pay. */
const factsOf = (sales) => new Map(sales.map((sale) => [sale.sale,
  { within_ms: sale.pay_within_s * 1000, titles: new Map(sale.items.map(({ sku, title }) => [sku, title])) }]));

const titleOf = ({ sale, sku }, facts) => facts.get(sale)?.titles.get(sku) ?? sku;

/** The deadline to within the moment between the order and its confirmation, which is what it counts from. */
const payBy = (order, facts) => order.created_at_ms + (facts.get(order.sale)?.within_ms ?? Infinity);
const isDueSoon = (by, order, now) => order.status === "confirmed" && by > now &&
  by - now < Math.min(SOON_MS, (by - order.created_at_ms) * SOON_SHARE);

function FedOrder({ desk, order, title, by }) {
  const isOpen = useSignal(false);
  return html`<li class="fed"><details onToggle=${(event) => { isOpen.value = event.currentTarget.open; }}>
    <summary title=${order.sub}>
      <span class="fed-what"><span class="strong">${title}</span>
        ${order.quantity > 1 && html` <span class="soft">× ${count(order.quantity)}</span>`}
        <br /><span class="soft small"><time class="number">${clockTime(order.created_at_ms, { seconds: true })}</time>
          ${" "}· ${shortViewer(order.viewer)}</span></span>
      <span class="fed-money"><span class="strong number">${money(order.amount_minor, order.currency)}</span><br />
        <${Status} desk=${desk} order=${order} by=${by} /></span>
    </summary>
    ${isOpen.value && html`<${Details} desk=${desk} order=${order} />`}
  </details></li>`;
}

/** The state in words; of an order about to expire how long it has. */
function Status({ desk, order, by }) {
  const left = useComputed(() => (isDueSoon(by, order, desk.second.value) ? by - desk.second.value : null)).value;
  return left === null || order.status !== "confirmed"
    ? html`<span class=${`badge ${LOOKS[order.status] ?? ""}`}>${t(`status_${order.status}`)}</span>`
    : html`<span class="badge warn number">${t("dueIn", { left: countdown(left) })}</span>`;
}

function Details({ desk, order }) {
  const answer = useSignal(null), asked = useSignal(null);
  // As it was when it was unfolded, and again when its state changes.
  if (asked.value !== order) {
    asked.value = order;
    desk.http.get(`/v1/orders/${encodeURIComponent(order.order)}`).then((found) => { answer.value = found; },
      (error) => { answer.value = { error }; });
  }
  const found = answer.value ?? {}, { pickup } = found;
  const facts = [
    ["order", order.order], ["viewer", order.viewer], ["sub", order.sub], ["sku", order.sku],
    ["reason", order.reason && (t(`reason_${order.reason}`) === `reason_${order.reason}` ? order.reason : t(`reason_${order.reason}`))],
    ["payBy", order.status === "confirmed" && found.pay_by && clockTime(found.pay_by, { seconds: true })],
    ["discount", found.discount_minor > 0 && money(found.discount_minor, order.currency)],
    ["source", found.source], ["guide", found.guide],
      ["firstOrder", found.first_order !== undefined && t(found.first_order ? "yes" : "no")],
    ["pickup", pickup && [pickup.place,
      pickup.redeemed_at && t("redeemedAt", { time: clockTime(pickup.redeemed_at) })].filter(Boolean).join(" · ")],
    ...(found.payments ?? []).map((each) => ["payment",
      `${each.provider} ${money(each.amount_minor, order.currency)} · ${t(`payment_${each.state}`)}`]),
  ].filter(([, value]) => value);
  return html`<div class="fed-details"><dl class="facts">
    ${facts.map(([name, value], at) => html`<div key=${at}><dt>${t(`fact_${name}`)}</dt><dd>${value}</dd></div>`)}</dl>
    ${found.error && html`<p class="note bad spread"><span>${explain(found.error)}</span>
      <${Button} does=${() => { asked.value = null; }}>${t("again")}<//></p>`}</div>`;
}
