// What was typed of a coupon, as the gateway takes it; and what it would refuse, said before it is sent.

import { count, money } from "../ui/format.js";
import { timeTyped } from "./times.js";
import { amountTyped } from "./typed-money.js";
import { t } from "./coupon-words.js";

const MONEY_OF = { amount: ["value_minor"], percent: [], random: ["min_minor", "max_minor", "budget_minor"] };
// The gateway's own bounds.
const MOST_COPIES = 1_000_000, MOST_MINOR = 9e12, MOST_BUDGET_MINOR = 9e15;

/** `{body, wrong, means}`: the body, by field what is wrong, and what a random budget comes to. */
export function checkCoupon(typed, { sales, room, now }) {
  const wrong = {}, { currency, kind } = typed;
  const body = { title: typed.title.trim(), kind, currency };
  if (!body.title) wrong.title = t("errTitle");
  if (kind === "percent") {
    body.percent = whole(typed.percent);
    if (!isWithin(body.percent, 1, 99)) wrong.percent = t("errPercent");
  }
  for (const name of MONEY_OF[kind]) {
    body[name] = minorOf(typed[name], currency);
    if (!isWithin(body[name], 1, name === "budget_minor" ? MOST_BUDGET_MINOR : MOST_MINOR)) wrong[name] = t("errAmount");
  }
  if (typed.threshold_minor.trim()) {
    body.threshold_minor = minorOf(typed.threshold_minor, currency);
    if (!isWithin(body.threshold_minor, 0, MOST_MINOR)) wrong.threshold_minor = t("errAmount");
  }
  for (const name of ["copies", "limit_per_viewer"]) {
    body[name] = whole(typed[name]);
    if (!isWithin(body[name], 1, MOST_COPIES)) wrong[name] = t("errCopies", { most: count(MOST_COPIES) });
  }
  const means = kind === "random" ? checkRandom(body, wrong) : null;
  checkTimes(typed, body, wrong, now);
  if (typed.room) body.room = room;
  const bound = sales.filter((each) => each.currency === currency && typed.sales.includes(each.sale)).map(({ sale }) => sale);
  if (bound.length) body.sales = bound;
  return { body, wrong, means };
}

/** Every copy is worth the least value, so the budget is at least that many. */
function checkRandom({ min_minor, max_minor, budget_minor, copies, currency }, wrong) {
  if (!wrong.min_minor && !wrong.max_minor && min_minor > max_minor) wrong.max_minor = t("errMost");
  if (wrong.min_minor || wrong.copies) return null;
  const least = min_minor * copies;
  if (!wrong.budget_minor && budget_minor < least) wrong.budget_minor = t("errBudget", { least: money(least, currency) });
  if (wrong.budget_minor || wrong.max_minor) return t("budgetNeeds", { least: money(least, currency) });
  return t("budgetMeans", { average: money(Math.min(max_minor, Math.floor(budget_minor / copies)), currency) });
}

function checkTimes(typed, body, wrong, now) {
  const times = {};
  for (const name of ["claim_from", "claim_until", "valid_until"]) {
    const isAsked = name === "claim_from" ? typed.opens === "time" : name === "valid_until" || typed[name];
    if (!isAsked) continue;
    body[name] = timeTyped(typed[name]) ?? undefined;
    if (body[name]) times[name] = Date.parse(body[name]);
    else wrong[name] = t("errTime");
  }
  const { claim_from, valid_until } = times, claim_until = times.claim_until ?? valid_until;
  if (valid_until <= now) wrong.valid_until = t("errValid");
  if (times.claim_until <= now) wrong.claim_until = t("errUntilPast");
  else if (times.claim_until > valid_until) wrong.claim_until = t("errUntilValid");
  if (claim_from >= claim_until) wrong.claim_from = t("errFromUntil");
}

const minorOf = (text, currency) => amountTyped(text, currency) ?? NaN;
const whole = (text) => (/^\d{1,15}$/.test(text.trim()) ? Number(text.trim()) : NaN);
const isWithin = (n, least, most) => n >= least && n <= most;
