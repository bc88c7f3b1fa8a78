// Units that are added or taken away, with the reason that stands in the log.

import { html, toast, useSignal } from "../ui/ui.js";
import { count } from "../ui/format.js";
import { Choice, Field } from "./field.js";
import { useSending } from "./sending.js";
import { t } from "./item-words.js";

const QUICK = [1, 10, 50, 100];

export function ItemStock({ desk, sale, item, done }) {
  const draft = useSignal({ way: "add", units: "", reason: "" }), value = draft.value;
  const address = `/v1/sales/${encodeURIComponent(sale.sale)}/items/${encodeURIComponent(item.sku)}/stock`;
  const { errors, busy, send } = useSending({ makes: `stock at ${address}`, known: (field) => field === "add" || field === "reason" });
  const put = (facts) => { draft.value = { ...draft.value, ...facts }; };
  const units = /^\d{1,9}$/.test(value.units.trim()) ? Number(value.units) : 0;
  const submit = async (event) => {
    event.preventDefault();
    const wrong = {};
    if (!units) wrong.add = t("noWhole");
    if (!value.reason.trim()) wrong.reason = t("needed");
    errors.value = wrong;
    if (Object.keys(wrong).length) return;
    const make = () => ({ add: value.way === "add" ? units : -units, reason: value.reason.trim() });
    const answer = await send(value, make, async (body, key) => {
      try {
        return await desk.http.post(address, body, { key });
      } catch (error) {
        if (error.code !== "stock_in_use") throw error;
        void desk.refreshSale(sale.sale);
        throw Object.assign(error, { param: "add", message: t("stockInUse", { left: count(item.left ?? 0) }) });
      }
    });
    void desk.refreshSale(sale.sale);
    if (!answer) return;
    toast(t("stockDone", { stock: count(answer.stock) }), "good");
    done();
  };
  const reasons = value.way === "add" ? ["reasonMore", "reasonCount"] : ["reasonDamaged", "reasonCount"];
  return html`<form class="stack" onSubmit=${submit} novalidate>
    <p class="number">${["stock", "left", "held", "paid"].map((name) => `${t(name)} ${count(item[name])}`).join(" · ")}</p>
    <${Choice} name="way" label=${t("units")} of=${[["add", t("add")], ["take", t("take")]]} value=${value.way}
        onPick=${(way) => put({ way })} />
    <div class="row quick">${QUICK.map((n) => html`<button key=${n} type="button" class="button"
        onClick=${() => put({ units: String(units + n) })}>+${n}</button>`)}</div>
    <${Field} id="stock-units" label=${t("units")} error=${errors.value.add}>
      <input class="input" inputmode="numeric" autocomplete="off" value=${value.units}
          onInput=${(event) => put({ units: event.target.value })} /><//>
    <${Field} id="stock-reason" label=${t("reason")} hint=${t("reasonHint")} error=${errors.value.reason}>
      <input class="input" maxlength="200" autocomplete="off" value=${value.reason}
          onInput=${(event) => put({ reason: event.target.value })} /><//>
    <div class="row quick">${reasons.map((each) => html`<button key=${each} type="button" class="button"
        onClick=${() => put({ reason: t(each) })}>${t(each)}</button>`)}</div>
    ${errors.value[""] && html`<p class="note bad" role="alert">${errors.value[""]}</p>`}
    <div class="row end"><button type="submit" class=${`button ${value.way === "add" ? "primary" : "danger"}`}
        aria-busy=${busy.value ? "true" : null}>
      ${t(value.way === "add" ? "stockAdd" : "stockTake", { n: count(units) })}</button></div>
  </form>`;
}
