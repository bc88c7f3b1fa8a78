// Coupons that can be grabbed in the room just now, each with what is left, until when, and what became of the grab.

import { html, useSignal, Button, Icon } from "../ui/ui.js";
import { count } from "../ui/format.js";
import { moment, troubleWords, worth, Countdown } from "./shop-parts.js";
import { t } from "./mine-words.js";

const MOST_CARDS = 3;

export function CouponDrops({ show, basket }) {
  const away = useSignal(new Set());
  const isEnded = show.room.value?.state === "ended";
  const drops = isEnded ? [] : show.coupons.value.filter(({ coupon }) => !away.value.has(coupon)).slice(-MOST_CARDS).reverse();
  return html`<div class="drops" role="region" aria-label=${t("drops")} hidden=${drops.length === 0}>
    ${drops.map((drop) => html`<${Drop} key=${drop.coupon} show=${show} basket=${basket} drop=${drop}
      putAway=${() => { away.value = new Set([...away.value, drop.coupon].slice(-50)); }} />`)}
  </div>`;
}

function Drop({ show, basket, drop, putAway }) {
  const grab = basket.grabs.value.get(drop.coupon);
  const claims = basket.allClaims.value.filter(({ coupon, state }) => coupon === drop.coupon && state !== "refused");
  const busy = grab?.live === true, has = claims.length > 0, isGone = drop.left === 0 && !grab?.live && grab?.state !== "unsure";
  const isDone = ["limit_reached", "ended"].includes(grab?.answer?.outcome);
  const told = noteOf(grab, basket, claims, show.now());
  const label = busy ? "grab_asking" : grab?.state === "unsure" ? "grab_again" : has ? "grab_more" : "grab";
  return html`<article class="drop" aria-label=${drop.title}>
    <${Icon} name="ticket" size=${22} />
    <div class="grow">
      <p class="drop-title"><strong>${drop.title}</strong></p>
      <p class="small soft"><span class="number">${t("drop_left", { n: count(drop.left) })}</span>
        ${drop.claim_until_ms > 0 && html` · <${Icon} name="clock" size=${13} />${" "}
          <${Countdown} show=${show} until=${drop.claim_until_ms} />`}</p>
      <p class=${`drop-note small ${told?.tone ?? ""}`} role="status" aria-live="polite">
        ${told?.words ?? (isGone ? t("grab_gone") : null)}</p>
    </div>
    ${!isGone && !isDone && html`<${Button} kind=${has ? "" : "primary"} busy=${busy} does=${() => basket.grab(drop.coupon)}
      aria-label=${`${t(label)}: ${drop.title}`}>${t(label)}<//>`}
    <button class="button quiet round" type="button" aria-label=${t("put_away")} onClick=${putAway}>
      <${Icon} name="close" size=${16} /></button>
  </article>`;
}

function noteOf(grab, basket, claims, now) {
  const said = (key, tone = "", facts) => ({ words: t(key, facts), tone });
  if (grab?.state === "asking") return said("grab_asking");
  if (grab?.state === "unsure") return said(grab.live ? "grab_unsure" : "grab_unsure_long", "warn");
  if (grab?.answer && grab.answer.outcome !== "claimed") {
    const { outcome, opens_at_ms: opens, code } = grab.answer;
    switch (outcome) {
      case "gone": return said("grab_gone", "warn");
      case "limit_reached": return said("grab_limit", "warn");
      case "not_started":
        return opens ? said("grab_not_started", "warn", { time: moment(opens, now) }) : said("grab_not_started_open", "warn");
      case "ended": return said("grab_ended", "warn");
      case "too_fast": return said("grab_too_fast", "warn");
      case "none": return said("grab_none", "warn");
      case "away": return said("grab_away", "bad");
      default: return { words: troubleWords(code ?? outcome), tone: "bad" };
    }
  }
  const claim = (grab?.answer && basket.allClaims.value.find((each) => each.claim === grab.answer.claim)) ?? claims[0];
  if (!claim) return null;
  switch (claim.state) {
    case "claimed": return said("claimed", "good");
    case "refused": return said("claim_refused", "bad");
    case "redeemed": return said("claim_redeemed");
    default: return claim.kind ? said("claim_confirmed", "good", { worth: worth(claim) }) : said("claimed", "good");
  }
}
