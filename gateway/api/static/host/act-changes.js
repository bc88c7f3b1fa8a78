// What an act of the log changed, in words: `{name, before, after}` by part. `before` is null where there was nothing, or nothing
// that an act of its kind is told by; `name` where the act itself says what it is about.

import { clockTime, count, dayTime, money } from "../ui/format.js";
import { shortViewer } from "./people.js";
import { t } from "./act-words.js";

export function changesOf({ act, before, after }, sale) {
  if (before === null && after === null) return [];
  switch (act) {
    case "open": case "pause": case "resume": case "close": return held(before, after);
    case "stock": return texts(before, after, (text) => count(Number(text)), t("stock"));
    case "price": return texts(before, after, (text) => money(Number(text), sale?.currency ?? "CNY"), t("price"));
    case "plan": return texts(before, after, (text) => plan(text, sale?.currency ?? "CNY"));
    case "window": return texts(before, after, times);
    case "drop": return texts(before, after, (text) => dayTime(Number(text.split(" ").at(-1))), t("claimable"));
    case "start": case "end": case "change": case "chat": return parts(before, after);
    default: return said(act, after ?? before);
  }
}

/** Acts on a sale or coupon are kept as short texts. */
function texts(before, after, read, name = "") {
  const shown = (text) => (text === null || text === undefined ? null : read(text));
  return [{ name, before: before === after ? null : shown(before), after: shown(after) }];
}

/** "active 1795…": what the sale was told, and when it opens; the time is said where that changed. */
function held(before, after) {
  const [was, now] = [before, after].map((text) => (text ?? "").split(" "));
  const shown = ([hold, opens_ms], isOther) => (isOther ? t("heldFrom", { hold
    : known(`hold_${hold}`, hold), time: dayTime(Number(opens_ms)) }) : known(`hold_${hold}`, hold));
  return texts(before, after, (text) => shown(text.split(" "), was[1] !== now[1]));
}

const times = (text) => {
  const [opens_ms, closes_ms] = text.split(" ").map(Number);
  return `${t("opensAt", { time: dayTime(opens_ms) })}, ${t("closesAt", { time: dayTime(closes_ms) })}`;
};

function plan(text, currency) {
  let steps;
  try { steps = JSON.parse(text); } catch { steps = text.split(";").filter(Boolean).map((step) => step.split(":").map(Number)); }
  if (!Array.isArray(steps) || !steps.length) return t("noPlan");
  return steps.map(([from_ms, price_minor]) => t("step", { time: clockTime(from_ms, { seconds: true }),
    price: money(price_minor, currency) })).join("; ");
}

/** Acts on the room are kept with each part that changed. */
function parts(before, after) {
  return Object.keys(after ?? before ?? {}).filter((name) => name !== "sale" &&
    JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]))
    .map((name) => ({ name: known(name, name),
      before: before?.[name] === undefined ? null : part(name, before[name]),
      after: part(name, after?.[name]) }));
}

function part(name, value) {
  if (value === null || value === undefined) return t("nothing");
  if (name === "state") return known(`state_${value}`, value);
  if (name === "slow_mode_s") return value ? t("seconds", { n: count(value) }) : t("slowOff");
  if (name === "starts_at") return dayTime(value);
  if (name === "comments" || name === "stock_display") return known(value, value);
  return String(value);
}

/** Acts that are about somebody or something. */
function said(act, it) {
  const one = (text) => [{ name: "", before: null, after: text }];
  const person = it?.viewer && shortViewer(it.viewer);
  switch (act) {
    case "announce": return one(it.text);
    case "pin": case "unpin": return it ? one(it.comment ? t("commentBy", { name: it.name, text: it.text }) : it.title ?? it.sku) : [];
    case "mute": return one(`${person} · ${t("until", { time: dayTime(it.until) })}`);
    case "ban": case "unban": return one(`${person} · ${t(it.shop_wide ? "fromShop" : "fromRoom")}`);
    case "ban_word": case "allow_word": return one(it.shop_wide ? t("ofShop", { word: it.word }) : it.word);
    case "retract": return one(it.unpinned ? `${it.comment} · ${t("unpinned")}` : it.comment);
    case "unmute": case "retract_all": return one(it.unpinned ? `${person} · ${t("unpinned")}` : person);
    case "redeem": return [{ name: t("order"), before: null, after: it.order }];
    default: return Object.entries(it ?? {}).filter(([, value]) => value !== null)
      .map(([name, value]) => ({ name: known(name, name), before: null, after: String(value) }));
  }
}

const known = (key, otherwise) => (key in t.tables.en ? t(key) : otherwise);
