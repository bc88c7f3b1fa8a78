// Money, numbers and times as people read them, in the page's language.

import { language } from "./words.js";

const kept = new Map();

/** Formatters are dear to make and few: one a language and kind. */
function formatter(kind, make) {
  const key = `${language.value}/${kind}`;
  let found = kept.get(key);
  if (!found) kept.set(key, (found = make(language.value === "zh" ? "zh-CN" : "en-GB")));
  return found;
}

/** Of an amount in the currency's smallest unit: 16800 CNY is ¥168.00. */
export function money(minor, currency) {
  if (minor === null || minor === undefined) return "–";
  let format;
  try {
    format = formatter(`money/${currency}`,
      (tag) => new Intl.NumberFormat(tag, { style: "currency", currency, currencyDisplay: "narrowSymbol" }));
  } catch { return `${minor} ${currency ?? ""}`; }
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
}

export function count(n) {
  // Small whole numbers look alike everywhere, and the first formatter costs a phone a tenth of a second.
  if (Number.isInteger(n) && n >= 0 && n < 1000) return String(n);
  if (n === null || n === undefined) return "–";
  return formatter("count", (tag) => new Intl.NumberFormat(tag, { maximumFractionDigits: 1 })).format(n);
}

/** 12,345 is 12K, or 1.2万. */
export function compact(n) {
  if (n < 10_000) return count(n);
  return formatter("compact", (tag) => new Intl.NumberFormat(tag, { notation: "compact", maximumFractionDigits: 1 })).format(n);
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  return formatter("percent", (tag) => new Intl.NumberFormat(tag, { style: "percent", maximumFractionDigits: 1 })).format(share);
}

const TIME_OF_DAY = { hour: "2-digit", minute: "2-digit", hour12: false };

/** The time of day on this device; `at` is in ms or RFC 3339. */
export function clockTime(at, { seconds = false } = {}) {
  return formatter(`time/${seconds}`,
    (tag) => new Intl.DateTimeFormat(tag, { ...TIME_OF_DAY, ...(seconds ? { second: "2-digit" } : {}) })).format(new Date(at));
}

/** Day and time. */
export function dayTime(at) {
  return formatter("day", (tag) => new Intl.DateTimeFormat(tag, { month: "short", day: "numeric", ...TIME_OF_DAY })).format(new Date(at));
}

const two = (n) => String(n).padStart(2, "0");

/** What is left of a time: 4:05, 1:04:05, 2 d 01:04:05. Never below 0:00; seconds are rounded up, so 0:00 is the moment itself. */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000)), days = Math.floor(s / 86_400), hours = Math.floor(s / 3600) % 24;
  const rest = `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  if (days) return `${days}${language.value === "zh" ? "天 " : " d "}${two(hours)}:${rest}`;
  return hours ? `${hours}:${rest}` : rest.replace(/^0/, "");
}

/** How long something has been: 42 s, 5 min, 3 h. */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000)), zh = language.value === "zh";
  if (s < 60) return zh ? `${s}秒` : `${s} s`;
  if (s < 5400) return zh ? `${Math.round(s / 60)}分钟` : `${Math.round(s / 60)} min`;
  return zh ? `${count(s / 3600)}小时` : `${count(s / 3600)} h`;
}
