// The items of a sale: where each one's units are, how long they last, and the acts on it.

import { html, useSignal, Button, Dialog, Icon } from "../ui/ui.js";
import { clockTime, count, duration, money } from "../ui/format.js";
import { ItemPrice } from "./item-price.js";
import { ItemStock } from "./item-stock.js";
import { lastsFor } from "./pace.js";
import { t } from "./item-words.js";

export function Items({ desk, sale }) {
  return html`<ul class="items">${sale.items.map((item) => html`<${Item} key=${item.sku} desk=${desk} sale=${sale} item=${item} />`)}</ul>`;
}

function Item({ desk, sale, item }) {
  const open = useSignal(null), isOver = sale.state === "closed";
  const shut = () => { open.value = null; };
  return html`<li class="item">
    ${item.image_url ? html`<img class="item-image" src=${item.image_url} alt="" width="44" height="44" loading="lazy" decoding="async" />`
      : html`<span class="item-image none"><${Icon} name="box" /></span>`}
    <div class="item-what"><span class="item-title" title=${`${item.title} · ${item.sku}`}>${item.title}</span>
      <span class="item-price number"><b>${money(item.price_minor, sale.currency)}</b>
        ${item.list_price_minor > item.price_minor && html` <s class="soft">${money(item.list_price_minor, sale.currency)}</s>`}
        <span class="soft small"> · ${t("limit", { n: item.limit_per_viewer })}</span>
        ${item.prices?.length > 0 && html` <${NextStep} desk=${desk} sale=${sale} item=${item} />`}</span></div>
    <${Units} item=${item} />
    <div class="item-foot"><${Outlook} desk=${desk} sale=${sale} item=${item} />
      ${!isOver && html`<div class="item-acts" role="group" aria-label=${t("acts", { item: item.title })}>
        ${desk.room.value.state !== "ended" && html`<${Pin} desk=${desk} sale=${sale} item=${item} />`}
        <${Button} does=${() => { open.value = "price"; }}>${t("priceAct")}<//>
        <${Button} does=${() => { open.value = "stock"; }}>${t("stockAct")}<//></div>`}</div>
    <${Dialog} open=${open.value === "price"} title=${t("priceTitle", { item: item.title })} kind="sheet" onClose=${shut}>
      <${ItemPrice} desk=${desk} sale=${sale} item=${item} done=${shut} /><//>
    <${Dialog} open=${open.value === "stock"} title=${t("stockTitle", { item: item.title })} kind="sheet" onClose=${shut}>
      <${ItemStock} desk=${desk} sale=${sale} item=${item} done=${shut} /><//>
  </li>`;
}

/** Stock, left, held and paid apart: what is held is not sold yet. */
function Units({ item }) {
  const { stock, left, held = 0, paid = 0 } = item, share = (n) => ({ flexGrow: Math.max(0, n ?? 0) });
  return html`<div class="item-units">
    <dl class="units number">${[["left", left], ["held", held], ["paid", paid], ["stock", stock]].map(([name, n]) =>
      html`<div key=${name} class=${`unit ${name}`}
          title=${name === "held" ? t("heldWhy") : null}><dt>${t(name)}</dt><dd>${count(n)}</dd></div>`)}</dl>
    <div class="bar" role="img"
        aria-label=${t("barSays", { paid: count(paid), held: count(held), left: count(left), stock: count(stock) })}>
      <span class="paid" style=${share(paid)}></span><span class="held" style=${share(held)}></span><span class="left"
          style=${share(left)}></span></div>
  </div>`;
}

/** How long the rest lasts at the pace of the last minute, and nothing where nothing can be said. */
function Outlook({ desk, sale, item }) {
  if (item.left === undefined) return sale.state === "closed" ? null : html`<p class="item-outlook soft small">${t("counting")}</p>`;
  if (sale.state === "closed") return null;
  if (item.left <= 0) {
    return html`<p class="item-outlook small strong">${item.held > 0 ? t("soldOutHeld", { n: item.held }) : t("soldOut")}</p>`;
  }
  if (sale.state !== "open") return null;
  const pace = desk.pace.value.get(`${sale.sale}/${item.sku}`), lasts = lastsFor(item.left, pace);
  if (!pace) return html`<p class="item-outlook soft small">${t("paceMeasuring")}</p>`;
  if (lasts === null) {
    const span = duration(pace.over_ms);
    return html`<p class="item-outlook soft small">
      ${pace.units < 0 ? t("paceBack", { n: count(-pace.units), span }) : t("paceNone", { span })}</p>`;
  }
  return html`<p class=${`item-outlook small number ${lasts < 60_000 ? "hurry" : ""}`}>${t("paceLeft", { time: duration(lasts) })}
    <span class="soft"> · ${t("paceRate", { n: count((pace.units * 60_000) / pace.over_ms) })}</span></p>`;
}

function NextStep({ desk, sale, item }) {
  const next = item.prices.find((step) => Date.parse(step.from) > desk.now());
  const told = next ? `${money(next.price_minor, sale.currency)} ${t("from", { time: clockTime(next.from) })}` : t("planned");
  return html`<span class="badge">${told}</span>`;
}

function Pin({ desk, sale, item }) {
  const pin = desk.pin.value, isPinned = pin?.sale === sale.sale && pin.sku === item.sku;
  const path = `/v1/rooms/${encodeURIComponent(desk.room.value.room)}/pin`;
  const turn = () => (isPinned ? desk.act("DELETE", path, undefined, { done: t("unpinned") })
    : desk.act("PUT", path, { sale: sale.sale, sku: item.sku }, { done: t("explained") }));
  return html`<${Button} does=${turn} aria-pressed=${String(isPinned)} title=${isPinned ? t("unpin") : null}>
    <${Icon} name="pin" size=${16} />${t(isPinned ? "explaining" : "explain")}<//>`;
}
