// Paying an order and giving it back, and the code it is picked up with.

import { html, useEffect, useSignal, Button } from "../ui/ui.js";
import { dayTime, money } from "../ui/format.js";
import { troubleWords } from "./shop-parts.js";
import { t } from "./mine-words.js";

const SURE_FOR_MS = 4_000;

/** Of a confirmed order. The payment is made at the shop's provider, in a tab of its own. */
export function PayActions({ basket, order, mayCancel = false }) {
  const url = useSignal(null), told = useSignal(null), sure = useSignal(false);
  useEffect(() => {
    if (!sure.value) return undefined;
    const timer = setTimeout(() => { sure.value = false; }, SURE_FOR_MS);
    return () => clearTimeout(timer);
  }, [sure.value]);

  async function pay() {
    // Opened in the press itself: later a browser takes it for a pop-up.
    const page = window.open("", "_blank");
    const answer = await basket.pay(order.order);
    if (answer.url) {
      url.value = answer.url;
      told.value = page ? t("pay_elsewhere") : null;
      if (page) {
        page.opener = null;
        page.location.replace(answer.url);
      }
      return;
    }
    page?.close();
    told.value = answer.at === "shop" ? t("pay_shop", { order: order.order }) : answer.order ? t("pay_ended") : troubleWords(answer.error);
  }

  async function cancel() {
    if (!sure.value) {
      sure.value = true;
      return;
    }
    sure.value = false;
    const answer = await basket.cancel(order.order);
    told.value = answer.error ? troubleWords(answer.error) : null;
  }

  return html`<div class="pay-actions">
    ${url.value
      ? html`<a class="button primary" href=${url.value} target="_blank" rel="noopener noreferrer">${t("pay_open")}</a>`
      : html`<${Button} kind="primary" does=${pay}>${t("pay", { amount: money(order.amount_minor, order.currency) })}<//>`}
    ${mayCancel && html`<${Button} kind=${sure.value ? "danger" : "quiet"} does=${cancel}>${t(sure.value ? "cancel_sure" : "cancel")}<//>`}
    <p class="pay-note small" role="status">${told.value}</p>
  </div>`;
}

/** What the shop's till reads, as a picture and as text. */
export function PickupCode({ http, order }) {
  const picture = useSignal(null), failed = useSignal(false), { code, place, redeemed_at: redeemed } = order.pickup;
  useEffect(() => {
    if (redeemed || !code) return undefined;
    let url = null, gone = false;
    http.blob(`/v1/orders/${encodeURIComponent(order.order)}/pickup.svg`).then((blob) => {
      if (gone) return;
      url = URL.createObjectURL(blob);
      picture.value = url;
    }, () => { failed.value = true; });
    return () => {
      gone = true;
      picture.value = null;
      if (url) URL.revokeObjectURL(url);
    };
  }, [order.order, code, redeemed]);
  if (redeemed) return html`<p class="good-words">${t("pickup_done", { when: dayTime(redeemed) })}</p>`;
  return html`<div class="pickup">
    ${picture.value && html`<img class="pickup-picture" src=${picture.value} width="168" height="168" alt=${t("pickup_alt", { code })} />`}
    <div class="stack tight">
      <p><span class="soft small">${t("pickup_code")}</span><br /><strong class="pickup-code">${code}</strong></p>
      <p class="small soft">${place ? t("pickup_at", { place }) : t("pickup_show")}</p>
      ${failed.value && html`<p class="small">${t("pickup_no_picture")}</p>`}
    </div>
  </div>`;
}
