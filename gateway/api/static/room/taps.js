// A tap on a buy button, and what became of it. No tap is told wrongly, and none is two orders.
//
// An item has one key until an order holds it: the gateway remembers effects and no refusals, so asking anew under the same key
// is always safe, also when an earlier frame is still on its way. While it is not known what became of a tap, the same key is
// asked again with the same content. After `ANSWER_WITHIN_MS` nothing is ordered in nobody's name any more: then it is only
// asked what the key holds.

import { effect, signal, untracked } from "@preact/signals-core";
import { freshKey } from "peakgate";
import { keepIn, keptIn } from "./kept.js";
import { placeOf } from "./offer.js";

const SLOW_MS = 1_500; // an answer that takes longer is in doubt, and the viewer is told so
const ANSWER_WITHIN_MS = 30_000;
const INSIST_MS = 15_000; // how long a tap that was too fast is repeated by itself
const DECIDED_MS = 6_000; // a request is decided within 5 s of its arrival or not at all
const REST_MS = 700; // after an answer: the second half of a double tap is no second tap
const LOOK_AGAIN_MS = 1_500, LOOK_LATER_MS = 5_000, LOOK_RARELY_MS = 20_000;
const MOST_KEPT = 32;

/** `facts(place)` is what an answer is about, `refused(place, tap)` hears of a definite answer that holds nothing. `steady` is a
 *  clock that only goes on: what the gateway's time is may be learnt in the middle of a wait. */
