// What an item costs this viewer, as the gateway will reckon it, and what the viewer may still take. Facts in, facts out.

export const placeOf = (sale, sku) => `${sale}/${sku}`;

/** States of an order that hold units under the viewer's limit, for all this page knows. */
const HOLDS = new Set(["reserved", "confirmed", "paid"]);

/** Units of an item that the viewer has. */
export function heldUnits(orders, sale, sku) {
  let held = 0;
  for (const order of orders) if (order.sale === sale && order.sku === sku && HOLDS.has(order.status)) held += order.quantity ?? 0;
  return held;
}

/** What a claim takes off an amount; a floor under the price is not told to viewers, `price_changed` is the word on it. */
export function discountOf(claim, amount) {
  let off = claim.value_minor ?? 0;
  if (claim.kind === "percent") {
    // In two parts: the amount times the percentage may not fit into a number.
    const rest = amount % 100;
    off = ((amount - rest) / 100) * claim.percent + Math.floor((rest * claim.percent) / 100);
  }
  return Math.max(0, Math.min(off, amount - 1));
}

/** The claim that takes most off, and of equal ones that which ends first; null where none does. */
export function bestClaim(claims, { sale, currency, amount, now, spoken = new Set(), unfit = new Set() }) {
  let best = null, most = 0;
  for (const claim of claims) {
    if (claim.state !== "confirmed" || claim.currency !== currency || claim.valid_until_ms <= now) continue;
    if (amount < (claim.threshold_minor ?? 0) || spoken.has(claim.claim) || unfit.has(placeOf(sale, claim.claim))) continue;
    const off = discountOf(claim, amount);
    if (off > most || (off > 0 && off === most && claim.valid_until_ms < best.valid_until_ms)) {
      best = claim;
      most = off;
    }
  }
  return best;
}

/** How many can be asked for at once: 1 at least, so that the gateway's answer can be had. */
export function mostUnits(item, held) {
  const most = Math.min(item.limit_per_viewer - held, item.left || Infinity);
  return Math.max(1, Number.isFinite(most) ? most : 1);
}

/**
 * What the button offers: `{quantity, pickup, claim, possible, price_minor, full_minor, off_minor, amount_minor}`. `choice` is
 * what the viewer chose, `tap` the last tap on this item; `possible` is the claim that could be used, chosen or not.
 * `amount_minor` is shown and sent; the gateway refuses any other.
 */
export function offerOf({ sale, item, choice = {}, claims = [], held = 0, tap, now, spoken, unfit }) {
  // What was asked and is not answered is asked again as it was.
  if (tap && !tap.settled) return offerAsked(tap.request, item, claims);
  const quantity = Math.min(choice.quantity ?? 1, mostUnits(item, held));
  const full = item.price_minor * quantity;
  const possible = bestClaim(claims, { sale: sale.sale, currency: sale.currency, amount: full, now, spoken, unfit });
  const claim = choice.coupon === false ? null : possible;
  const off = claim ? discountOf(claim, full) : 0;
  const offer = {
    quantity, pickup: choice.pickup === true, claim, possible,
    price_minor: item.price_minor, full_minor: full, off_minor: off, amount_minor: full - off,
  };
  const told = tap?.state === "answered" && tap.answer.outcome === "price_changed" ? tap.answer.amount_minor : undefined;
  if (told !== undefined && tap.seen?.price_minor === item.price_minor && tap.request.quantity === quantity
    && (tap.request.coupon_claim ?? null) === (claim?.claim ?? null)) {
    // The gateway named the amount before the room told of the price (or a floor is in the way of the coupon).
    return { ...offer, full_minor: told + off, amount_minor: told };
  }
  return offer;
}

function offerAsked(request, item, claims) {
  const claim = claims.find((each) => each.claim === request.coupon_claim) ?? null, amount = request.expect_amount_minor;
  return {
    quantity: request.quantity, pickup: request.pickup === true, claim, possible: claim,
    price_minor: item.price_minor, full_minor: amount, off_minor: 0, amount_minor: amount, isAsked: true,
  };
}

/** The step of the price plan that comes next, or null. */
export function nextStep(item, now) {
  for (const step of item.prices ?? []) {
    const from_ms = step.from_ms ?? Date.parse(step.from);
    if (from_ms > now) return { from_ms, price_minor: step.price_minor };
  }
  return null;
}

/** `before`, `open`, `paused` or `over`, by the sale and the gateway's time: its own word may still be on the way, and what
 *  this page takes for the gateway's time may be a moment behind its word. */
export function phaseOf(sale, now) {
  if (sale.state === "closed" || now >= sale.closes_at_ms) return "over";
  if (sale.state === "paused") return "paused";
  return sale.state === "open" || now >= sale.opens_at_ms ? "open" : "before";
}
