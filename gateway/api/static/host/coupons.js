// The coupons that can be dropped into the room: how many copies are gone, how fast, and the drop itself.

import { html, toast, useEffect, useMemo, useSignal, Button, Dialog, Icon } from "../ui/ui.js";
import { clockTime, countdown, count, dayTime, money, percent } from "../ui/format.js";
import { CouponForm } from "./coupon-form.js";
import { t } from "./coupon-words.js";
import { ListFoot } from "./list-foot.js";
import { openPages } from "./pages.js";

const ASKED_EVERY_MS = 10_000, ASKED_SOON_MS = 1_500, HOUR_MS = 3_600_000;
const DROPS_S = [0, 30, 60, 180, 300, 600, 1_800, 3_600]; // 0: until the claim ends anyway
const LOOKS = { open: "good", scheduled: "", closed: "warn", expired: "" };

export function Coupons({ desk }) {
  const pages = useMemo(() => openPages({ http: desk.http, path: () => "/v1/coupons", idOf: ({ coupon }) => coupon }), [desk]);
  const isMaking = useSignal(false);
  useLive(desk, pages);
  const made = ({ title }) => {
    isMaking.value = false;
    toast(t("made", { title }), "good");
    void pages.refresh();
  };
  const room = desk.room.value?.room;
  // A coupon of another room can be dropped there alone.
  const here = pages.items.value.filter((each) => !each.room || each.room === room);
  const usable = here.filter(({ state }) => state !== "expired"), expired = here.filter(({ state }) => state === "expired");
  return html`<section class="card panel stack" aria-label=${t("coupons")}>
    <header class="spread"><h2>${t("coupons")}</h2>
      <${Button} does=${() => { isMaking.value = true; }}><${Icon} name="plus" size=${16} /> ${t("newCoupon")}<//></header>
    <ul class="stack">${usable.map((each) => html`<${Coupon} key=${each.coupon}
      desk=${desk} coupon=${each} onChange=${pages.refresh} />`)}</ul>
    <${ListFoot} pages=${pages} empty=${t("noCoupons")} />
    ${expired.length > 0 && html`<details class="part"><summary><h3>${t("expiredCoupons")}</h3>
      <span class="badge">${count(expired.length)}</span></summary>
      <ul class="stack tight">${expired.map((each) => html`<li key=${each.coupon} class="spread"><span class="grow">${each.title}</span>
        <span class="soft small">${t("claimedOf", { n: count(each.claimed), copies: count(each.copies) })}</span></li>`)}</ul></details>`}
    <${Dialog} open=${isMaking.value} title=${t("newCoupon")} kind="sheet" onClose=${() => { isMaking.value = false; }}>
      <${CouponForm} desk=${desk} onMade=${made} /><//>
  </section>`;
}

/** What is left is told by the socket at once; what is claimed and redeemed is asked for soon after, and now and then. */
function useLive(desk, pages) {
  useEffect(() => {
    let soon = null;
    const refresh = () => { soon = null; if (document.visibilityState === "visible") void pages.refresh(); };
    void pages.refresh();
    const timer = setInterval(refresh, ASKED_EVERY_MS);
    const stop = desk.client.value?.on("event", (event) => {
      if (event.k !== "coupon") return;
      pages.change(event.coupon, { left: event.left });
      soon ??= setTimeout(refresh, ASKED_SOON_MS);
    });
    return () => { clearInterval(timer); clearTimeout(soon); stop?.(); };
  }, [pages, desk.client.value]);
}

