// The language of a page: chosen by the browser, switched by hand, kept for the next visit.

import { signal, effect } from "@preact/signals";
import { html } from "./ui.js";

export const LANGUAGES = { en: "English", zh: "中文" };
const KEPT_AS = "peakgate:language";

function chosen() {
  let kept = null;
  try { kept = localStorage.getItem(KEPT_AS); } catch { /* forbidden */ }
  if (kept in LANGUAGES) return kept;
  for (const wanted of navigator.languages ?? [navigator.language]) {
    const short = String(wanted).slice(0, 2).toLowerCase();
    if (short in LANGUAGES) return short;
  }
  return "en";
}

/** "en" or "zh"; whoever reads it in a component is drawn anew when it changes. */
export const language = signal(chosen());

export function setLanguage(wanted) {
  language.value = wanted;
  try { localStorage.setItem(KEPT_AS, wanted); } catch { /* full or forbidden */ }
}

effect(() => { document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en"; });

/**
 * `tables`: by language the texts by key, each a string with `{name}` where a fact goes, or a function of the facts.
 * Returns what looks a text up: `t("left", {n: 3})`. Both languages have the same keys.
 */
export function words(tables) {
  const look = (key, facts) => {
    const text = tables[language.value][key] ?? tables.en[key] ?? key;
    if (typeof text === "function") return text(facts ?? {});
    return facts ? text.replace(/\{(\w+)\}/g, (whole, name) => facts[name] ?? whole) : text;
  };
  look.tables = tables;
  return look;
}

/** `one` or `many`, by the number; only English asks for it. */
export const several = (n, one, many) => (Number(n) === 1 ? one : many);

export function LanguageSwitch() {
  const other = language.value === "zh" ? "en" : "zh";
  return html`<button class="button quiet" type="button" lang=${other === "zh" ? "zh-CN" : "en"}
    onClick=${() => setLanguage(other)}>${LANGUAGES[other]}</button>`;
}
