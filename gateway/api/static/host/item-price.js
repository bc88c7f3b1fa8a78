// What an item costs: a price in force at once, and the plan with the step that is in force.

import { html, useSignal, Button } from "../ui/ui.js";
import { dayTime, money } from "../ui/format.js";
import { amountTyped, typedAmount } from "./typed-money.js";
import { Field } from "./field.js";
import { StepFields } from "./item-fields.js";
import { blankStep } from "./sale-draft.js";
import { explain, whatIsWrong } from "./errors.js";
import { sure } from "./sure.js";
import { t } from "./item-words.js";

export function ItemPrice({ desk, sale, item, done }) {
  return html`<div class="stack"><${NewPrice} desk=${desk} sale=${sale} item=${item} done=${done} />
    <${Plan} desk=${desk} sale=${sale} item=${item} done=${done} /></div>`;
}

const change = (desk, sale, item, facts, words) =>
  desk.act("PATCH", `/v1/sales/${encodeURIComponent(sale.sale)}`, { items: [{ sku: item.sku, ...facts }] }, words);

function NewPrice({ desk, sale, item, done }) {
  const typed = useSignal(typedAmount(item.price_minor, sale.currency)), error = useSignal(null);
  const submit = async (event) => {
    event.preventDefault();
    const price = amountTyped(typed.value, sale.currency);
    error.value = price === null ? t("noAmount") : price < (item.floor_minor ?? 0) ? t("underFloor")
      : price === item.price_minor && !item.prices ? t("samePrice") : null;
    if (error.value) return;
    const failed = (why) => {
      error.value = why.param ? whatIsWrong(why) : explain(why);
      return "";
    };
    const answer = await change(desk, sale, item, { price_minor: price }, { done: t("priceSet"), failed });
    if (answer) done();
  };
  return html`<form class="stack tight" onSubmit=${submit} novalidate>
    <p>${t("priceNow", { price: money(item.price_minor, sale.currency) })} <span class="soft">${t("priceWhy")}</span></p>
    <div class="row bottom"><${Field} id="new-price" label=${`${t("newPrice")}, ${sale.currency}`} error=${error.value} kind="grow">
      <input class="input" inputmode="decimal" autocomplete="off" value=${typed.value}
          onInput=${(event) => { typed.value = event.target.value; }} /><//>
      <button type="submit" class="button primary">${t("setPrice")}</button></div>
    ${item.floor_minor !== undefined && html`<p class="soft small">${t("floorIs", { price: money(item.floor_minor, sale.currency) })}</p>`}
    ${item.prices?.length > 0 && html`<p class="note warn">${t("priceEndsPlan")}</p>`}
  </form>`;
}

function Plan({ desk, sale, item, done }) {
  const steps = item.prices ?? [], making = useSignal(null), errors = useSignal({}), now = desk.second.value;
  const inForce = steps.findLastIndex((step) => Date.parse(step.from) <= now), price = money(item.price_minor, sale.currency);
  const endPlan = async (facts, text) => {
    done();
    if (!await sure({ title: t("endPlanTitle"), text, action: t("endPlan") })) return;
    await change(desk, sale, item, facts, { done: t("planEnded") });
  };
  const set = async () => {
    const wrong = {}, place = "items[0].prices";
    const prices = making.value.map((step, no) => {
      const minutes = /^\d{1,6}$/.test(step.minutes.trim()) ? Number(step.minutes) : null;
      const price_minor = amountTyped(step.price, sale.currency);
      if (minutes === null) wrong[`${place}[${no}].from`] = t("noWhole");
      if (price_minor === null) wrong[`${place}[${no}].price_minor`] = t("noAmount");
      else if (price_minor < (item.floor_minor ?? 0)) wrong[`${place}[${no}].price_minor`] = t("underFloor");
      return { from: new Date(desk.now() + (minutes ?? 0) * 60_000).toISOString(), price_minor };
    });
    errors.value = wrong;
    if (Object.keys(wrong).length) return;
    const failed = (error) => {
      errors.value = { [error.param?.startsWith(place) ? error.param : place]: error.param ? whatIsWrong(error) : explain(error) };
      return "";
    };
    if (await change(desk, sale, item, { prices }, { done: t("planSet"), failed })) done();
  };
  return html`<section class="stack tight"><h3>${t("planTitle")}</h3>
    ${!steps.length && !making.value && html`<p class="soft">${t("noPlan")}</p>`}
    ${steps.length > 0 && html`<ol class="plan">
      ${inForce < 0 && html`<li class="now"><b class="number">${price}</b><span>${t("planFirst")}</span>
        <span class="badge good">${t("stepNow")}</span></li>`}
      ${steps.map((step, no) => html`<li key=${step.from} class=${no === inForce ? "now" : no < inForce ? "past" : ""}>
        <b class="number">${money(step.price_minor, sale.currency)}</b><span class="number">${dayTime(step.from)}</span>
        <span class=${`badge ${no === inForce ? "good" : ""}`}>
          ${t(no === inForce ? "stepNow" : no < inForce ? "stepPast" : "stepNext")}</span></li>`)}
    </ol>
    <div class="row"><${Button}
        does=${() => endPlan({ price_minor: item.price_minor }, t("endPlanKeepText", { price }))}>${t("endPlanKeep", { price })}<//>
      <${Button} kind="quiet" does=${() => endPlan({ prices: [] }, t("endPlanBackText"))}>${t("endPlanBack")}<//></div>`}
    ${making.value ? html`<${StepFields} steps=${making.value} place="items[0]" error=${(name) => errors.value[name]}
        currency=${sale.currency}
        hint=${t("planHint")} after=${t("fromNow")} change=${(changed) => { making.value = changed; }} />
      <div class="row end"><${Button} kind="primary" disabled=${!making.value.length} does=${set}>${t("setPlan")}<//></div>`
      : html`<div><${Button} kind="quiet"
          does=${() => { making.value = [blankStep()]; }}>${t(steps.length ? "newPlan" : "newPlanNone")}<//></div>`}
  </section>`;
}
