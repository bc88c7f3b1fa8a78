// The log of the room: who did what to it, to its sales and with coupons in it; and what that changed.

import { html, useEffect, useMemo } from "../ui/ui.js";
import { clockTime } from "../ui/format.js";
import { changesOf } from "./act-changes.js";
import { ListFoot } from "./list-foot.js";
import { openPages } from "./pages.js";
import { t } from "./act-words.js";

const ASKED_EVERY_MS = 20_000, ASKED_SOON_MS = 1_500;
const TOLD = new Set(["sale", "price", "pin", "announce", "chat", "room", "comment_gone"]);

export function Acts({ desk }) {
  const pages = useMemo(() => openPages({ http: desk.http, limit: 30,
    idOf: ({ at, act, actor, sale, coupon }) => `${at}/${act}/${actor}/${sale ?? coupon ?? ""}`,
    path: () => (desk.room.value ? `/v1/acts?room=${encodeURIComponent(desk.room.value.room)}` : null) }), [desk]);
  useEffect(() => {
    let soon = null;
    const refresh = () => { soon = null; if (document.visibilityState === "visible") void pages.refresh(); };
    void pages.refresh();
    const timer = setInterval(refresh, ASKED_EVERY_MS);
    const stop = desk.client.value?.on("event", ({ k }) => { if (TOLD.has(k)) soon ??= setTimeout(refresh, ASKED_SOON_MS); });
    return () => { clearInterval(timer); clearTimeout(soon); stop?.(); };
  }, [pages, desk.client.value, desk.room.value?.room]);
  return html`<section class="card panel stack" aria-label=${t("acts")}>
    <h2>${t("acts")}</h2>
    <ol class="acts">${pages.items.value.map((act, at) =>
      html`<${Act} key=${`${act.at}/${act.act}/${at}`} desk=${desk} act=${act} />`)}</ol>
    <${ListFoot} pages=${pages} empty=${t("noActs")} />
  </section>`;
}

function Act({ desk, act }) {
  const sale = act.sale && desk.sales.value.find((each) => each.sale === act.sale);
  const hadNoEffect = Boolean(act.sale || act.coupon) && act.after === null;
  return html`<li class="act">
    <div class="spread"><p><b>${t(`act_${act.act}`)}</b>
      ${act.sale && html` <span>${sale?.title ?? act.sale}</span>`}
      ${act.coupon && html` <span>${couponTitle(desk, act)}</span>`}</p>
      <p class="soft small">${act.actor} · <time class="number" dateTime=${act.at}>${clockTime(act.at, { seconds: true })}</time></p></div>
    ${changesOf(act, sale).map(({ name, before, after }, at) => html`<p key=${at} class="act-change">
      ${name && html`<span class="soft">${t("named", { name })} </span>`}
      ${before !== null && html`<span class="struck"><span class="visually-hidden">${t("before")} </span>${before}</span>
        ${" "}<span aria-hidden="true">→</span> `}
      <span><span class="visually-hidden">${t("after")} </span>${after ?? t("nothing")}</span></p>`)}
    ${hadNoEffect && html`<p class="act-change"><span class="badge warn">${t("noEffect")}</span></p>`}
    ${act.reason && html`<p class="act-change soft">${t("because", { reason: act.reason })}</p>`}
  </li>`;
}

/** A drop is a mark of the report as well, by the title of its coupon. */
const couponTitle = (desk, { at, coupon }) => desk.report.value?.marks.find((mark) => mark.kind === "drop" && mark.at === at)
  ?.label ?? coupon;
