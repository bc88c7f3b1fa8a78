// Making a coupon: its kind, what it is worth, how many there are, when and for what it is good.

import { html, useRef, useSignal } from "../ui/ui.js";
import { checkCoupon } from "./coupon-check.js";
import { Choice, Field } from "./field.js";
import { showFirstError, useSending } from "./sending.js";
import { typedTime, zone } from "./times.js";
import { t } from "./coupon-words.js";

export const KINDS = ["amount", "percent", "random"];
const WEEK_MS = 7 * 86_400_000;
const FIELDS = new Set(["title", "value_minor", "percent", "min_minor", "max_minor", "budget_minor", "threshold_minor", "copies",
  "limit_per_viewer",
  "claim_from", "claim_until", "valid_until"]);

export function CouponForm({ desk, onMade }) {
  const sales = desk.sales.value, form = useRef(null);
  const draft = useSignal({
    title: "", kind: "amount", currency: sales[0]?.currency ?? "CNY", value_minor: "", percent: "10",
      min_minor: "", max_minor: "", budget_minor: "",
    threshold_minor: "", copies: "100", limit_per_viewer: "1", opens: "drop", claim_from: typedTime(desk.now()), claim_until: "",
    valid_until: typedTime(desk.now() + WEEK_MS), room: true, sales: [],
  });
  const { errors, busy, send } = useSending({ makes: `coupon in ${desk.room.value?.room}`, known: (field) => FIELDS.has(field) });
  const typed = draft.value;
  const set = (changes) => {
    draft.value = { ...typed, ...changes };
    if (Object.keys(errors.value).length) errors.value = checkCoupon(draft.value, here).wrong; // what is mended is not said any more
  };
  const put = (name) => (event) => set({ [name]: event.target.value });
  const here = { sales, room: desk.room.value?.room, now: desk.now() };
  const { means } = checkCoupon(typed, here);

  const make = async (event) => {
    event.preventDefault();
    const { body, wrong } = checkCoupon(typed, here);
    errors.value = wrong;
    const answer = Object.keys(wrong).length ? null :
      await send(typed, () => body, (content, key) => desk.http.post("/v1/coupons", content, { key }));
    if (answer) onMade(answer);
    else showFirstError(form.current);
  };

  const field = (name, label, { hint, ...input } = {}) => html`<${Field} key=${name} id=${`coupon-${name}`} label=${label}
    hint=${errors.value[name] ? null : hint} error=${errors.value[name]}>
    <input class="input" autocomplete="off" value=${typed[name]} onInput=${put(name)} ...${input} /><//>`;
  const amount = (name, hint) => field(name, t(name, { currency: typed.currency }), { hint, inputmode: "decimal" });
  const number = (name, hint) => field(name, t(name), { hint, inputmode: "numeric" });
  const time = (name, hint) => field(name, t(name), { hint, type: "datetime-local" });
  const currencies = [...new Set(["CNY", "USD", "EUR", "JPY", typed.currency, ...sales.map(({ currency }) => currency)])];
  const ofCurrency = sales.filter(({ currency }) => currency === typed.currency);

  return html`<form class="stack" ref=${form} novalidate onSubmit=${make}>
    ${field("title", t("title"), { maxlength: 200 })}
    <${Choice} name="coupon-kind" label=${t("kind")} value=${typed.kind} onPick=${(kind) => set({ kind })}
      of=${KINDS.map((each) => [each, t(`kind_${each}`)])} />
    <p class="soft small">${t(`kind_${typed.kind}_is`)}</p>
    <div class="form-grid">
      ${typed.kind === "amount" && amount("value_minor")}
      ${typed.kind === "percent" && number("percent", t("percentHint"))}
      ${typed.kind === "random" && [amount("min_minor"), amount("max_minor"), amount("budget_minor", means)]}
      ${amount("threshold_minor", t("thresholdHint"))}
      <${Field} id="coupon-currency" label=${t("currency")}><select class="input" value=${typed.currency} onChange=${put("currency")}>
        ${currencies.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select><//>
      ${number("copies")}
      ${number("limit_per_viewer")}
    </div>
    <${Choice} name="coupon-opens" label=${t("claimOpens")} value=${typed.opens} onPick=${(opens) => set({ opens })}
      of=${[["drop", t("byDrop")], ["time", t("atTime")]]} />
    <div class="form-grid">
      ${typed.opens === "time" && time("claim_from")}
      ${time("claim_until", t("claimUntilHint"))}
      ${time("valid_until", t("timesIn", { zone: zone() }))}
    </div>
    <label class="row check"><input type="checkbox" checked=${typed.room}
      onChange=${(event) => set({ room: event.target.checked })} /> ${t("forThisRoom")}</label>
    ${ofCurrency.length > 0 && html`<fieldset class="choice"><legend>${t("goodFor")}</legend><p class="soft small">${t("goodForHint")}</p>
      ${ofCurrency.map(({ sale, title }) => html`<label key=${sale} class="row check"><input type="checkbox"
        checked=${typed.sales.includes(sale)}
        onChange=${(event) => set({ sales: event.target.checked ? [...typed.sales, sale]
          : typed.sales.filter((each) => each !== sale) })} /> ${title}</label>`)}</fieldset>`}
    ${errors.value[""] && html`<p class="note bad" role="alert">${errors.value[""]}</p>`}
    <div class="row end"><button type="submit" class="button primary" aria-busy=${busy.value ? "true" : null}>${t("make")}</button></div>
  </form>`;
}
