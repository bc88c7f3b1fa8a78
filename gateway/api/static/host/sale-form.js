// A new sale. What was typed stays when the form is closed or the send fails, until the sale is made.

import { html, toast, useRef, useSignal, Button } from "../ui/ui.js";
import { CURRENCIES } from "./typed-money.js";
import { Choice, Field } from "./field.js";
import { ItemFields } from "./item-fields.js";
import { blankDraft, blankItem, bodyOf, COUNTDOWNS, DISPLAYS, LASTS, wrongIn } from "./sale-draft.js";
import { showFirstError, useSending } from "./sending.js";
import { typedTime, zone } from "./times.js";
import { language } from "../ui/words.js";
import { t } from "./sale-words.js";

const kept = new Map(); // by room: the draft of a form that was closed
const MOST_ITEMS = 200, MOST_KEPT = 20;

const OF_SALE = "title|currency|opens_at|closes_at|pay_within_s|stock_display";
const OF_ITEM = "sku|title|price_minor|list_price_minor|floor_minor|stock|limit_per_viewer|image_url";
const KNOWN = new RegExp(String.raw`^(${OF_SALE}|items\[\d+\]\.(${OF_ITEM}|prices(\[\d+\]\.(from|price_minor))?))$`);

const QUARTER_MS = 900_000, nextQuarter = (now) => Math.ceil((now + QUARTER_MS) / QUARTER_MS) * QUARTER_MS;

function firstDraft(desk) {
  const room = desk.room.value, blank = blankDraft(desk.sales.value.at(-1)?.currency ?? (language.value === "zh" ? "CNY" : "EUR"));
  // A show that is on wants a countdown; one that is planned, its own start.
  if (room.state === "live") blank.opens = "in";
  else blank.opens_at = typedTime(Math.max(Date.parse(room.starts_at ?? "") || 0, nextQuarter(desk.now())));
  return blank;
}

