// The product bag: what is explained just now on top, then everything in order. On a phone a strip with the explained item and
// a sheet from below; from 900 px on a list beside the stage.

import { computed, html, useMemo, useRef, useSignal, Dialog, Icon } from "../ui/ui.js";
import { count } from "../ui/format.js";
import { mostUnits, heldUnits, phaseOf, placeOf } from "./offer.js";
import { later } from "./later.js";
import { bagOpen, isWide } from "./sheets.js";
import { moment, worth, Picture, Price, Stock, Countdown } from "./shop-parts.js";
import { t } from "./shop-words.js";
import { TapButton } from "./tap.js";

export const OrderCards = later("OrderCards", () => import("./order-card.js"), ({ basket }) => basket.orders.value.length > 0);

const FIRST = 40; // items drawn at once; the rest when asked for

/** What is on sale first, then what will be, then what is over; else as the room has them. */
const RANK = { open: 0, paused: 0, scheduled: 1, closed: 2 };
const inOrder = (sales) => [...sales].sort((a, b) => (RANK[a.state] ?? 1) - (RANK[b.state] ?? 1));

const countOf = (sales) => sales.reduce((sum, sale) => sum + sale.items.length, 0);

export function BagButton({ show }) {
  if (isWide.value) return null;
  const n = countOf(show.sales.value);
  return html`<button class="button primary round bag-button" type="button" aria-label=${t("open_bag", { n })} onClick=${() => open(show)}>
    <${Icon} name="bag" size=${22} />${n > 0 && html`<span class="count-dot number" aria-hidden="true">${n}</span>`}</button>`;
}

function open(show) {
  bagOpen.value = true;
  show.client?.enter();
}

export function Bag({ show, basket }) {
  return isWide.value ? html`<${SideBag} show=${show} basket=${basket} />` : html`<${PhoneBag} show=${show} basket=${basket} />`;
}

function SideBag({ show, basket }) {
  const entered = useRef(false);
  // It stands there anyway: whoever turns to it has come into the shop.
  const enter = () => {
    if (entered.current) return;
    entered.current = show.client?.enter() ?? false;
  };
  const n = countOf(show.sales.value);
  return html`<section class="bag side-bag" aria-label=${t("bag")} tabindex="0" onPointerDown=${enter} onFocusIn=${enter}>
    <header class="spread bag-head"><h2><${Icon} name="bag" /> ${t("bag")}</h2>
      ${n > 0 && html`<span class="soft small number">${count(n)}</span>`}</header>
    <${Items} show=${show} basket=${basket} />
  </section>`;
}

function PhoneBag({ show, basket }) {
  const pinned = show.pinnedItem.value;
  return html`${pinned && html`<section class="pinned-item" aria-label=${t("explaining")}>
      <${Item} key=${placeOf(pinned.sale.sale, pinned.item.sku)} show=${show} basket=${basket} sale=${pinned.sale} item=${pinned.item}
        tag="div" brief=${true} isPinned=${true} />
    </section>`}
    <${Dialog} open=${bagOpen.value} title=${t("bag")} kind="sheet bag-sheet" onClose=${() => { bagOpen.value = false; }}>
      <${OrderCards} show=${show} basket=${basket} />
      <${Items} show=${show} basket=${basket} />
    <//>`;
}

function Items({ show, basket }) {
  const sales = show.sales.value, pinned = show.pinnedItem.value, most = useSignal(FIRST), drawn = useRef(new Map());
  if (!countOf(sales)) return html`<p class="soft bag-empty">${t("bag_empty")}</p>`;
  const isPinned = (sale, item) => pinned?.sale.sale === sale.sale && pinned.item.sku === item.sku;
  // One item moves many times a second; the others are not drawn for it.
  const kept = new Map();
  const draw = (sale, item, pin) => {
    const key = `${pin}${placeOf(sale.sale, item.sku)}`, had = drawn.current.get(key);
    const same = had && had.item === item && sameTerms(had.sale, sale);
    const shown = same ? had : {
      sale, item, node: html`<${Item} key=${key} show=${show} basket=${basket} sale=${sale} item=${item} isPinned=${pin === "pin:"} />`,
    };
    kept.set(key, shown);
    return shown.node;
  };
  let room = most.value;
  const lists = inOrder(sales).map((sale) => {
    const items = sale.items.filter((item) => !isPinned(sale, item)).slice(0, Math.max(0, room));
    room -= items.length;
    return { sale, items };
  });
  const more = countOf(sales) - (pinned ? 1 : 0) - lists.reduce((sum, { items }) => sum + items.length, 0);
  const view = html`<div class="stack">
    ${pinned && html`<ul class="items pinned">${draw(pinned.sale, pinned.item, "pin:")}</ul>`}
    ${lists.filter(({ items }) => items.length).map(({ sale, items }) => html`<section key=${sale.sale} class="sale">
      <${SaleHead} show=${show} sale=${sale} />
      <ul class="items">${items.map((item) => draw(sale, item, ""))}</ul>
    </section>`)}
    ${more > 0 && html`<button class="button" type="button" onClick=${() => { most.value += FIRST; }}>
      ${t("another_items", { n: count(more) })}</button>`}
  </div>`;
  drawn.current = kept;
  return view;
}