export function openTaps({ show, http, orders, facts, storage, keptAs, steady, refused = () => {} }) {
  const taps = signal(new Map());
  const unspent = new Map(); // by place: {sale, sku, key, request?, doubtful}
  let asks = 0, over = false;

  const at = (place) => taps.peek().get(place);

  function put(place, tap) {
    taps.value = new Map(taps.peek()).set(place, tap);
    const doubtful = tap.state !== "answered" || !tap.settled;
    if (unspent.has(place)) unspent.set(place, { ...unspent.get(place), request: tap.request, doubtful });
    keep();
    return tap;
  }

  /** One tap. `offer` is what the button showed: `quantity`, `amount_minor`, `claim`, `pickup`. */
  function tap(sale, item, offer) {
    const place = placeOf(sale.sale, item.sku), last = at(place);
    if (last?.live || (last && steady() - (last.told ?? -Infinity) < REST_MS)) return;
    const isDoubtful = last && !last.settled;
    const kept = unspent.get(place) ?? { sale: sale.sale, sku: item.sku, key: freshKey() };
    unspent.set(place, kept);
    const request = isDoubtful ? last.request : requestOf(sale, item, offer);
    const asked = { key: kept.key, request, began: steady(), settled: false };
    if (isOut() && !isOver()) {
      if (isDoubtful) wonder(place, put(place, { ...asked, no: ++asks }));
      else put(place, { ...asked, no: ++asks, state: "answered", settled: true, answer: { outcome: "away" } });
      return;
    }
    ask(place, asked);
  }

  const isOut = () => !show.client || show.client.state === "away" || show.client.state === "closed";
  /** A show that has ended has no socket any more; its sale may go on, and then HTTP takes the order under the same key. */
  const isOver = () => isOut() && show.room?.peek()?.state === "ended";

  const send = ({ request, key }) =>
    (isOver() ? sendByHttp(http, request, key) : show.client.order(request, { key, withinMs: ANSWER_WITHIN_MS }));

  async function ask(place, asked) {
    const no = ++asks, sent = show.link.peek() === "open" || isOver();
    const isMine = () => !over && at(place)?.no === no;
    put(place, { ...asked, no, live: true, sent, state: sent ? "asking" : "unsure" });
    const slow = setTimeout(() => isMine() && doubt(place), SLOW_MS);
    try {
      const reply = await send(asked);
      if (isMine()) heard(place, reply);
    } catch (error) {
      if (isMine()) failed(place, error);
    } finally { clearTimeout(slow); }
  }

  const doubt = (place) => { if (at(place).state === "asking" && !at(place).waits) put(place, { ...at(place), state: "unsure" }); };

  function heard(place, reply) {
    const tap = at(place);
    if (reply.outcome === "reserved") return hold(place, reply);
    if (reply.outcome === "too_fast") {
      const wait = Math.max(200, reply.retry_after_ms ?? 1_000);
      if (steady() + wait - tap.began < INSIST_MS) {
        const { no, key, request, began } = put(place, { ...tap, state: "asking", live: true, waits: true });
        setTimeout(() => { if (!over && at(place)?.no === no) ask(place, { key, request, began, settled: false }); }, wait);
        return;
      }
      // Not looked at: it says nothing of what was asked before under this key.
      put(place, { ...tap, state: "answered", live: false, settled: false, answer: reply, seen: facts(place) });
      return;
    }
    refuse(place, reply);
  }

  /** A definite answer that holds nothing. */
  function refuse(place, answer) {
    const tap = put(place, { ...at(place), state: "answered", live: false, settled: true, answer, seen: facts(place), told: steady() });
    refused(place, tap);
  }

  /** The key holds an order: it is spent, and the next tap is another one. */
  function hold(place, told) {
    unspent.delete(place);
    const answer = { outcome: "reserved", order: told.order };
    put(place, { ...at(place), state: "answered", live: false, settled: true, answer, told: steady() });
    const { request, key } = at(place);
    orders.take({ ...factsOf(request), key, order: told.order, status: told.status ?? "reserved",
      amount_minor: told.amount_minor ?? request.expect_amount_minor, pay_by_ms: told.pay_by_ms, reason: told.reason });
    // It may have gone on since: what is replayed is how it began.
    if (told.replayed || told.status) orders.refresh(told.order);
  }

  function failed(place, error) {
    switch (error.code) {
      // What became of it is asked for. `key_reused`: the key holds an order of other content.
      case "no_answer": case "away": case "key_reused": return wonder(place, at(place));
      default: return refuse(place, { outcome: "error", code: error.code });
    }
  }

  // Nobody waits for an answer any more; only what the key holds is asked for.

  function wonder(place, tap) {
    const { no } = put(place, { ...tap, state: "unsure", live: false, sent: true, silent: steady(), answer: undefined });
    look(place, no);
  }

  async function look(place, no) {
    const tap = at(place), isMine = () => !over && at(place)?.no === no && at(place).state === "unsure" && !at(place).live;
    if (!isMine()) return;
    let wait = LOOK_AGAIN_MS;
    try {
      const told = await held(tap);
      if (isMine() && told) return hold(place, told);
      // A frame may still be on its way; what is older than this has been decided.
      if (isMine() && !told && steady() - tap.silent >= DECIDED_MS) return nothing(place);
    } catch (error) {
      // Who is not let in is asked for rarely: a fresh token may come.
      wait = error.status === 401 || error.status === 403 ? LOOK_RARELY_MS : LOOK_LATER_MS;
    }
    setTimeout(() => look(place, no), wait);
  }

  /** The order that a key holds, null for none yet. */
  async function held({ key, request }) {
    try {
      const told = await http.get(`/v1/orders/by-key/${encodeURIComponent(key)}?sale=${encodeURIComponent(request.sale)}`);
      return { order: told.order, status: told.status, amount_minor: told.amount_minor, reason: told.reason,
        pay_by_ms: told.pay_by ? Date.parse(told.pay_by) : undefined };
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  const nothing = (place) => put(place, { ...at(place), state: "answered", live: false, settled: false, answer: { outcome: "none" } });

  // What frames tell of keys.

  /** Of a welcome: what became of a key of before. */
  function known(told) {
    if (told.sale === undefined) return;
    const place = placeOfKey(told.key);
    if (!told.order) {
      if (place !== undefined && at(place)?.state === "unsure") look(place, at(place).no);
    } else {
      const { order, status, pay_by_ms, reason, amount_minor } = told;
      changed({ order, status, pay_by_ms, reason, amount_minor }, place);
    }
  }

  /** A state of an order, with the place of the tap that got it where that is known. */
  async function changed(told, place) {
    // Who waits for the answer of a live tap is given it.
    if (place !== undefined && at(place)?.live) return;
    if (place !== undefined && at(place)?.request) return hold(place, told);
    if (orders.find(told.order)) return void orders.take(told);
    const order = await orders.refresh(told.order);
    if (order && !over) reconcile(order);
  }

  const placeOfKey = (key) => [...unspent].find(([, kept]) => kept.key === key)?.[0];

  /** An order that was told of by its state alone is another page's, or that of a tap that was thought lost. */
  async function reconcile(order) {
    const place = placeOf(order.sale, order.sku), tap = at(place);
    if (!unspent.has(place) || !tap?.request || tap.live) return;
    const told = await held(tap).catch(() => null);
    if (told?.order === order.order && at(place)?.key === tap.key && !at(place).live) hold(place, told);
  }

  const stopDoubting = effect(() => {
    const isOpen = show.link.value === "open";
    untracked(() => {
      for (const [place, tap] of taps.value) {
        if (!tap.live) continue;
        if (!isOpen) doubt(place);
        else if (!tap.sent) put(place, { ...tap, sent: true });
      }
    });
  });

  // Over a reload.

  function keep() {
    keepIn(storage, keptAs, [...unspent.values()].slice(-MOST_KEPT));
  }

  function remember() {
    for (const each of keptIn(storage, keptAs)) {
      const place = placeOf(each.sale, each.sku);
      unspent.set(place, each);
      if (!each.doubtful || !each.request) continue;
      wonder(place, { key: each.key, request: each.request, began: steady(), settled: false, no: ++asks });
    }
  }

  return {
    taps, tap, known, remember,
    /** An `order` frame; with the key where it is the answer to a tap of this page. */
    changed: (told) => changed(told, told.id === undefined ? undefined : placeOfKey(told.id)),
    close() { over = true; stopDoubting(); },
  };
}

/** The answer in the words of the socket; `no_answer` where none came. */
async function sendByHttp(http, request, key) {
  try {
    const { order, opens_at, ...told } = await http.post("/v1/orders", request, { key });
    const reply = { ...told, ...(opens_at ? { opens_at_ms: Date.parse(opens_at) } : {}) };
    return order ? { ...reply, order: order.order, status: order.status, amount_minor: order.amount_minor } : reply;
  } catch (error) {
    throw error.retryable || error.isDoubtful ? Object.assign(new Error(error.message), { code: "no_answer" }) : error;
  }
}

/** Always in one order of fields: the same content is the same text. */
function requestOf(sale, item, { quantity = 1, amount_minor, claim, pickup }) {
  return { sale: sale.sale, sku: item.sku, quantity, expect_amount_minor: amount_minor,
    ...(claim ? { coupon_claim: claim.claim ?? claim } : {}), ...(pickup ? { pickup: true } : {}) };
}

const factsOf = ({ sale, sku, quantity, coupon_claim, pickup }) => ({ sale, sku, quantity, coupon_claim, pickup: pickup ? {} : undefined });