export function SaleForm({ desk, done }) {
  const room = desk.room.value.room, form = useRef(null), wasKept = useRef(kept.has(room));
  const draft = useSignal(kept.get(room) ?? firstDraft(desk));
  const { errors, busy, send } = useSending({ makes: `sale of ${room}`, known: (field) => KNOWN.test(field) });
  const value = draft.value, error = (name) => errors.value[name];
  const change = (facts) => {
    draft.value = { ...draft.value, ...facts };
    kept.set(room, draft.value);
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  };
  const put = (name) => (event) => change({ [name]: event.target.value });
  const putItem = (at, item) => change({ items: draft.value.items.map((each, no) => (no === at ? item : each)) });

  const submit = async (event) => {
    event.preventDefault();
    const typed = draft.value, wrong = wrongIn(typed);
    errors.value = Object.fromEntries(Object.entries(wrong).map(([name, what]) => [name, t(...[what].flat())]));
    const sale = Object.keys(wrong).length ? null
      : await send(typed, () => bodyOf(typed, { room, now: desk.now() }), (body, key) => desk.http.post("/v1/sales", body, { key }));
    if (!sale) return showFirstError(form.current);
    kept.delete(room);
    toast(t("created"), "good");
    await desk.refreshRoom();
    return done(sale);
  };
  const discard = () => {
    kept.delete(room);
    wasKept.current = false;
    errors.value = {};
    draft.value = firstDraft(desk);
  };

  return html`<form class="stack sale-form" ref=${form} onSubmit=${submit} novalidate>
    ${wasKept.current && html`<div class="note spread"><span>${t("draftKept")}</span><${Button} kind="quiet"
        does=${discard}>${t("discard")}<//></div>`}
    <div class="row top">
      <${Field} id="sale-title" kind="grow" label=${t("title")} error=${error("title")}>
        <input class="input" maxlength="200" autocomplete="off" value=${value.title} onInput=${put("title")} /><//>
      <${Field} id="sale-currency" kind="short" label=${t("currency")} error=${error("currency")}>
        <input class="input" list="currencies" maxlength="3" autocapitalize="characters" autocomplete="off" value=${value.currency}
          onInput=${(event) => change({ currency: event.target.value.toUpperCase().trim() })} /><//>
      <datalist id="currencies">${CURRENCIES.map((each) => html`<option value=${each} />`)}</datalist>
    </div>

    <${Choice} name="opens" label=${t("opens")} of=${["now", "in", "at"].map((each) => [each, t(`opens_${each}`)])} value=${value.opens}
        onPick=${(opens) => change({ opens })} />
    ${value.opens === "now" && html`<p class="note warn">${t("opensNowWhy")} ${error("opens_at")}</p>`}
    ${value.opens === "in" && html`<${Quick} of=${COUNTDOWNS} say=${(n) => t("seconds", { n })} value=${value.opens_in_s}
        onPick=${(n) => change({ opens_in_s: n })} />
      <${Field} id="sale-opens-in" kind="short" label=${t("opensInS")} error=${error("opens_at")}>
        <input class="input" inputmode="numeric" value=${value.opens_in_s} onInput=${put("opens_in_s")} /><//>`}
    ${value.opens === "at" && html`<${Field} id="sale-opens-at" label=${t("opensAtTime")} hint=${t("timeHint", { zone: zone() })}
        error=${error("opens_at")}>
        <input class="input" type="datetime-local" value=${value.opens_at} onInput=${put("opens_at")} /><//>`}

    <${Choice} name="closes" label=${t("closes")} of=${["for", "at"].map((each) => [each, t(`closes_${each}`)])} value=${value.closes}
        onPick=${(closes) => change({ closes })} />
    ${value.closes === "for" && html`<${Quick} of=${LASTS} say=${(n) => t("minutes", { n })} value=${value.lasts_min}
        onPick=${(n) => change({ lasts_min: n })} />
      <${Field} id="sale-lasts" kind="short" label=${t("lastsMin")} error=${error("closes_at")}>
        <input class="input" inputmode="numeric" value=${value.lasts_min} onInput=${put("lasts_min")} /><//>`}
    ${value.closes === "at" && html`<${Field} id="sale-closes-at" label=${t("closesAtTime")} hint=${t("timeHint", { zone: zone() })}
        error=${error("closes_at")}>
        <input class="input" type="datetime-local" value=${value.closes_at} onInput=${put("closes_at")} /><//>`}

    <div class="row even top">
      <${Field} id="sale-pay" label=${t("payWithin")} hint=${t("payHint")} error=${error("pay_within_s")}>
        <input class="input" inputmode="numeric" value=${value.pay_min} onInput=${put("pay_min")} /><//>
      <${Field} id="sale-display" label=${t("display")} error=${error("stock_display")}>
        <select class="input" value=${value.stock_display} onChange=${put("stock_display")}>
          ${DISPLAYS.map((each) => html`<option value=${each}>${t(`display_${each}`)}</option>`)}</select><//>
    </div>

    <h3>${t("items")}</h3>
    ${value.items.map((item, at) => html`<${ItemFields} key=${item.id} item=${item} at=${at} currency=${value.currency} error=${error}
      change=${(changed) => putItem(at, changed)}
      remove=${value.items.length > 1 ? () => change({ items: value.items.filter((each) => each !== item) }) : null} />`)}
    ${value.items.length < MOST_ITEMS && html`<${Button}
        does=${() => change({ items: [...value.items, blankItem()] })}>${t("addItem")}<//>`}

    ${error("") && html`<p class="note bad" role="alert">${error("")}</p>`}
    <div class="row end form-foot"><button type="submit" class=${`button large ${value.opens === "now" ? "danger" : "primary"}`}
        aria-busy=${busy.value ? "true" : null}>
      ${t(value.opens === "now" ? "createOpen" : "create")}</button></div>
  </form>`;
}

function Quick({ of, say, value, onPick }) {
  return html`<div class="row quick">${of.map((n) => html`<button key=${n} type="button" class="button"
      aria-pressed=${String(String(n) === value.trim())}
    onClick=${() => onPick(String(n))}>${say(n)}</button>`)}</div>`;
}
