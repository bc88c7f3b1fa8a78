// Where the panels stand: on a desk all that a show is run by at once, on a phone one at a time.

import { html, useEffect, useSignal } from "../ui/ui.js";
import { Acts } from "./acts.js";
import { Announce } from "./announce.js";
import { Chart } from "./chart.js";
import { Chat } from "./chat.js";
import { Comments } from "./comments.js";
import { Coupons } from "./coupons.js";
import { Feed } from "./feed.js";
import { Figures } from "./figures.js";
import { Me } from "./header.js";
import { pastOf } from "./past.js";
import { Pickup } from "./pickup.js";
import { Report } from "./report.js";
import { Sales } from "./sales.js";
import { t } from "./words.js";

const DESK = matchMedia("(min-width: 1100px)");

export function Layout({ desk }) {
  pastOf(desk); // looks from now on, whichever panel is shown
  const isDesk = useSignal(DESK.matches);
  useEffect(() => {
    const turn = () => { isDesk.value = DESK.matches; };
    DESK.addEventListener("change", turn);
    return () => DESK.removeEventListener("change", turn);
  }, []);
  return isDesk.value ? html`<${OnDesk} desk=${desk} />` : html`<${OnPhone} desk=${desk} />`;
}

const Going = ({ desk }) => html`<div class="stack"><${Figures} desk=${desk} /><${Chart} desk=${desk} /></div>`;
const Outcome = ({ desk }) => html`<div class="stack"><${Figures} desk=${desk} /><${Report} desk=${desk} /></div>`;

/** By name the word and the panel of a tab. */
const PANELS = {
  sales: ["tabSales", Sales], comments: ["tabComments", Comments], feed: ["tabOrders", Feed], figures: ["tabFigures", Going],
  coupons: ["tabCoupons", Coupons], announce: ["tabAnnounce", Announce], chat: ["tabChat", Chat], pickup: ["tabPickup", Pickup],
  acts: ["tabActs", Acts], report: ["tabReport", Report], outcome: ["tabReport", Outcome], more: ["tabMore", null],
};
const SIDE = ["coupons", "announce", "chat", "pickup", "acts", "report"];
// When the show is over its report stands where there is most room, and what went on before it beside it.
const SIDE_AFTER = ["pickup", "feed", "comments", "coupons", "chat", "acts"];
const PHONE = ["sales", "comments", "feed", "figures", "more"], PHONE_AFTER = ["outcome", "sales", "comments", "feed", "more"];
const MORE_AFTER = ["pickup", "coupons", "chat", "acts"];

function OnDesk({ desk }) {
  const isOver = desk.room.value.state === "ended";
  return html`<div class=${`desk-grid ${isOver ? "over" : ""}`}>
    <div class="area-figures"><${Figures} desk=${desk} /></div>
    <div class="area-sales scrolls"><${Sales} desk=${desk} /></div>
    <div class="area-middle">${isOver ? html`<div class="area-report scrolls" tabindex="0"><${Report} desk=${desk} /></div>` : html`
      <div class="area-chart"><${Chart} desk=${desk} /></div>
      <${Side} desk=${desk} of=${SIDE} />`}</div>
    <div class="area-talk">${isOver ? html`<${Side} desk=${desk} of=${SIDE_AFTER} />` : html`
      <div class="area-comments"><${Comments} desk=${desk} /></div>
      <div class="area-feed"><${Feed} desk=${desk} /></div>`}</div>
  </div>`;
}

function OnPhone({ desk }) {
  const isOver = desk.room.value.state === "ended";
  return html`<div class="phone"><${Panels} key=${isOver} desk=${desk} of=${isOver ? PHONE_AFTER : PHONE} id="phone-panel"
    more=${isOver ? MORE_AFTER : SIDE} /></div>`;
}

const Side = ({ desk, of }) => html`<div class="area-side"><${Panels} desk=${desk} of=${of} id="side-panel" /></div>`;

/** One panel at a time, and the tabs to choose it by; the thumb finds those of a phone below, and under `more` the others. */
function Panels({ desk, of, id, more = null }) {
  const chosen = useSignal(of[0]), [word, Panel] = PANELS[chosen.value];
  const tabs = html`<${Tabs} label=${t("panels")} kind=${more ? "phone-tabs" : ""} of=${of.map((name) => [name, t(PANELS[name][0])])}
    chosen=${chosen} panel=${id} />`;
  return html`${!more && tabs}
    <div class=${more ? "phone-panel" : "scrolls"} id=${id} role="tabpanel" aria-label=${t(word)} tabindex="0">
      ${Panel ? html`<${Panel} desk=${desk} />` : html`<${Panels} desk=${desk} of=${more} id="side-panel" />
        <div class="phone-me"><${Me} desk=${desk} /></div>`}</div>
    ${more && tabs}`;
}

/** Tabs as the keyboard knows them: arrows go from one to the next, and each shows what it names. */
function Tabs({ label, of, chosen, panel, kind = "" }) {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = (of.findIndex(([name]) => name === chosen.value) + step + of.length) % of.length;
    chosen.value = of[at][0];
    event.currentTarget.children[at].focus();
    event.preventDefault();
  };
  return html`<div class=${`tabs ${kind}`} role="tablist" aria-label=${label} onKeyDown=${move}>
    ${of.map(([name, word]) => html`<button key=${name} type="button" role="tab" class="tab" aria-selected=${String(name === chosen.value)}
      aria-controls=${panel} tabindex=${name === chosen.value ? 0 : -1} onClick=${() => { chosen.value = name; }}>${word}</button>`)}
  </div>`;
}
