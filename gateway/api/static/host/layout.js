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

const SIDE = { coupons: Coupons, announce: Announce, chat: Chat, pickup: Pickup, acts: Acts, report: Report };
const TITLES = {
  coupons: "tabCoupons", announce: "tabAnnounce", chat: "tabChat", pickup: "tabPickup", acts: "tabActs", report: "tabReport",
};

function OnDesk({ desk }) {
  const side = useSignal("coupons"), isOver = desk.room.value.state === "ended";
  useEffect(() => { if (isOver) side.value = "report"; }, [isOver]);
  const Side = SIDE[side.value];
  return html`<div class="desk-grid">
    <div class="area-figures"><${Figures} desk=${desk} /></div>
    <div class="area-sales scrolls"><${Sales} desk=${desk} /></div>
    <div class="area-middle">
      <div class="area-chart"><${Chart} desk=${desk} /></div>
      <div class="area-side">
        <${Tabs} label=${t("panels")} of=${Object.keys(SIDE).map((name) => [name, t(TITLES[name])])} chosen=${side} panel="side-panel" />
        <div class="scrolls" id="side-panel" role="tabpanel" aria-label=${t(TITLES[side.value])} tabindex="0"><${Side} desk=${desk} /></div>
      </div>
    </div>
    <div class="area-talk">
      <div class="area-comments"><${Comments} desk=${desk} /></div>
      <div class="area-feed"><${Feed} desk=${desk} /></div>
    </div>
  </div>`;
}

const PHONE = [["sales", "tabSales"], ["comments", "tabComments"], ["feed", "tabOrders"], ["figures", "tabFigures"], ["more", "tabMore"]];

function OnPhone({ desk }) {
  const tab = useSignal(desk.room.value.state === "ended" ? "figures" : "sales"), side = useSignal("coupons");
  const Side = SIDE[side.value];
  return html`<div class="phone">
    <div class="phone-panel" id="phone-panel" role="tabpanel" aria-label=${t(PHONE.find(([name]) => name === tab.value)[1])} tabindex="0">
      ${tab.value === "sales" && html`<${Sales} desk=${desk} />`}
      ${tab.value === "comments" && html`<${Comments} desk=${desk} />`}
      ${tab.value === "feed" && html`<${Feed} desk=${desk} />`}
      ${tab.value === "figures" && html`<div class="stack"><${Figures} desk=${desk} /><${Chart} desk=${desk} /></div>`}
      ${tab.value === "more" && html`
        <${Tabs} label=${t("panels")} of=${Object.keys(SIDE).map((name) => [name, t(TITLES[name])])} chosen=${side} panel="side-panel" />
        <div id="side-panel" role="tabpanel" aria-label=${t(TITLES[side.value])} tabindex="0"><${Side} desk=${desk} /></div>
        <div class="phone-me"><${Me} desk=${desk} /></div>`}
    </div>
    <${Tabs} label=${t("panels")} kind="phone-tabs" of=${PHONE.map(([name, word]) => [name, t(word)])} chosen=${tab} panel="phone-panel" />
  </div>`;
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
