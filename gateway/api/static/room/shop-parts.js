// Small parts that the shop's lists and cards share: prices, times, pictures, words for coupons.

import { html, useMemo, useSignal, computed, Icon } from "../ui/ui.js";
import { clockTime, count, countdown, dayTime, money } from "../ui/format.js";
import { language } from "../ui/words.js";
import { nextStep } from "./offer.js";
import { t } from "./shop-words.js";

const SOON_MS = 18 * 3_600_000;

/** A time of day where that is plain, else with its day. */
export const moment = (at, now) => (Math.abs(at - now) < SOON_MS ? clockTime(at) : dayTime(at));

/** What is left until `until`, by the gateway's clock. Draws itself anew each second, and nothing around it. */
export function Countdown({ show, until }) {
  return html`<span class="number">${countdown(until - show.second.value)}</span>`;
}

/** Of a fixed size, so that nothing moves when it comes; a plain box where there is none. */
export function Picture({ url, title, size = 72 }) {
  const broken = useSignal(null);
  if (!url || broken.value === url) {
    return html`<span class="picture none" style=${{ width: `${size}px`, height: `${size}px` }}>
      <${Icon} name="box" size=${size / 2.6} /></span>`;
  }
  return html`<img class="picture" src=${url} alt=${title} width=${size} height=${size} loading="lazy" decoding="async"
    referrerpolicy="no-referrer" onError=${() => { broken.value = url; }} />`;
}

/** The price of one, what it was, and what it is with the coupon that the button uses. */
export function Price({ show, sale, item, offer }) {
  const step = useMemo(() => computed(() => nextStep(item, show.second.value)), [item]).value;
  const { currency } = sale, isLess = item.list_price_minor > item.price_minor;
  return html`<p class="price">
      <span class="visually-hidden">${t("price")} </span><strong class="number price-now">${money(item.price_minor, currency)}</strong>
      ${isLess && html` <s class="struck number small"><span class="visually-hidden">${t("was")} </span>
        ${money(item.list_price_minor, currency)}</s>`}
      ${offer?.claim && offer.off_minor > 0 && html` <span class="badge good number">
        ${t("with_coupon", { amount: money(offer.amount_minor, currency) })}</span>`}
    </p>
    ${step && html`<p class="price-next soft small number">
      ${t("next_price", { time: moment(step.from_ms, show.now()), price: money(step.price_minor, currency) })}${" "}
      <span aria-hidden="true">(<${Countdown} show=${show} until=${step.from_ms} />)</span></p>`}`;
}

/** As the sale displays it: a number, few, or nothing. */
export function Stock({ item }) {
  if (item.left === 0) return html`<span class="badge">${t("sold_out_badge")}</span>`;
  if (item.left !== undefined) {
    return html`<span class=${`badge number ${item.left <= 10 ? "warn" : ""}`}>${t("left", { n: count(item.left) })}</span>`;
  }
  return item.low ? html`<span class="badge warn">${t("few_left")}</span>` : null;
}

/** What a claim is worth, in words. */
export function worth(claim) {
  if (claim.kind === "percent") return t("percent_off", { percent: claim.percent, tenths: (100 - claim.percent) / 10 });
  if (claim.value_minor === undefined || !claim.currency) return t("coupon");
  return t("amount_off", { amount: money(claim.value_minor, claim.currency) });
}

/** A phrase of an error's code, for whoever has to act on it. */
export function troubleWords(code) {
  const key = `error_${code}`;
  return t.tables[language.value][key] ? t(key) : t("error_other", { code: code ?? "–" });
}
