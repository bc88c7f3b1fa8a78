// What this viewer has in the shop: taps, orders, coupons. No drawing here.
//
// The socket tells as it happens; HTTP tells at the start, after a cut, and where a frame may have been missed.

import { effect, signal, untracked } from "@preact/signals-core";
import { openClaims } from "./claims.js";
import { heldUnits, offerOf, placeOf } from "./offer.js";
import { isOpen, openOrders, orderOf } from "./orders.js";
import { openTaps } from "./taps.js";

const FIRST_TRY_MS = 1_000, LAST_TRY_MS = 20_000;

function tabStorage() {
  try { return globalThis.sessionStorage ?? null; } catch { return null; }
}

/** `who` keeps the keys of several people in one tab apart. */
export function openBasket({ show, http = show.http, room = "", who = "", storage = tabStorage(), steady = () => performance.now() }) {
  const keptAs = (kind) => `peakgate:${kind}:${room}:${who}`;
  const choices = signal(new Map()); // by place: {quantity, coupon: false to keep it, pickup}
  const unfit = signal(new Set()); // "sale/claim" that the gateway did not take: which sales a coupon is for is not told
  const claims = openClaims({ show, http, storage, keptAs: keptAs("grabs"), steady });
  const orders = openOrders({ show, http, steady, moved });
  const taps = openTaps({ show, http, orders, facts, storage, keptAs: keptAs("taps"), steady, refused });
  let over = false;

  /** What an answer is about: it is good for as long as these are the same. */
  function facts(place) {
    for (const sale of show.sales.peek()) {
      for (const item of sale.items) {
        if (placeOf(sale.sale, item.sku) !== place) continue;
        return { price_minor: item.price_minor, left: item.left, low: item.low, state: sale.state, opens_at_ms: sale.opens_at_ms,
          held: heldUnits(orders.orders.peek(), sale.sale, item.sku), at_ms: show.now() };
      }
    }
    return null;
  }

  function refused(place, { request, answer }) {
    if (answer.outcome === "coupon_unusable" && request.coupon_claim) {
      unfit.value = new Set([...unfit.peek(), placeOf(request.sale, request.coupon_claim)].slice(-200));
    }
    // Fewer can still be had: they are offered, and a second tap takes them.
    if (answer.outcome === "sold_out" && answer.left > 0 && answer.left < request.quantity) choose(place, { quantity: answer.left });
  }

  function moved(order) {
    if (!order.coupon_claim) return;
    if (isOpen(order) || order.status === "paid") {
      const claim = claims.all.peek().find((each) => each.claim === order.coupon_claim);
      if (claim && claim.state !== "redeemed") claims.take({ claim: claim.claim, state: "redeemed" });
    } else claims.loadSoon(1_000); // the frame that gives it back may have been missed
  }

  function choose(place, choice) { choices.value = new Map(choices.peek()).set(place, { ...choices.peek().get(place), ...choice }); }

  /** Claims that a tap which is not answered has spoken for. */
  function spokenFor(place) {
    const spoken = new Set();
    for (const [where, { settled, request }] of taps.taps.value) {
      if (where !== place && !settled && request?.coupon_claim) spoken.add(request.coupon_claim);
    }
    return spoken;
  }

  /** What the button of an item offers; see offer.js. */
  function offer(sale, item, choice) {
    const place = placeOf(sale.sale, item.sku);
    return offerOf({
      sale, item, choice: choice ?? choices.value.get(place), claims: claims.usable.value, tap: taps.taps.value.get(place), now: show.now(),
      held: heldUnits(orders.orders.value, sale.sale, item.sku), spoken: spokenFor(place), unfit: unfit.value,
    });
  }

  /** One tap. `shown` is the offer that the button showed; without an amount it is reckoned now. */
  function tap(sale, item, shown = {}) {
    if (shown.amount_minor !== undefined) return taps.tap(sale, item, shown);
    const { quantity, pickup, claim } = shown, chosen = { ...choices.peek().get(placeOf(sale.sale, item.sku)) };
    if (quantity !== undefined) chosen.quantity = quantity;
    if (pickup !== undefined) chosen.pickup = pickup;
    if (claim === null) chosen.coupon = false;
    taps.tap(sale, item, offer(sale, item, chosen));
  }

  // Money and giving back. Each says how the order stands afterwards, as far as that can be learnt.

  /** -> `{url}`, `{at: "shop"}` where the shop takes the money itself, `{order}` where it cannot be paid any more, or `{error}`. */
  async function pay(id) {
    try {
      const { url } = await http.post(`/v1/orders/${encodeURIComponent(id)}/pay`);
      return isWebAddress(url) ? { url } : { error: "internal" };
    } catch (error) {
      if (error.code !== "conflict") return { error: error.code };
      const order = await orders.refresh(id);
      if (!order) return { error: "offline" };
      return order.status === "confirmed" ? { at: "shop" } : { order };
    }
  }

  /** -> `{order}` as it is now, or `{error}`. */
  async function cancel(id) {
    try {
      return { order: orders.take(orderOf(await http.post(`/v1/orders/${encodeURIComponent(id)}/cancel`))) };
    } catch (error) {
      const order = await orders.refresh(id);
      return order && !isOpen(order) ? { order } : { error: error.code };
    }
  }

  // Where it is told from.

  let ends = [], heard = null, welcomes = 0;
  const stopListening = effect(() => {
    const { client } = show;
    void show.link.value;
    if (!client || client === heard) return;
    heard = client;
    untracked(() => {
      for (const end of ends) end();
      ends = [
        client.on("order", taps.changed),
        client.on("claim", (told) => {
          if (told.state === "confirmed") allowAgain(told.claim);
          claims.changed(told);
        }),
        client.on("known", (told) => { taps.known(told); claims.known(told); }),
        client.on("welcome", () => { if (++welcomes > 1) backAgain(); }),
      ];
    });
  });

  /** A claim that came back from an order may be tried where it did not fit. */
  function allowAgain(claim) {
    const left = [...unfit.peek()].filter((each) => !each.endsWith(`/${claim}`));
    if (left.length !== unfit.peek().size) unfit.value = new Set(left);
  }

  /** After a cut: later states are told once, on the sockets that were there. */
  function backAgain() {
    orders.refreshOpen();
    const mayMove = ({ state }) => state === "claimed" || state === "confirmed" || state === "redeemed";
    if (claims.all.peek().some(mayMove)) claims.loadSoon(200 + Math.random() * 1_500);
  }

  async function start(load, tries = 0) {
    try { await load(); } catch (error) {
      if (over || error.status === 401 || error.status === 403) return;
      setTimeout(() => over || start(load, tries + 1), Math.random() * Math.min(LAST_TRY_MS, FIRST_TRY_MS * 2 ** tries));
    }
  }
  taps.remember();
  claims.remember();
  start(() => orders.load());
  start(() => claims.load());

  return {
    http,
    orders: orders.orders, lively: orders.lively, ordersBehind: orders.next, ordersLoaded: orders.loaded,
    moreOrders: orders.more, refreshOrder: orders.refresh, putAway: orders.putAway,
    taps: taps.taps, tap, offer, choices, choose: (sale, item, choice) => choose(placeOf(sale.sale, item.sku), choice),
    claims: claims.usable, allClaims: claims.all, grabs: claims.grabs, grab: claims.grab,
    pay, cancel,
    /** The page is seen again: somebody may have paid meanwhile. */
    wake() { orders.refreshOpen(0); },
    close() {
      over = true;
      stopListening();
      for (const end of ends) end();
      taps.close();
      claims.close();
      orders.close();
    },
  };
}

function isWebAddress(url) {
  try { return ["https:", "http:"].includes(new URL(url, globalThis.location?.href).protocol); } catch { return false; }
}
