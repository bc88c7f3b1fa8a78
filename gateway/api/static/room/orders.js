// This viewer's orders: by HTTP at the start, by frames as they change, and asked for where a frame may have been missed.

import { batch, effect, signal, untracked } from "@preact/signals-core";

const MOST = 50, MOST_ASKED_FOR = 200, MOST_NAMES = 30;
const ASK_AFTER_MS = 3_000, ASK_AGAIN_MS = 60_000; // the first question about an order that should have moved, and the slowest
const OVERDUE_MS = 1_500; // what a deadline takes to be acted on
const BACK_WITHIN_MS = 1_500; // a crowd that comes back does not ask at once

/** How far on a state is. Answers of HTTP may be older than frames, so an order never goes back. */
const RANK = { reserved: 0, confirmed: 1, refused: 2, expired: 2, cancelled: 2, paid: 3, refund_due: 4, refunded: 5 };
const rankOf = (status) => RANK[status] ?? 6;

export const isOpen = (order) => order.status === "reserved" || order.status === "confirmed";

/** An instant of HTTP in ms. */
export const ms = (instant) => (instant ? Date.parse(instant) : undefined);
const defined = (facts) => Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined && value !== null));

/** An order of HTTP in the words of the socket. */
export const orderOf = (told) => defined({
  order: told.order, sale: told.sale, sku: told.sku, quantity: told.quantity, amount_minor: told.amount_minor, currency: told.currency,
  status: told.status, reason: told.reason, pay_by_ms: ms(told.pay_by), created_at_ms: ms(told.created_at),
  coupon_claim: told.coupon_claim, pickup: told.pickup,
});

export function merged(known, told) {
  const facts = { ...known, ...defined(told) };
  if (known && rankOf(told.status) < rankOf(known.status)) Object.assign(facts, { status: known.status, reason: known.reason });
  return facts;
}

/** `moved(order)` hears of each new state of an order; `steady` is a clock that only goes on. */
export function openOrders({ show, http, steady, moved = () => {} }) {
  const orders = signal([]);
  const lively = signal(new Set()); // ids that moved while this page looked on, or are not settled: they have a card
  const next = signal(null); // the cursor behind what is here; null: that is all
  const loaded = signal(false);
  const asking = new Map(), waits = new Map();
  const names = new Map(); // by sale that the room does not show: what its items are called
  let most = MOST;

  const find = (id) => orders.peek().find(({ order }) => order === id);

  /** What is known of an order, from whomever. Returns it as it is now. */
  function take(told, { quietly = false } = {}) {
    const known = find(told.order), order = named(merged(known, told));
    order.created_at_ms ??= show.now();
    const others = known ? orders.peek().filter((each) => each !== known) : orders.peek();
    batch(() => {
      // Ids sort by time.
      orders.value = [order, ...others].sort((a, b) => (a.order < b.order ? 1 : a.order > b.order ? -1 : 0)).slice(0, most);
      const didMove = known ? known.status !== order.status : !quietly;
      if (isOpen(order) || didMove) lively.value = new Set([...lively.peek(), order.order].slice(-MOST));
      if (known?.status !== order.status) waits.delete(order.order);
      if (didMove) moved(order);
    });
    return order;
  }

  function named(order) {
    if ((order.title && order.currency) || !order.sale || !order.sku) return order;
    const sale = show.sales.peek().find((each) => each.sale === order.sale) ?? names.get(order.sale);
    if (sale === undefined) learnNames(order.sale);
    const item = sale?.items?.find((each) => each.sku === order.sku);
    const { title = item?.title, image_url = item?.image_url, currency = sale?.currency } = order;
    return { ...order, title, image_url, currency };
  }

  async function learnNames(sale) {
    if (names.size >= MOST_NAMES) return;
    names.set(sale, null); // asked once
    try { names.set(sale, await http.get(`/v1/sales/${encodeURIComponent(sale)}`)); } catch { return; }
    orders.value = orders.peek().map((order) => (order.sale === sale ? named(order) : order));
  }

  /** Asks the gateway how an order stands; null when there is no answer. */
  function refresh(id) {
    const asked = asking.get(id);
    if (asked) return asked;
    const work = http.get(`/v1/orders/${encodeURIComponent(id)}`)
      .then((told) => take(orderOf(told)), () => null).finally(() => asking.delete(id));
    asking.set(id, work);
    return work;
  }

  async function load(after) {
    const page = await http.get(`/v1/orders?limit=50${after ? `&after=${encodeURIComponent(after)}` : ""}`);
    batch(() => {
      for (const told of page.items) take(orderOf(told), { quietly: true });
      next.value = page.next;
      loaded.value = true;
    });
  }

  /** One page further back. */
  async function more() {
    if (!next.peek()) return;
    most = MOST_ASKED_FOR;
    await load(next.peek());
    if (orders.peek().length >= most) next.value = null;
  }

  // What should have moved by now and did not is asked for; each time later than before.

  function shouldMove(order, now) {
    if (order.status === "reserved") return true;
    if (order.status === "confirmed") return show.link.peek() !== "open" || (order.pay_by_ms && now > order.pay_by_ms + OVERDUE_MS);
    return order.status === "paid" && order.pickup && !order.pickup.code;
  }

  const stopWatching = effect(() => {
    const second = show.second.value;
    untracked(() => {
      const now = steady();
      for (const order of orders.value) {
        if (!shouldMove(order, second)) { waits.delete(order.order); continue; }
        const wait = waits.get(order.order) ?? { at: now + ASK_AFTER_MS * (order.status === "reserved" ? 1 : 0.3), pause: ASK_AFTER_MS };
        waits.set(order.order, wait);
        if (now < wait.at) continue;
        waits.set(order.order, { at: now + wait.pause, pause: Math.min(wait.pause * 2, ASK_AGAIN_MS) });
        refresh(order.order);
      }
    });
  });

  /** After a cut: frames of orders are not repeated. */
  function refreshOpen(within = BACK_WITHIN_MS) {
    for (const { order } of orders.peek().filter(isOpen).slice(0, 10)) setTimeout(() => refresh(order), Math.random() * within);
  }

  return {
    orders, lively, next, loaded, find, take, refresh, refreshOpen, load, more,
    /** The card of an order that needs nothing any more is put away. */
    putAway(id) {
      const left = new Set(lively.peek());
      left.delete(id);
      lively.value = left;
    },
    close: stopWatching,
  };
}
