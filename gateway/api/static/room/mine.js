// What this viewer has: orders, newest first, and coupons, in a sheet.

import { html, useSignal, Button, Dialog, Icon } from "../ui/ui.js";
import { count, dayTime, money } from "../ui/format.js";
import { OrderStanding } from "./order-card.js";
import { PayActions, PickupCode } from "./pay.js";
import { mineOpen } from "./sheets.js";
import { Picture, troubleWords, worth } from "./shop-parts.js";
import { t } from "./mine-words.js";

const TONES = { reserved: "warn", confirmed: "warn", paid: "good", refused: "bad" };

export function Mine({ show, basket }) {
  return html`<${Dialog} open=${mineOpen.value} title=${t("orders")} kind="sheet" onClose=${() => { mineOpen.value = false; }}>
      <div class="stack">
        <${Orders} show=${show} basket=${basket} />
        <h3>${t("coupons")}</h3>
        <${Coupons} basket=${basket} />
      </div>
    <//>`;
}

function Orders({ show, basket }) {
  const orders = basket.orders.value, trouble = useSignal(null);
  const older = async () => {
    trouble.value = null;
    try { await basket.moreOrders(); } catch (error) { trouble.value = error.code; }
  };
  if (!orders.length) return html`<p class="soft">${t(basket.ordersLoaded.value ? "no_orders" : "orders_loading")}</p>`;
  return html`<ul class="order-list">
      ${orders.map((order) => html`<${OrderLine} key=${order.order} show=${show} basket=${basket} order=${order} />`)}
    </ul>
    ${basket.ordersBehind.value && html`<${Button} does=${older}>${t("older_orders")}<//>`}
    ${trouble.value && html`<p class="note bad" role="alert">${troubleWords(trouble.value)}</p>`}`;
}

function OrderLine({ show, basket, order }) {
  const { status, pickup } = order, shown = useSignal(false);
  const word = t.tables.en[status] ? t(status) : t("order_unknown");
  return html`<li class="order-line">
    <${Picture} url=${order.image_url} title="" size=${48} />
    <div class="grow stack tight">
      <div class="spread">
        <p><strong>${order.title ?? order.sku ?? t("order_no", { order: "" })}</strong>
          ${order.quantity > 1 && html` <span class="number">${t("times", { n: count(order.quantity) })}</span>`}</p>
        <span class=${`badge ${TONES[status] ?? ""}`}>${word}</span>
      </div>
      <p class="small soft number">
        ${order.amount_minor === undefined ? "" : html`<strong>${money(order.amount_minor, order.currency)}</strong> · `}
        ${t("order_at", { when: dayTime(order.created_at_ms) })}</p>
      <p class="tiny soft">${t("order_no", { order: order.order })}</p>
      ${["reserved", "confirmed"].includes(status) && html`<${OrderStanding} show=${show} order=${order} />`}
      ${status === "confirmed" && html`<${PayActions} basket=${basket} order=${order} mayCancel=${true} />`}
      ${pickup && !pickup.code && status !== "paid" && html`<p class="small soft">
        ${pickup.place ? t("pickup_at", { place: pickup.place }) : t("pickup")}</p>`}
      ${pickup && status === "paid" && (pickup.code
        ? html`<details class="pickup-more" onToggle=${(event) => { shown.value = event.currentTarget.open; }}>
            <summary>${t("pickup_code")}</summary>
            ${shown.value && html`<${PickupCode} http=${basket.http} order=${order} />`}</details>`
        : html`<p class="small soft">${t("card_pickup_soon")}</p>`)}
    </div>
  </li>`;
}

function Coupons({ basket }) {
  const claims = basket.allClaims.value.filter(({ kind }) => kind);
  if (!claims.length) return html`<p class="soft">${t("no_coupons")}</p>`;
  return html`<ul class="claim-list">
    ${claims.map((claim) => html`<li key=${claim.claim} class=${`claim-line ${claim.state}`}>
      <${Icon} name="ticket" />
      <div class="grow">
        <p><strong class="number">${worth(claim)}</strong> ${claim.title}</p>
        <p class="small soft number">${[
          claim.threshold_minor > 0 && t("from_amount", { amount: money(claim.threshold_minor, claim.currency) }),
          t("valid_until", { when: dayTime(claim.valid_until_ms) }),
        ].filter(Boolean).join(" · ")}</p>
      </div>
      <span class=${`badge ${claim.state === "confirmed" ? "good" : ""}`}>${t(`claim_state_${claim.state}`)}</span>
    </li>`)}
  </ul>`;
}