function Coupon({ desk, coupon, onChange }) {
  const { title, state, copies, claimed, redeemed, left, currency } = coupon;
  const taken = copies - left; // claims that the ledger does not have yet are taken as well
  const facts = [worth(coupon), coupon.threshold_minor > 0 && t("fromAmount", { amount: money(coupon.threshold_minor, currency) }),
    t("perViewer", { n: count(coupon.limit_per_viewer) }), coupon.room && t("thisRoomOnly"),
    coupon.sales && t("ofSales", { names: salesNamed(desk, coupon.sales) })].filter(Boolean);
  return html`<li class="coupon">
    <div class="spread"><h3>${title}</h3><span class=${`badge ${LOOKS[state]}`}>${t(`state_${state}`)}</span></div>
    <p class="small">${facts.join(" · ")}</p>
    <div class="meter" role="img" aria-label=${t("barLabel", { taken: count(taken), redeemed: count(redeemed), left: count(left) })}>
      <span class="meter-used" style=${{ width: `${(100 * redeemed) / copies}%` }}></span>
      <span class="meter-taken" style=${{ width: `${(100 * Math.max(0, taken - redeemed)) / copies}%` }}></span></div>
    <dl class="numbers">
      <div><dt>${t("claimed")}</dt><dd>${count(claimed)}</dd></div><div><dt>${t("redeemed")}</dt><dd>${count(redeemed)}</dd></div>
      <div><dt>${t("left")}</dt><dd>${count(left)}</dd></div>
        <div><dt title=${t("grabRateIs")}>${t("grabRate")}</dt><dd>${percent(claimed / copies)}</dd></div>
      <div><dt title=${t("useRateIs")}>${t("useRate")}</dt><dd>${claimed ? percent(redeemed / claimed) : "–"}</dd></div></dl>
    <p class="soft small"><${Times} desk=${desk} coupon=${coupon} /></p>
    <${Drop} desk=${desk} coupon=${coupon} onDropped=${onChange} />
  </li>`;
}

export function worth({ kind, currency, value_minor, percent: off, min_minor, max_minor, budget_minor }) {
  if (kind === "amount") return t("worthAmount", { amount: money(value_minor, currency) });
  if (kind === "percent") return t("worthPercent", { n: off, rest: (100 - off) / 10 });
  return t("worthRandom", { least: money(min_minor, currency), most: money(max_minor, currency), budget: money(budget_minor, currency) });
}

const salesNamed = (desk, sales) => sales.map((id) => desk.sales.value.find(({ sale }) => sale === id)?.title ?? t("otherSale")).join(", ");

/** When copies can be claimed, and until when they are good. */
function Times({ desk, coupon }) {
  const until = Date.parse(coupon.claim_until);
  const left = coupon.state === "open" ? until - desk.second.value : null;
  const claim = left !== null ? (left > HOUR_MS ? t("openUntil", { time: dayTime(until) }) : t("openFor", { left: countdown(left) }))
    : coupon.state === "closed" ? t("closedAt", { time: dayTime(until) })
      : coupon.claim_from ? t("opensAt", { time: dayTime(coupon.claim_from) }) : t("opensByDrop");
  return `${claim} · ${t("validUntil", { time: dayTime(coupon.valid_until) })}`;
}

function Drop({ desk, coupon, onDropped }) {
  const seconds = useSignal("60"), room = desk.room.value;
  const isOut = coupon.left <= 0, isClosed = !room || room.state === "ended";
  const drop = async () => {
    const for_s = Number(seconds.value);
    const answer = await desk.act("POST", `/v1/coupons/${encodeURIComponent(coupon.coupon)}/drop`,
      { room: room.room, ...(for_s ? { for_s } : {}) },
      { done: t("dropped", { title: coupon.title }) });
    if (answer) await onDropped();
  };
  const id = `drop-${coupon.coupon}`;
  return html`<div class="row drop"><label class="visually-hidden" for=${id}>${t("dropFor")}</label>
    <select id=${id} class="input grow" value=${seconds.value} disabled=${isOut || isClosed}
      onChange=${(event) => { seconds.value = event.target.value; }}>
      ${DROPS_S.map((each) => html`<option key=${each} value=${String(each)}>${dropName(coupon, each)}</option>`)}</select>
    <${Button} kind="primary" does=${drop} disabled=${isOut || isClosed}><${Icon} name="ticket" size=${18} />
      ${isOut ? t("allGone") : t(coupon.state === "open" ? "dropAgain" : "drop")}<//></div>`;
}

/** A drop without a duration leaves the end of the claim where it is; where that lies behind, copies are claimed
  as long as they are valid. */
function dropName(coupon, for_s) {
  if (for_s) return for_s < 60 ? t("dropSeconds", { n: for_s }) : t("dropMinutes", { n: for_s / 60 });
  const ends = coupon.state === "closed" ? coupon.valid_until : coupon.claim_until;
  const isToday = Date.parse(ends) - Date.now() < 43_200_000;
  return t("dropUntil", { time: isToday ? clockTime(ends) : dayTime(ends) });
}
