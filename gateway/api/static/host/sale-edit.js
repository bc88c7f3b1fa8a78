// What of a sale may be changed once it is made: its title, its window, and what viewers see of its stock.

import { html, toast, useRef, useSignal } from "../ui/ui.js";
import { Field } from "./field.js";
import { DISPLAYS } from "./sale-draft.js";
import { showFirstError, useSending } from "./sending.js";
import { timeTyped, typedTime, zone } from "./times.js";
import { t } from "./sale-words.js";

const FIELDS = ["title", "opens_at", "closes_at", "stock_display"];

export function SaleEdit({ desk, sale, done }) {
  const first = useRef({ title: sale.title, opens_at: typedTime(sale.opens_at), closes_at: typedTime(sale.closes_at),
    stock_display: sale.stock_display });
  const draft = useSignal(first.current), form = useRef(null);
  const { errors, busy, send } = useSending({ known: (field) => FIELDS.includes(field) });
  const value = draft.value, error = errors.value, mayMove = sale.state === "scheduled";
  const put = (name) => (event) => { draft.value = { ...draft.value, [name]: event.target.value }; };

  const submit = async (event) => {
    event.preventDefault();
    const typed = draft.value, changed = FIELDS.filter((name) => typed[name] !== first.current[name]), wrong = {};
    for (const name of ["opens_at", "closes_at"]) if (changed.includes(name) && !timeTyped(typed[name])) wrong[name] = t("noTime");
    if (!typed.title.trim()) wrong.title = t("needed");
    if (!changed.length) wrong[""] = t("nothingChanged");
    errors.value = wrong;
    const answer = Object.keys(wrong).length ? null : await send(typed,
      () => Object.fromEntries(changed.map((name) => [name, name.endsWith("_at") ? timeTyped(typed[name]) : typed[name].trim()])),
      (body) => desk.http.patch(`/v1/sales/${encodeURIComponent(sale.sale)}`, body));
    if (!answer) return showFirstError(form.current);
    toast(t("saved"), "good");
    done();
    return desk.refreshRoom().then(() => desk.refreshSale(sale.sale));
  };

  return html`<form class="stack" ref=${form} onSubmit=${submit} novalidate>
    <${Field} id="edit-title" label=${t("title")} error=${error.title}>
      <input class="input" maxlength="200" value=${value.title} onInput=${put("title")} /><//>
    <${Field} id="edit-opens" label=${t("opensAtTime")} hint=${mayMove ? t("timeHint", { zone: zone() }) : t("opensChange")}
        error=${error.opens_at}>
      <input class="input" type="datetime-local" step="1" disabled=${!mayMove} value=${value.opens_at} onInput=${put("opens_at")} /><//>
    <${Field} id="edit-closes" label=${t("closesAtTime")} hint=${t("timeHint", { zone: zone() })} error=${error.closes_at}>
      <input class="input" type="datetime-local" step="1" value=${value.closes_at} onInput=${put("closes_at")} /><//>
    <${Field} id="edit-display" label=${t("display")} error=${error.stock_display}>
      <select class="input" value=${value.stock_display} onChange=${put("stock_display")}>
        ${DISPLAYS.map((each) => html`<option value=${each}>${t(`display_${each}`)}</option>`)}</select><//>
    ${error[""] && html`<p class="note bad" role="alert">${error[""]}</p>`}
    <div class="row end"><button type="submit" class="button primary" aria-busy=${busy.value ? "true" : null}>${t("save")}</button></div>
  </form>`;
}
