// A sale as it is typed, and the body it becomes. No drawing: texts in, a body or what is wrong out, by the gateway's own names
// of its fields (`items[0].price_minor`).

import { amountTyped, digitsOf } from "./typed-money.js";
import { timeTyped } from "./times.js";

export const COUNTDOWNS = [10, 30, 60, 120, 300], LASTS = [1, 3, 5, 10, 15, 20], DISPLAYS = ["exact", "low", "hidden"];
const MINUTE_MS = 60_000, MOST_MINUTES = 20_160;
let made = 0;

export const blankStep = () => ({ id: ++made, minutes: "", price: "" });
export const blankItem = () => ({
  id: ++made, sku: "", title: "", price: "", list_price: "", floor: "", stock: "", limit: "1", image_url: "", steps: [],
});
export const blankDraft = (currency) => ({
  title: "", currency, opens: "at", opens_at: "", opens_in_s: "60", closes: "for", lasts_min: "10", closes_at: "",
  pay_min: "5", stock_display: "exact", items: [blankItem()],
});

/** Texts by field, as keys of the words or `[key, facts]`; empty when it can be sent. */
export function wrongIn(draft) {
  const wrong = {}, whole = (text) => /^\d{1,9}$/.test(text.trim());
  const between = (text, from, to) => whole(text) && Number(text) >= from && Number(text) <= to;
  const amount = (name, text, isNeeded) => {
    if (!text.trim()) { if (isNeeded) wrong[name] = "needed"; } else if (amountTyped(text, draft.currency) === null) {
      wrong[name] = digitsOf(draft.currency) ? "noAmount" : "noAmountWhole";
    }
  };
  if (!draft.title.trim()) wrong.title = "needed";
  if (!/^[A-Z]{3}$/.test(draft.currency)) wrong.currency = "noCurrency";
  if (draft.opens === "at" && !timeTyped(draft.opens_at)) wrong.opens_at = draft.opens_at ? "noTime" : "needed";
  if (draft.opens === "in" && !between(draft.opens_in_s, 10, 300)) wrong.opens_at = ["between", { from: 10, to: 300 }];
  if (draft.closes === "at" && !timeTyped(draft.closes_at)) wrong.closes_at = draft.closes_at ? "noTime" : "needed";
  if (draft.closes === "for" && !between(draft.lasts_min, 1, MOST_MINUTES)) wrong.closes_at = ["between", { from: 1, to: MOST_MINUTES }];
  if (!between(draft.pay_min, 1, 1440)) wrong.pay_within_s = ["between", { from: 1, to: 1440 }];
  draft.items.forEach((item, at) => {
    const place = `items[${at}]`;
    if (!item.sku.trim()) wrong[`${place}.sku`] = "needed";
    if (!item.title.trim()) wrong[`${place}.title`] = "needed";
    amount(`${place}.price_minor`, item.price, true);
    amount(`${place}.list_price_minor`, item.list_price, false);
    amount(`${place}.floor_minor`, item.floor, false);
    if (!whole(item.stock)) wrong[`${place}.stock`] = item.stock.trim() ? "noWhole" : "needed";
    if (!between(item.limit, 1, 100_000_000)) wrong[`${place}.limit_per_viewer`] = item.limit.trim() ? "noWhole" : "needed";
    item.steps.forEach((step, no) => {
      if (!whole(step.minutes)) wrong[`${place}.prices[${no}].from`] = step.minutes.trim() ? "noWhole" : "needed";
      amount(`${place}.prices[${no}].price_minor`, step.price, true);
      const price = amountTyped(step.price, draft.currency), floor = amountTyped(item.floor, draft.currency);
      if (price !== null && floor !== null && price < floor) wrong[`${place}.prices[${no}].price_minor`] = "underFloor";
    });
  });
  return wrong;
}

/** The body at an instant of the gateway; of a draft in which nothing is wrong. */
export function bodyOf(draft, { room, now }) {
  const ahead = draft.opens === "in" ? Number(draft.opens_in_s) * 1_000 : 0;
  const opens = draft.opens === "at" ? Date.parse(timeTyped(draft.opens_at)) : now + ahead;
  const closes = draft.closes === "at" ? Date.parse(timeTyped(draft.closes_at)) : opens + Number(draft.lasts_min) * MINUTE_MS;
  const at = (ms) => new Date(ms).toISOString(), minor = (text) => amountTyped(text, draft.currency);
  return {
    title: draft.title.trim(), room, currency: draft.currency, opens_at: at(opens), closes_at: at(closes),
    pay_within_s: Number(draft.pay_min) * 60, stock_display: draft.stock_display,
    items: draft.items.map((item) => ({
      sku: item.sku.trim(), title: item.title.trim(), price_minor: minor(item.price), stock: Number(item.stock),
      limit_per_viewer: Number(item.limit),
      ...(item.list_price.trim() && { list_price_minor: minor(item.list_price) }),
      ...(item.floor.trim() && { floor_minor: minor(item.floor) }),
      ...(item.image_url.trim() && { image_url: item.image_url.trim() }),
      ...(item.steps.length && { prices: item.steps.map((step) => (
        { from: at(opens + Number(step.minutes) * MINUTE_MS), price_minor: minor(step.price) })) }),
    })),
  };
}
