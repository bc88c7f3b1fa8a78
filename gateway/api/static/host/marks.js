// What was done in the show and what the clock did, in words.

import { html } from "../ui/ui.js";
import { clockTime, money } from "../ui/format.js";
import { t } from "./figure-words.js";

export function Marks({ desk, marks, title }) {
  if (!marks.length) return null;
  return html`<div class="stack tight">${title && html`<h3>${title}</h3>`}
    <ol class="marks">${marks.map(({ at_ms, kind, label }, at) =>
    html`<li key=${`${at_ms}/${kind}/${at}`}>
    <time class="soft small number">${clockTime(at_ms)}</time>
      ${" "}<span class="strong">${t(`mark_${kind}`)}</span>
      ${" "}<span class="soft">${labelled(desk, kind, label)}</span></li>`)}</ol></div>`;
}

/** A price ends with its number, and what is pinned is named by its sku. */
function labelled(desk, kind, label) {
  const currency = desk.report.value?.currency;
  if (kind === "price" && currency) return label.replace(/\d+$/, (minor) => money(Number(minor), currency));
  if (kind === "pin") return desk.sales.value.flatMap(({ items }) => items).find(({ sku }) => sku === label)?.title ?? label;
  return label;
}
