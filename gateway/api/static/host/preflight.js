// The pre-flight: whether everything a sale stands on is as it should be, before its button is live.

import { html, signal, useSignal, Button, Icon } from "../ui/ui.js";
import { clockTime } from "../ui/format.js";
import { language } from "../ui/words.js";
import { explain } from "./errors.js";
import { Field } from "./field.js";
import { t } from "./preflight-words.js";
import { told } from "./told.js";

const GOOD_FOR_MS = 600_000, MOST_KEPT = 50;

// By sale: `{report, at, shape, accepted}`; kept while the page is, so that a closed dialog forgets nothing.
const kept = signal(new Map());
const expected = signal({ viewers: "", orders: "" });

/** What the sale was when it was looked at; its counters may move, and of a plan the price in force. */
const shapeOf = (sale) => JSON.stringify([sale.opens_at, sale.closes_at,
  sale.items.map((item) => [item.sku, item.prices ?? item.price_minor, item.stock])]);

/** Warnings that what comes next does not answer by itself: a start answers that the room is not live. */
const openWarnings = (report, answered) => report.lines.filter((line) => line.level === "warn" && !answered.includes(line.check));

/** "none", "old", "changed", "fail", "warn" (to be accepted), or "go". `answered`: checks whose warnings the act itself answers. */
export function readiness(sale, now, answered = []) {
  const found = kept.value.get(sale.sale);
  if (!found) return "none";
  if (now - found.at > GOOD_FOR_MS) return "old";
  if (found.shape !== shapeOf(sale)) return "changed";
  if (found.report.level === "fail") return "fail";
  return openWarnings(found.report, answered).length && !found.accepted ? "warn" : "go";
}

const keep = (sale, found) => { kept.value = new Map([...kept.value, [sale, found]].slice(-MOST_KEPT)); };

async function look(desk, sale) {
  const asked = new URLSearchParams();
  if (expected.value.viewers) asked.set("expected_viewers", expected.value.viewers);
  if (expected.value.orders) asked.set("expected_orders", expected.value.orders);
  const report = await desk.http.get(`/v1/sales/${encodeURIComponent(sale.sale)}/preflight?${asked}`);
  const present = desk.sales.peek().find((each) => each.sale === sale.sale) ?? sale;
  keep(sale.sale, { report, at: desk.now(), shape: shapeOf(present), accepted: false });
}

/** For one sale or some; `sales` are looked at one after the other, as the gateway does it. */
export function Preflight({ desk, sales, answered = [] }) {
  const error = useSignal(null), running = useSignal(false);
  const isOff = (text) => text !== "" && !/^\d{1,9}$/.test(text);
  const offViewers = isOff(expected.value.viewers), offOrders = isOff(expected.value.orders);
  const run = async () => {
    error.value = null;
    running.value = true;
    try {
      for (const sale of sales) await look(desk, sale);
    } catch (failed) { error.value = explain(failed); } finally { running.value = false; }
  };
  const put = (name) => (event) => { expected.value = { ...expected.value, [name]: event.target.value.replaceAll(/[\s,]/g, "") }; };
  return html`<section class="preflight stack">
    <p class="soft small">${t("why")}</p>
    <div class="row even top">
      <${Field} id="expected-viewers" label=${t("viewers")} hint=${t("viewersHint")} error=${offViewers && t("notWhole")}>
        <input class="input" inputmode="numeric" autocomplete="off" value=${expected.value.viewers} onInput=${put("viewers")} /><//>
      <${Field} id="expected-orders" label=${t("orders")} hint=${t("ordersHint")} error=${offOrders && t("notWhole")}>
        <input class="input" inputmode="numeric" autocomplete="off" value=${expected.value.orders} onInput=${put("orders")} /><//>
    </div>
    <${Button} does=${run} disabled=${offViewers || offOrders}>
      ${running.value ? t("running") : t(sales.every((sale) => kept.value.has(sale.sale)) ? "runAgain" : "run")}<//>
    ${error.value && html`<p class="note bad" role="alert">${t("failed", { why: error.value })}</p>`}
    ${sales.map((sale) => html`<${Report} key=${sale.sale} desk=${desk} sale=${sale} named=${sales.length > 1} answered=${answered} />`)}
  </section>`;
}

const MARKS = { ok: ["check", "good"], warn: ["warn", "warn"], fail: ["close", "bad"] };

function Report({ desk, sale, named, answered }) {
  const found = kept.value.get(sale.sale), state = readiness(sale, desk.second.value, answered);
  const lines = (level) => found?.report.lines.filter((line) => line.level === level) ?? [];
  const fails = lines("fail"), warns = lines("warn"), fine = lines("ok"), toAccept = found ? openWarnings(found.report, answered) : [];
  const level = fails.length ? "fail" : toAccept.length ? "warn" : "ok";
  return html`<div class="preflight-report stack tight" role="status">
    ${named && html`<h3>${sale.title}</h3>`}
    ${!found && html`<p class="soft">${t("never")}</p>`}
    ${found && html`
      <p class=${`note ${{ ok: "good", warn: "warn", fail: "bad" }[level]}`}>
        ${t({ ok: "verdictOk", warn: "verdictWarn", fail: "verdictFail" }[level], { n: fails.length || toAccept.length })}
        <span class="small"> ${t("at", { time: clockTime(found.report.at, { seconds: true }) })}</span></p>
      ${(state === "old" || state === "changed") && html`<p class="note warn">${t(state)}</p>`}
      <ul class="lines">${[...fails, ...warns].map((line) => html`<${Line} line=${line} answered=${answered.includes(line.check)} />`)}</ul>
      ${fine.length > 0 && html`<details><summary>${t("fine", { n: fine.length })}</summary>
        <ul class="lines">${fine.map((line) => html`<${Line} line=${line} />`)}</ul></details>`}
      ${toAccept.length > 0 && !fails.length && html`<label class="tick"><input type="checkbox" checked=${found.accepted}
        onChange=${(event) => keep(sale.sale, { ...found, accepted: event.target.checked })} /><span>${t("accept")}</span></label>`}`}
  </div>`;
}

function Line({ line, answered = false }) {
  const isAnswered = answered && line.level === "warn", [icon, kind] = MARKS[line.level];
  const message = told(line.message, language.value), todo = line.todo && told(line.todo, language.value);
  return html`<li class=${`line ${kind}`}>
    <span class="line-mark"><${Icon} name=${icon} size=${16} /><span class="visually-hidden">${t(line.level)}: </span></span>
    <span><b>${t(`check_${line.check}`).replace(/^check_/, "")}</b> <span lang=${message.lang}>${message.text}</span>
      ${isAnswered && html`<span class="line-todo">${t("answered")}</span>`}
      ${todo && !isAnswered && html`<span class="line-todo" lang=${todo.lang}>${todo.text}</span>`}</span>
  </li>`;
}
