// The room's sales: how each stands, and the acts that open, pause and close it.

import { html, useSignal, Button, Dialog, Icon } from "../ui/ui.js";
import { clockTime } from "../ui/format.js";
import { Items } from "./items.js";
import { SaleEdit } from "./sale-edit.js";
import { SaleForm } from "./sale-form.js";
import { OpenSale } from "./start-show.js";
import { saleTimer, StateBadge } from "./states.js";
import { sure } from "./sure.js";
import { t } from "./sale-words.js";

// Counters are asked for each ten seconds; what is older than three of these is said to be.
const OLD_MS = 30_000;
const ORDER = { open: 0, paused: 0, scheduled: 1, closed: 2 };

export function Sales({ desk }) {
  const making = useSignal(false), isOver = desk.room.value.state === "ended";
  const sales = [...desk.sales.value].sort((one, other) => ORDER[one.state] - ORDER[other.state]);
  const running = sales.filter((sale) => sale.state !== "closed"), closed = sales.filter((sale) => sale.state === "closed");
  const close = () => { making.value = false; };
  return html`<section class="sales stack" aria-labelledby="sales-title">
    <header class="spread"><h2 id="sales-title">${t("sales")}</h2>
      ${!isOver && html`<${Button} does=${() => { making.value = true; }}><${Icon} name="plus" size=${16} />${t("newSale")}<//>`}</header>
    ${!sales.length && html`<p class="card soft">${t("none")}</p>`}
    ${running.map((sale) => html`<${Sale} key=${sale.sale} desk=${desk} sale=${sale} />`)}
    ${closed.length > 0 && html`<details open=${!running.length}><summary>${t("over")} (${closed.length})</summary>
      <div class="stack over">${closed.map((sale) => html`<${Sale} key=${sale.sale} desk=${desk} sale=${sale} />`)}</div></details>`}
    <${Dialog} open=${making.value} title=${t("newSale")} kind="sheet wide" onClose=${close}><${SaleForm} desk=${desk} done=${close} /><//>
  </section>`;
}

function Sale({ desk, sale }) {
  const open = useSignal(null), isOver = sale.state === "closed";
  const shut = () => { open.value = null; };
  return html`<article class=${`card sale ${sale.state}`} aria-label=${sale.title}>
    <header class="sale-head">
      <div class="sale-name"><${StateBadge} state=${sale.state} of="sale" /><h3 title=${sale.title}>${sale.title}</h3></div>
      <${Window} desk=${desk} sale=${sale} />
      ${!isOver && html`<div class="sale-acts"><${Switch} desk=${desk} sale=${sale} check=${() => { open.value = "check"; }} />
        <${Button} does=${() => { open.value = "edit"; }}>${t("edit")}<//>
        <${Button} kind="danger" does=${() => closeSale(desk, sale)}>${t("close")}<//></div>`}
    </header>
    ${sale.state === "paused" && html`<p class="note warn">${t("pausedWhy")}</p>`}
    <${Items} desk=${desk} sale=${sale} />
    <${Dialog} open=${open.value === "check"} title=${t("beforeOpen")} kind="sheet wide" onClose=${shut}>
      <${OpenSale} desk=${desk} sale=${sale} done=${shut} /><//>
    <${Dialog} open=${open.value === "edit"} title=${t("editTitle")} kind="sheet" onClose=${shut}>
      <${SaleEdit} desk=${desk} sale=${sale} done=${shut} /><//>
  </article>`;
}

/** The only part of a sale that is drawn each second: what is left of its window, and of when its numbers are if they are old. */
function Window({ desk, sale }) {
  const now = desk.second.value, isOld = now - sale.seen_ms > OLD_MS && sale.state !== "closed";
  return html`<span class="sale-window number soft">${saleTimer(sale, now)}</span>
    ${isOld && html`<span class="badge warn number">${t("asOf", { time: clockTime(sale.seen_ms, { seconds: true }) })}</span>`}`;
}

/** One big switch: what the sale needs most in its state. */
function Switch({ desk, sale, check }) {
  const path = `/v1/sales/${encodeURIComponent(sale.sale)}`;
  if (sale.state === "scheduled") return html`<${Button} kind="primary" does=${check}><${Icon} name="check"
      size=${16} />${t("prepare")}<//>`;
  if (sale.state === "open") {
    return html`<${Button} kind="pause" does=${() => desk.act("POST", `${path}/pause`, undefined, { done: t("paused") })}>
      <${Icon} name="pause" size=${18} />${t("pause")}<//>`;
  }
  return html`<${Button} kind="primary" does=${() => desk.act("POST", `${path}/resume`, undefined, { done: t("resumed") })}>
    <${Icon} name="play" size=${18} />${t("resume")}<//>`;
}

async function closeSale(desk, sale) {
  const isSure = await sure({ title: t("closeTitle"), text: t("closeText", { title: sale.title }), action: t("close") });
  if (isSure) await desk.act("POST", `/v1/sales/${encodeURIComponent(sale.sale)}/close`, undefined, { done: t("closed") });
}
