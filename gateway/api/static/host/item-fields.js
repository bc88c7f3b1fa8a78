// One item of a sale that is made: its facts, and the plan of its price.

import { html, Button, Icon } from "../ui/ui.js";
import { Field } from "./field.js";
import { blankStep } from "./sale-draft.js";
import { t } from "./sale-words.js";

const MOST_STEPS = 50;

export function ItemFields({ item, at, currency, error, change, remove }) {
  const place = `items[${at}]`, id = (name) => `item-${item.id}-${name}`;
  const put = (name) => (event) => change({ ...item, [name]: event.target.value });
  const text = (name, label, field, more = {}) => html`<${Field} id=${id(name)} label=${label} error=${error(`${place}.${field}`)}
      hint=${more.hint} kind=${more.kind ?? ""}>
    <input class="input" autocomplete="off" maxlength=${more.maxlength ?? 20} inputmode=${more.inputmode ?? null}
        type=${more.type ?? "text"}
      placeholder=${more.placeholder ?? null} value=${item[name]} onInput=${put(name)} /><//>`;
  const money = (name, label, field, hint) => text(name, `${label}, ${currency}`, field, { inputmode: "decimal", hint });
  return html`<fieldset class="item-fields"><legend>${t("item", { n: at + 1 })}</legend>
    ${remove && html`<button type="button" class="button quiet round item-remove" aria-label=${t("removeItem", { n: at + 1 })}
        onClick=${remove}><${Icon} name="close" size=${18} /></button>`}
    <div class="fields">
      ${text("title", t("itemTitle"), "title", { maxlength: 200, kind: "wide" })}
      ${text("sku", t("sku"), "sku", { maxlength: 64 })}
      ${money("price", t("price"), "price_minor")}
      ${text("stock", t("stock"), "stock", { inputmode: "numeric" })}
      ${text("limit", t("limit"), "limit_per_viewer", { inputmode: "numeric" })}
      ${money("list_price", t("listPrice"), "list_price_minor", t("listHint"))}
      ${money("floor", t("floor"), "floor_minor", t("floorHint"))}
      ${text("image_url", t("image"), "image_url", { type: "url", maxlength: 2000, inputmode: "url", kind: "wide", hint: t("optional") })}
    </div>
    <details open=${item.steps.length > 0}><summary>${t("plan")}</summary>
      <${StepFields} steps=${item.steps} place=${place} error=${error} currency=${currency}
          change=${(steps) => change({ ...item, steps })} />
    </details>
  </fieldset>`;
}

/** `steps`: `{id, minutes, price}`, as they are typed. */
export function StepFields({ steps, place, error, currency, change, hint = t("planHint"), after = t("stepMinutes") }) {
  const put = (no, name) => (event) => change(steps.map((each, at) => (at === no ? { ...each, [name]: event.target.value } : each)));
  return html`<div class="stack tight steps">
    <p class="soft small">${hint}</p>
    ${error(`${place}.prices`) && html`<p class="error" role="alert">${error(`${place}.prices`)}</p>`}
    ${steps.map((step, no) => html`<div key=${step.id} class="row top nowrap">
      <${Field} id=${`step-${step.id}-minutes`} label=${after} error=${error(`${place}.prices[${no}].from`)}>
        <input class="input" inputmode="numeric" value=${step.minutes} onInput=${put(no, "minutes")} /><//>
      <${Field} id=${`step-${step.id}-price`} label=${`${t("stepPrice")}, ${currency}`}
          error=${error(`${place}.prices[${no}].price_minor`)}>
        <input class="input" inputmode="decimal" value=${step.price} onInput=${put(no, "price")} /><//>
      <button type="button" class="button quiet round step-remove" aria-label=${t("removeStep", { n: no + 1 })}
        onClick=${() => change(steps.filter((each) => each !== step))}><${Icon} name="close" size=${18} /></button>
    </div>`)}
    ${steps.length < MOST_STEPS && html`<div><${Button} does=${() => change([...steps, blankStep()])}><${Icon} name="plus"
        size=${16} />${t("addStep")}<//></div>`}
  </div>`;
}