const TERMS = ["sale", "state", "opens_at_ms", "closes_at_ms", "currency"];
const sameTerms = (a, b) => TERMS.every((term) => a[term] === b[term]);

function SaleHead({ show, sale }) {
  const phase = useMemo(() => computed(() => phaseOf(sale, show.second.value)), [sale, show]).value, now = show.now();
  return html`<header class="sale-head">
    <h3>${sale.title}</h3>
    <p class="row small">
      ${phase === "before" && html`<span class="badge warn">${t("sale_before", { time: moment(sale.opens_at_ms, now) })}</span>${" "}
        <${Countdown} show=${show} until=${sale.opens_at_ms} />`}
      ${phase === "open" && html`<span class="badge good">${t("sale_open")}</span>
        ${sale.closes_at_ms - now < 86_400_000 && html`<span class="soft number">
          ${t("closes", { time: moment(sale.closes_at_ms, now) })} · <${Countdown} show=${show} until=${sale.closes_at_ms} /></span>`}`}
      ${phase === "paused" && html`<span class="badge warn">${t("sale_paused")}</span>`}
      ${phase === "over" && html`<span class="badge">${t("sale_over")}</span>`}
    </p>
  </header>`;
}

function Item({ show, basket, sale, item, tag = "li", brief = false, isPinned = false }) {
  const offer = basket.offer(sale, item), held = heldUnits(basket.orders.value, sale.sale, item.sku);
  const most = mostUnits(item, held), Heading = brief ? "h2" : isPinned ? "h3" : "h4";
  return html`<${tag} class=${`item ${isPinned ? "explained" : ""} ${brief ? "brief" : ""}`}>
    <${Picture} url=${item.image_url} title=${item.title} size=${brief ? 48 : 72} />
    <div class="item-words">
      ${isPinned && html`<p class="explaining"><${Icon} name="pin" size=${13} /> ${t("explaining")}</p>`}
      <${Heading} class="item-title">${item.title}<//>
      <${Price} show=${show} sale=${sale} item=${item} offer=${offer} />
      <${Stock} item=${item} />
    </div>
    <div class="item-acts">
      ${!brief && most > 1 && html`<${Stepper} basket=${basket} sale=${sale} item=${item} offer=${offer} most=${most} />`}
      <${TapButton} show=${show} basket=${basket} sale=${sale} item=${item} />
    </div>
    ${!brief && html`<${Details} basket=${basket} sale=${sale} item=${item} offer=${offer} />`}
  <//>`;
}

function Stepper({ basket, sale, item, offer, most }) {
  const step = (quantity) => basket.choose(sale, item, { quantity });
  const { quantity, isAsked } = offer;
  return html`<div class="stepper" role="group" aria-label=${`${t("quantity")}: ${item.title}`}>
    <button class="button" type="button" aria-label=${t("less")} disabled=${isAsked || quantity <= 1}
      onClick=${() => step(quantity - 1)}>−</button>
    <output class="number" aria-live="polite">${count(quantity)}</output>
    <button class="button" type="button" aria-label=${t("another_one")} disabled=${isAsked || quantity >= most}
      onClick=${() => step(quantity + 1)}>+</button>
  </div>`;
}

/** What few need: which coupon, where to fetch it. */
function Details({ basket, sale, item, offer }) {
  const choose = (choice) => basket.choose(sale, item, choice), { possible } = offer;
  return html`<div class="item-more">
    ${possible && html`<label class="check"><input type="checkbox" checked=${offer.claim !== null} disabled=${offer.isAsked}
        onChange=${(event) => choose({ coupon: event.currentTarget.checked })} />
      <span>${t("use_coupon", { worth: worth(possible), title: possible.title })}</span></label>`}
    <details><summary aria-label=${`${t("item_details")}: ${item.title}`}>${t("item_details")}</summary>
      <p class="small soft">${t("item_limit", { n: item.limit_per_viewer })}</p>
      <label class="check"><input type="checkbox" checked=${offer.pickup} disabled=${offer.isAsked}
          onChange=${(event) => choose({ pickup: event.currentTarget.checked })} />
        <span>${t("pickup_wish")}</span></label>
    </details>
  </div>`;
}
