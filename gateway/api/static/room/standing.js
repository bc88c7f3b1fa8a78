// What the button of an item says: from the sale, the viewer's last tap and what became of it. Words are elsewhere.

import { phaseOf } from "./offer.js";

const note = (key, tone = "", facts = {}) => ({ key, tone, facts });

/** What became of an order that a tap got. Only `confirmed` is a promise. */
function noteOfOrder(order) {
  switch (order?.status) {
    case "confirmed": return note("tap_confirmed", "good", { at_ms: order.pay_by_ms });
    case "paid": return note("tap_paid", "good");
    case "expired": return note("tap_expired", "warn");
    case "cancelled": return note("tap_cancelled");
    case "refused": return note("tap_refused", "bad");
    case "refund_due": return note("tap_refund_due", "warn");
    case "refunded": return note("tap_refunded");
    default: return note("tap_reserved", "good");
  }
}

/** A sale that does not say what is left cannot say that some came back, so its `sold_out` is good for this long only. */
export const SOLD_OUT_FOR_MS = 30_000;

/** How long the room's word on units may be behind an answer. */
export const UNITS_TOLD_WITHIN_MS = 3_000;

/** Whether units came or went since a `sold_out`. What the answer itself said is left may be told of later, or not yet. */
function unitsMoved({ seen, answer }, item, now) {
  if (item.left === undefined) return seen.low !== item.low || now - seen.at_ms > SOLD_OUT_FOR_MS;
  if (item.left === (answer.left ?? 0)) return false;
  return item.left !== seen.left || now - seen.at_ms > UNITS_TOLD_WITHIN_MS;
}

/** Whether the sale, the item or the viewer's units moved since the answer, so that it says nothing any more. */
function isStale(tap, { sale, item, held, now }) {
  const { seen, answer } = tap;
  if (!seen) return false;
  switch (answer.outcome) {
    case "sold_out": return seen.state !== sale.state || unitsMoved(tap, item, now);
    case "limit_reached": return seen.held !== held;
    case "not_started": case "paused": case "ended": return seen.state !== sale.state || seen.opens_at_ms !== sale.opens_at_ms;
    default: return false;
  }
}

function noteOfAnswer(tap, { item, order, held, offer, now }) {
  const { answer } = tap;
  switch (answer.outcome) {
    case "reserved": return noteOfOrder(order);
    case "none": return note("tap_none", "warn");
    case "sold_out":
      if (answer.left > 0) return note("tap_only_left", "warn", { n: answer.left });
      return answer.may_return ? note("tap_may_return", "warn") : note("tap_gone", "bad");
    case "limit_reached": return note("tap_limit", "warn", { n: item.limit_per_viewer, held });
    case "not_started":
      return answer.opens_at_ms > now ? note("tap_not_started", "warn", { at_ms: answer.opens_at_ms }) : note("tap_not_yet", "warn");
    case "ended": return note("tap_ended", "bad");
    case "paused": return note("tap_paused", "warn");
    case "price_changed": return note("tap_price_changed", "warn", { amount_minor: offer.amount_minor });
    case "coupon_unusable": return note(offer.claim ? "tap_other_coupon" : "tap_no_coupon", "warn", { amount_minor: offer.amount_minor });
    case "too_fast": return note("tap_too_fast", "warn");
    case "away": return note("tap_away", "bad");
    default: return note("tap_error", "bad", { code: answer.code ?? answer.outcome });
  }
}

/**
 * `{label, off, busy, kind, note}`: the label's key; `off` cannot be tapped at all, `busy` is being asked. `order` is the one that
 * the tap got, `held` the units this viewer has, `now` the gateway's time.
 */
export function standingOf({ sale, item, tap, order, held, offer, now }) {
  if (tap?.state === "asking") {
    return { label: "asking", busy: true, kind: "primary", note: tap.waits ? note("tap_waits", "warn") : note("tap_asking") };
  }
  if (tap?.state === "unsure") {
    if (tap.live) return { label: "asking", busy: true, kind: "primary", note: note(tap.sent ? "tap_unsure" : "tap_unsent", "warn") };
    return { label: "ask_again", kind: "primary", note: note("tap_unsure_long", "warn") };
  }
  const stale = tap?.state === "answered" && isStale(tap, { sale, item, held, now });
  const told = tap?.state === "answered" && !stale ? noteOfAnswer(tap, { item, order, held, offer, now }) : null;
  if (told?.key === "tap_none") return { label: "tap_again", kind: "primary", note: told };
  switch (phaseOf(sale, now)) {
    case "over": return { label: "over", off: true, kind: "", note: told };
    case "paused": return { label: "paused", off: true, kind: "", note: told };
    case "before": return { label: "before", off: true, kind: "", note: told };
  }
  if (held >= item.limit_per_viewer) return { label: "yours", off: true, kind: "", note: told };
  if (told?.key === "tap_gone") return { label: "gone", off: true, kind: "", note: told };
  // Units that are held unpaid may come back, which only the gateway knows: so it can be asked.
  if (item.left === 0 || told?.key === "tap_may_return") return { label: "sold_out", kind: "", note: told };
  // Who has one and has not paid it yet is not to take another by mistake.
  return { label: held > 0 ? "buy_more" : "buy", kind: held > 0 ? "" : "primary", note: told };
}
