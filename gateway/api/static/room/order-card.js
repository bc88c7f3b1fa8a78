// A card for each order that waits for something, and for those that just ended: what it is, until when, and what to do.

import { computed, html, useEffect, useMemo, useSignal, Dialog, Icon } from "../ui/ui.js";
import { count, money } from "../ui/format.js";
import { isOpen } from "./orders.js";
import { PayActions, PickupCode } from "./pay.js";
import { mineOpen } from "./sheets.js";
import { moment, Countdown } from "./shop-parts.js";
import { t } from "./mine-words.js";

const MOST_CARDS = 2;
const READ_MS = 15_000; // what needs nothing more is put away by itself; `Mine` has it
const PASSING = new Set(["cancelled", "expired", "refunded"]);
const TONES = { paid: "good", confirmed: "good", reserved: "good", expired: "warn", refused: "bad", refund_due: "warn" };

export function OrderCards({ show, basket }) {
  const lively = basket.lively.value;
  const cards = basket.orders.value.filter((order) => lively.has(order.order)).sort((a, b) => isOpen(b) - isOpen(a));
  const more = cards.length - MOST_CARDS;
  return html`<div class="order-cards" role="region" aria-label=${t("orders")} hidden=${cards.length === 0}>
    ${cards.slice(0, MOST_CARDS).map((order) => html`<${OrderCard} key=${order.order} show=${show} basket=${basket} order=${order} />`)}
    ${more > 0 && html`<button class="button quiet" type="button" onClick=${() => { mineOpen.value = true; }}>
      ${t("more_orders", { n: count(more) })}</button>`}
  </div>`;
}

function OrderCard({ show, basket, order }) {
  const { status } = order;
  useEffect(() => {
    if (!PASSING.has(status)) return undefined;
    const timer = setTimeout(() => basket.putAway(order.order), READ_MS);
    return () => clearTimeout(timer);
  }, [status, order.order, basket]);
  return html`<article class=${`order-card ${TONES[status] ?? ""}`} aria-label=${order.title ?? t("order_no", { order: order.order })}>
    <header class="spread">
      <p class="order-what grow"><strong>${order.title ?? order.sku}</strong>
        ${order.quantity > 1 && html` <span class="number">${t("times", { n: count(order.quantity) })}</span>`}
        ${order.amount_minor !== undefined && html` <span class="number soft">${money(order.amount_minor, order.currency)}</span>`}</p>
      ${!isOpen(order) && html`<button class="button quiet round" type="button" aria-label=${t("put_away")}
        onClick=${() => basket.putAway(order.order)}><${Icon} name="close" size=${16} /></button>`}
    </header>
    <${OrderStanding} show=${show} order=${order} />
    ${status === "confirmed" && html`<${PayActions} basket=${basket} order=${order} mayCancel=${true} />`}
    ${status === "paid" && order.pickup && (order.pickup.code
      ? html`<${PickupButton} basket=${basket} order=${order} />`
      : html`<p class="small soft">${t("card_pickup_soon")}</p>`)}
  </article>`;
}

function PickupButton({ basket, order }) {
  const shown = useSignal(false);
  return html`<button class="button" type="button" onClick=${() => { shown.value = true; }}>${t("pickup_code")}</button>
    <${Dialog} open=${shown.value} title=${order.title ?? t("pickup_code")} onClose=${() => { shown.value = false; }}>
      <${PickupCode} http=${basket.http} order=${order} />
    <//>`;
}

/** How it stands, in words; a deadline with what is left of it. */
export function OrderStanding({ show, order }) {
  const { status, pay_by_ms: until } = order;
  const isOver = useMemo(() => computed(() => until !== undefined && show.second.value > until), [until, show]).value;
  const isDue = status === "confirmed" && until !== undefined && !isOver;
  const confirmed = isOver ? "card_overdue" : until === undefined ? "card_confirmed_open" : "card_confirmed";
  const key = status === "confirmed" ? confirmed : `card_${status}`;
  return html`<p class="order-standing">
    <span role="status">
      ${t.tables.en[key] ? t(key, { time: until === undefined ? "" : moment(until, show.now()) }) : t("order_unknown")}</span>
    ${isDue && html` <span class="order-left" role="timer" aria-label=${t("time_left")}>
      <${Icon} name="clock" size=${16} /> <${Countdown} show=${show} until=${until} /></span>`}
  </p>`;
}
