// What becomes of taps, in every order of events: against a scripted network, a scripted HTTP and a mocked clock.

import "./bare-imports.mjs";
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { MemoryStorage, scriptedNetwork, settled, snapshot, welcome } from "./scripted.mjs";

const { signal } = await import("@preact/signals-core");
const { Room } = await import("peakgate");
const { openBasket } = await import("../../gateway/api/static/room/basket.js");
const { bestClaim, discountOf, nextStep, offerOf, phaseOf } = await import("../../gateway/api/static/room/offer.js");
const { standingOf } = await import("../../gateway/api/static/room/standing.js");
const { merged } = await import("../../gateway/api/static/room/orders.js");

const PLACE = "sale_1/tin";
const item = (more = {}) => ({ sku: "tin", title: "Tin", price_minor: 1900, list_price_minor: null, limit_per_viewer: 2, image_url: null, left: 10, ...more });
const sale = (more = {}, ...items) => ({ sale: "sale_1", title: "First flush", state: "open", currency: "CNY", opens_at_ms: 0, closes_at_ms: 1e15, items: items.length ? items : [item()], ...more });
const claim = (more = {}) => ({ claim: "clm_1", coupon: "cpn_1", title: "5 off", kind: "amount", state: "confirmed", currency: "CNY", threshold_minor: 0, value_minor: 500, claimed_at: "2026-01-01T00:00:00Z", valid_until: "2099-01-01T00:00:00Z", ...more });

let network, storage, clock, http, show, basket, opened;

/** Answers by path; what is not said is not found. A function is called; an Error is thrown. */
function scriptedHttp() {
  const says = new Map([["GET /v1/orders", { items: [], next: null }], ["GET /v1/coupon-claims", { items: [] }]]);
  const asked = [];
  const call = async (method, path) => {
    asked.push(`${method} ${path}`);
    const found = [...says].filter(([start]) => `${method} ${path}`.startsWith(start)).sort(([a], [b]) => b.length - a.length)[0]?.[1];
    const exact = !path.startsWith("/v1/orders/") ? found : says.get(`${method} ${path.split("?")[0]}`);
    const answer = typeof exact === "function" ? exact() : exact;
    if (answer instanceof Error) throw answer;
    if (answer === undefined) throw Object.assign(new Error("not found"), { status: 404, code: "not_found", retryable: false });
    return answer;
  };
  return { says, asked, get: (path) => call("GET", path), post: (path) => call("POST", path), count: (start) => asked.filter((each) => each.startsWith(start)).length };
}
const trouble = (status, code, retryable = false) => Object.assign(new Error(code), { status, code, retryable });

function openPage({ isConnected = true } = {}) {
  const client = new Room({ url: "ws://shop/live", token: "t", connect: network.connect, storage, random: () => 1 });
  const link = signal("connecting");
  client.on("state", ({ state }) => { link.value = state; });
  show = { http, client, link, room: signal({ room: "room_1", state: "live" }), second: signal(0), sales: signal([sale()]), coupons: signal([]), now: () => clock };
  basket = openBasket({ show, http, storage, steady: () => clock });
  opened.push(() => { basket.close(); client.close(); });
  client.open();
  if (isConnected) {
    network.now.opens();
    network.now.says(welcome(), snapshot(3));
  }
}

beforeEach(async () => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  mock.method(Math, "random", () => 0);
  network = scriptedNetwork();
  storage = new MemoryStorage();
  clock = 1_000;
  http = scriptedHttp();
  opened = [];
  openPage();
  await settled();
});
afterEach(() => { for (const close of opened) close(); mock.restoreAll(); });

/** Time passes in steps, as it does. */
async function pass(ms) {
  for (let left = ms; left > 0; left -= 250) {
    clock += Math.min(250, left);
    mock.timers.tick(Math.min(250, left));
    if (clock % 1_000 === 0) show.second.value = clock;
    await settled();
  }
}
async function reload(options) {
  opened.pop()();
  network = scriptedNetwork();
  openPage(options);
  await settled();
}
async function comesBack(...frames) {
  await pass(250);
  network.now.opens();
  network.now.says(...frames);
  await settled();
}
const theSale = () => show.sales.value[0], theItem = () => theSale().items[0];
const tap = (more) => basket.tap(theSale(), theItem(), more);
const told = () => basket.taps.value.get(PLACE);
const asked = () => network.now.last("order");
const orders = () => network.sockets.reduce((sum, socket) => sum + socket.count("order"), 0);
const replies = async (answer, id = asked().id) => { network.now.says({ t: "reply", id, ...answer }); await settled(); };
function standing() {
  const order = basket.orders.value.find((each) => each.order === told()?.answer?.order);
  const held = basket.orders.value.filter((each) => ["reserved", "confirmed", "paid"].includes(each.status)).reduce((sum, each) => sum + each.quantity, 0);
  return standingOf({ sale: theSale(), item: theItem(), tap: told(), order, held, offer: basket.offer(theSale(), theItem()), now: clock });
}
const note = () => standing().note?.key;

test("a tap is asked at once, reserved is no promise, confirmed is", async () => {
  tap();
  assert.equal(standing().label, "asking");
  assert.deepEqual({ ...asked(), id: "" }, { t: "order", id: "", sale: "sale_1", sku: "tin", quantity: 1, expect_amount_minor: 1900 });
  await replies({ outcome: "reserved", order: "ord_1", amount_minor: 1900 });
  assert.equal(note(), "tap_reserved");
  network.now.says({ t: "order", order: "ord_1", status: "confirmed", pay_by_ms: 301_000 });
  assert.equal(note(), "tap_confirmed");
  const [order] = basket.orders.value;
  assert.deepEqual([order.order, order.status, order.pay_by_ms, order.title, order.amount_minor, order.currency], ["ord_1", "confirmed", 301_000, "Tin", 1900, "CNY"]);
  network.now.says({ t: "order", order: "ord_1", status: "paid" });
  assert.equal(note(), "tap_paid");
});

test("a double tap is one tap, also when the answer came between its halves", async () => {
  tap();
  tap();
  assert.equal(orders(), 1);
  await replies({ outcome: "reserved", order: "ord_1", amount_minor: 1900 });
  tap();
  assert.equal(orders(), 1);
  await pass(1_000);
  tap();
  assert.equal(orders(), 2);
  assert.equal(new Set(network.now.sent.filter(({ t }) => t === "order").map(({ id }) => id)).size, 2);
});

test("an answer that is slow is in doubt, and the tap that gets it says what it got", async () => {
  tap();
  await pass(1_500);
  assert.equal(note(), "tap_unsure");
  assert.equal(standing().busy, true);
  tap();
  assert.equal(orders(), 1);
  await replies({ outcome: "sold_out", left: 0, may_return: true });
  assert.equal(note(), "tap_may_return");
});

test("a cut during a tap: the same key is asked for, and the welcome's answer is the answer", async () => {
  tap();
  const { id } = asked();
  network.now.closes(1006);
  assert.equal(note(), "tap_unsure");
  await comesBack(welcome({ recovered: true, orders: [{ sale: "sale_1", key: id, outcome: "reserved", order: "ord_1", status: "confirmed", amount_minor: 1900, pay_by_ms: 9_000_000 }] }));
  assert.equal(note(), "tap_confirmed");
  assert.equal(orders(), 1);
  assert.equal(basket.orders.value.length, 1);
});

test("a cut during a tap that never arrived: it is asked again under the same key, by itself", async () => {
  tap();
  const { id } = asked();
  network.now.closes(1006);
  await comesBack(welcome({ recovered: true, orders: [{ sale: "sale_1", key: id, outcome: "none" }] }));
  assert.equal(asked().id, id);
  await replies({ outcome: "sold_out", left: 0, may_return: false });
  assert.equal(note(), "tap_gone");
  assert.equal(standing().off, true);
});

test("who stays away is not ordered for: afterwards it is only asked what the key holds", async () => {
  tap();
  const { id } = asked();
  network.now.closes(1006);
  http.says.set("GET /v1/orders/by-key/" + id, trouble(0, "offline", true));
  for (let away = 0; away < 60; away++) { await pass(1_000); if (network.now.onclose && network.sockets.length > away) network.now.closes(1006); }
  assert.equal(note(), "tap_unsure_long");
  http.says.set("GET /v1/orders/by-key/" + id, { order: "ord_1", sale: "sale_1", sku: "tin", status: "confirmed", pay_by: "2030-01-01T00:00:00Z", amount_minor: 1900 });
  http.says.set("GET /v1/orders/ord_1", { order: "ord_1", sale: "sale_1", sku: "tin", quantity: 1, status: "confirmed", amount_minor: 1900, currency: "CNY", pay_by: "2030-01-01T00:00:00Z", created_at: "2026-01-01T00:00:00Z" });
  await pass(10_000);
  assert.equal(note(), "tap_confirmed");
  assert.equal(orders(), 1);
});

test("nothing under the key is told only when nothing can be on its way any more, and tapping again is the same tap", async () => {
  tap();
  const { id } = asked();
  await pass(30_000);
  assert.equal(told().live, false);
  assert.equal(note(), "tap_unsure_long");
  await pass(5_000);
  assert.equal(note(), "tap_unsure_long");
  await pass(3_000);
  assert.equal(note(), "tap_none");
  show.sales.value = [sale({}, item({ price_minor: 2500 }))];
  assert.equal(basket.offer(theSale(), theItem()).amount_minor, 1900);
  const before = orders();
  tap(basket.offer(theSale(), theItem()));
  assert.equal(orders(), before + 1);
  assert.deepEqual([asked().id, asked().expect_amount_minor], [id, 1900]);
  await replies({ outcome: "price_changed", amount_minor: 2500 });
  assert.equal(note(), "tap_price_changed");
});

test("over a reload the tap is in doubt until the gateway tells, and the order is shown", async () => {
  tap();
  const { id } = asked();
  await reload({ isConnected: false });
  assert.equal(note(), "tap_unsure_long");
  network.now.opens();
  assert.deepEqual(network.now.last("hello").pending, [{ sale: "sale_1", key: id }]);
  network.now.says(welcome({ orders: [{ sale: "sale_1", key: id, outcome: "reserved", order: "ord_1", status: "reserved", amount_minor: 1900 }] }), snapshot(3));
  await settled();
  assert.equal(note(), "tap_reserved");
  network.now.says({ t: "order", order: "ord_1", status: "confirmed", pay_by_ms: 9_000_000 });
  assert.equal(note(), "tap_confirmed");
  assert.equal(orders(), 0);
});

test("over a reload a tap that never arrived is told so, and asked again under its key when tapped", async () => {
  tap();
  const { id } = asked();
  await reload({ isConnected: false });
  network.now.opens();
  network.now.says(welcome({ orders: [{ sale: "sale_1", key: id, outcome: "none" }] }), snapshot(3));
  await pass(8_000);
  assert.equal(note(), "tap_none");
  assert.equal(orders(), 0);
  tap();
  assert.equal(asked().id, id);
});

test("a tap that was thought lost and took effect late is not a second order", async () => {
  tap();
  const { id } = asked();
  await pass(40_000);
  assert.equal(note(), "tap_none");
  const late = { order: "ord_9", sale: "sale_1", sku: "tin", quantity: 1, status: "confirmed", amount_minor: 1900, currency: "CNY", created_at: "2026-01-01T00:00:00Z" };
  http.says.set("GET /v1/orders/ord_9", late);
  http.says.set("GET /v1/orders/by-key/" + id, late);
  network.now.says({ t: "order", order: "ord_9", status: "confirmed", pay_by_ms: 9_000_000 });
  await pass(500);
  assert.equal(note(), "tap_confirmed");
  assert.deepEqual(basket.orders.value.map(({ order }) => order), ["ord_9"]);
  await pass(1_000);
  tap();
  assert.notEqual(asked().id, id);
});

test("a late reply to a tap that nobody waits for is its answer", async () => {
  tap();
  const { id } = asked();
  await pass(30_000);
  await replies({ outcome: "reserved", order: "ord_1", amount_minor: 1900 }, id);
  assert.equal(note(), "tap_reserved");
});

test("a key that holds an order of other content brings that order to light", async () => {
  tap();
  const { id } = asked();
  http.says.set("GET /v1/orders/by-key/" + id, { order: "ord_1", sale: "sale_1", sku: "tin", status: "confirmed", amount_minor: 3800 });
  http.says.set("GET /v1/orders/ord_1", { order: "ord_1", sale: "sale_1", sku: "tin", quantity: 2, status: "confirmed", amount_minor: 3800, currency: "CNY", created_at: "2026-01-01T00:00:00Z" });
  network.now.says({ t: "error", id, code: "key_reused", message: "", retryable: false });
  await pass(500);
  assert.equal(note(), "tap_confirmed");
  assert.deepEqual([basket.orders.value[0].quantity, basket.orders.value[0].amount_minor], [2, 3800]);
});

test("too fast is waited for and repeated with the same tap, and told when it does not end", async () => {
  tap();
  const { id } = asked();
  await replies({ outcome: "too_fast", retry_after_ms: 800 });
  assert.equal(note(), "tap_waits");
  await pass(750);
  assert.equal(orders(), 1);
  await pass(250);
  assert.deepEqual([orders(), asked().id], [2, id]);
  for (let again = 0; again < 20 && told().live; again++) { await replies({ outcome: "too_fast", retry_after_ms: 1_000 }); await pass(1_000); }
  assert.equal(note(), "tap_too_fast");
});

test("a changed price is shown as the gateway named it, and taken by a second tap that says so", async () => {
  tap();
  await replies({ outcome: "price_changed", amount_minor: 2100 });
  assert.equal(note(), "tap_price_changed");
  const offer = basket.offer(theSale(), theItem());
  assert.equal(offer.amount_minor, 2100);
  tap(offer);
  assert.equal(orders(), 1, "a double tap does not agree to a price that was not read");
  await pass(1_000);
  tap(offer);
  assert.equal(asked().expect_amount_minor, 2100);
});

test("the price that the room tells afterwards is what the button says", async () => {
  tap();
  await replies({ outcome: "price_changed", amount_minor: 2100 });
  show.sales.value = [sale({}, item({ price_minor: 2200 }))];
  assert.equal(basket.offer(theSale(), theItem()).amount_minor, 2200);
});

test("fewer that are left are offered, and a second tap takes them", async () => {
  basket.choose(theSale(), theItem(), { quantity: 2 });
  tap();
  assert.equal(asked().quantity, 2);
  await replies({ outcome: "sold_out", left: 1, may_return: true });
  assert.equal(note(), "tap_only_left");
  await pass(1_000);
  tap();
  assert.deepEqual([asked().quantity, asked().expect_amount_minor], [1, 1900]);
});

test("sold out says nothing any more once the sale tells of units", async () => {
  show.sales.value = [sale({}, item({ left: 0 }))];
  tap();
  await replies({ outcome: "sold_out", left: 0, may_return: false });
  assert.equal(standing().label, "gone");
  show.sales.value = [sale({}, item({ left: 3 }))];
  assert.deepEqual([standing().label, note()], ["buy", undefined]);
});

test("gone stays told when the room tells of the last unit after the answer, and ends when one is added", async () => {
  show.sales.value = [sale({}, item({ left: 1 }))];
  tap();
  await replies({ outcome: "sold_out", left: 0, may_return: false });
  assert.equal(standing().label, "gone");
  await pass(250);
  show.sales.value = [sale({}, item({ left: 0 }))];
  await pass(4_000);
  assert.deepEqual([standing().label, note()], ["gone", "tap_gone"]);
  show.sales.value = [sale({}, item({ left: 1 }))];
  assert.deepEqual([standing().label, note()], ["buy", undefined]);
});

test("where the room goes on telling of units after gone, they are there", async () => {
  show.sales.value = [sale({}, item({ left: 1 }))];
  tap();
  await replies({ outcome: "sold_out", left: 0, may_return: false });
  await pass(4_000);
  assert.deepEqual([standing().label, note()], ["buy", undefined]);
});

test("where the sale hides its stock, gone is asked anew after a while", async () => {
  show.sales.value = [sale({}, item({ left: undefined }))];
  tap();
  await replies({ outcome: "sold_out", left: 0, may_return: false });
  assert.equal(standing().label, "gone");
  await pass(31_000);
  assert.equal(standing().label, "buy");
});

for (const [answer, key, off] of [
  [{ outcome: "limit_reached" }, "tap_limit", false],
  [{ outcome: "not_started", opens_at_ms: 500_000 }, "tap_not_started", false],
  [{ outcome: "ended" }, "tap_ended", false],
  [{ outcome: "paused" }, "tap_paused", false],
  [{ outcome: "something_new" }, "tap_error", false],
]) {
  test(`${answer.outcome} is told, and nothing is ordered`, async () => {
    tap();
    await replies(answer);
    assert.deepEqual([note(), standing().off ?? false, basket.orders.value.length], [key, off, 0]);
  });
}

test("an error that does not pass is told, and the next tap may be asked", async () => {
  tap();
  network.now.says({ t: "error", id: asked().id, code: "forbidden", message: "", retryable: false });
  await settled();
  assert.deepEqual([note(), standing().note.facts.code], ["tap_error", "forbidden"]);
});

test("a room that is closed to this page says so, and orders nothing", async () => {
  network.now.closes(4503);
  tap();
  assert.equal(note(), "tap_away");
  assert.equal(orders(), 0);
});

test("a room that closes during a tap: what the key holds is asked for by HTTP", async () => {
  tap();
  const held = { order: "ord_1", sale: "sale_1", sku: "tin", quantity: 1, status: "confirmed", amount_minor: 1900, currency: "CNY", created_at: "2026-01-01T00:00:00Z" };
  http.says.set("GET /v1/orders/by-key/" + asked().id, held);
  http.says.set("GET /v1/orders/ord_1", held);
  network.now.closes(4504);
  await pass(1_000);
  assert.equal(note(), "tap_confirmed");
});

test("after the show HTTP takes the order, under a key of its own, and says what became of it", async () => {
  network.now.closes(4504);
  show.room.value = { room: "room_1", state: "ended" };
  http.says.set("POST /v1/orders", { outcome: "sold_out", left: 0, may_return: true });
  tap();
  await settled();
  assert.equal(note(), "tap_may_return");
  await pass(1_000);
  const order = { order: "ord_1", sale: "sale_1", sku: "tin", quantity: 1, status: "reserved", amount_minor: 1900, currency: "CNY", created_at: "2026-01-01T00:00:00Z" };
  http.says.set("POST /v1/orders", { outcome: "reserved", order });
  http.says.set("GET /v1/orders/ord_1", { ...order, status: "confirmed" });
  tap();
  await pass(500);
  assert.equal(note(), "tap_confirmed");
  await pass(1_000);
  http.says.set("POST /v1/orders", trouble(0, "offline", true));
  tap();
  await settled();
  assert.equal(note(), "tap_unsure_long");
  assert.equal(orders(), 0);
});

test("after the show an error behind a try without an answer is no word on that try", async () => {
  network.now.closes(4504);
  show.room.value = { room: "room_1", state: "ended" };
  http.says.set("POST /v1/orders", Object.assign(trouble(401, "unauthorized"), { isDoubtful: true }));
  tap();
  await settled();
  assert.equal(note(), "tap_unsure_long");
});

test("without a connection a tap waits for it, and says that it did not go out", async () => {
  network.now.closes(1006);
  tap();
  assert.equal(note(), "tap_unsent");
  await comesBack(welcome({ recovered: true }));
  assert.equal(orders(), 1);
  await replies({ outcome: "reserved", order: "ord_1", amount_minor: 1900 });
  assert.equal(note(), "tap_reserved");
});

test("states of an order never go back: an old answer of HTTP changes nothing", () => {
  const paid = { order: "ord_1", status: "paid", sku: "tin" };
  assert.equal(merged(paid, { order: "ord_1", status: "confirmed", pay_by_ms: 5 }).status, "paid");
  assert.equal(merged({ order: "ord_1", status: "expired", reason: undefined }, { order: "ord_1", status: "paid" }).status, "paid");
  assert.equal(merged({ order: "ord_1", status: "confirmed" }, { order: "ord_1", status: "reserved" }).status, "confirmed");
});

test("an order that should have been confirmed, or whose deadline is over, is asked for", async () => {
  tap();
  await replies({ outcome: "reserved", order: "ord_1", amount_minor: 1900 });
  http.says.set("GET /v1/orders/ord_1", { order: "ord_1", sale: "sale_1", sku: "tin", quantity: 1, status: "confirmed", amount_minor: 1900, currency: "CNY", pay_by: new Date(20_000).toISOString(), created_at: "1970-01-01T00:00:00Z" });
  await pass(6_000);
  assert.equal(note(), "tap_confirmed");
  http.says.get("GET /v1/orders/ord_1").status = "expired";
  await pass(20_000);
  assert.equal(note(), "tap_expired");
});

test("an order of another page is looked up and shown", async () => {
  http.says.set("GET /v1/orders/ord_7", { order: "ord_7", sale: "sale_1", sku: "tin", quantity: 1, status: "confirmed", amount_minor: 1900, currency: "CNY", created_at: "2026-01-01T00:00:00Z" });
  network.now.says({ t: "order", order: "ord_7", status: "confirmed", pay_by_ms: 9_000_000 });
  await pass(250);
  assert.deepEqual(basket.orders.value.map(({ order, title, pay_by_ms }) => [order, title, pay_by_ms]), [["ord_7", "Tin", undefined]]);
});

test("the best claim is used, what it takes off is what the gateway reckons, and one that does not fit is left out", async () => {
  http.says.set("GET /v1/coupon-claims", { items: [claim(), claim({ claim: "clm_2", coupon: "cpn_2", kind: "percent", value_minor: undefined, percent: 33 })] });
  await reload();
  assert.deepEqual([basket.offer(theSale(), theItem()).claim.claim, basket.offer(theSale(), theItem()).amount_minor], ["clm_2", 1900 - 627]);
  tap();
  assert.deepEqual([asked().coupon_claim, asked().expect_amount_minor], ["clm_2", 1273]);
  await replies({ outcome: "coupon_unusable" });
  assert.equal(note(), "tap_other_coupon");
  assert.equal(basket.offer(theSale(), theItem()).amount_minor, 1400);
  await pass(1_000);
  tap();
  await replies({ outcome: "coupon_unusable" });
  assert.equal(note(), "tap_no_coupon");
  await pass(1_000);
  tap();
  assert.deepEqual([asked().coupon_claim, asked().expect_amount_minor], [undefined, 1900]);
});

test("a claim that a tap has spoken for is offered nowhere else, and comes back with the order", async () => {
  http.says.set("GET /v1/coupon-claims", { items: [claim()] });
  await reload();
  show.sales.value = [sale({}, item(), item({ sku: "box", title: "Box" }))];
  const [, box] = theSale().items;
  tap();
  assert.equal(basket.offer(theSale(), box).claim, null);
  await replies({ outcome: "reserved", order: "ord_1", amount_minor: 1400 });
  assert.equal(basket.offer(theSale(), box).claim, null);
  network.now.says({ t: "claim", claim: "clm_1", state: "redeemed" }, { t: "order", order: "ord_1", status: "expired" }, { t: "claim", claim: "clm_1", state: "confirmed" });
  assert.equal(basket.offer(theSale(), box).claim.claim, "clm_1");
});

test("a grab is answered, and what was claimed is used once it is confirmed", async () => {
  basket.grab("cpn_1");
  const { id } = network.now.last("claim");
  basket.grab("cpn_1");
  assert.equal(network.now.count("claim"), 1);
  await replies({ outcome: "claimed", claim: "clm_1", value_minor: 500 }, id);
  assert.equal(basket.grabs.value.get("cpn_1").answer.outcome, "claimed");
  assert.equal(basket.offer(theSale(), theItem()).claim, null);
  http.says.set("GET /v1/coupon-claims", { items: [claim()] });
  network.now.says({ t: "claim", claim: "clm_1", state: "confirmed" });
  await pass(500);
  assert.equal(basket.offer(theSale(), theItem()).amount_minor, 1400);
});

test("a double tap on a coupon is one grab, also when the answer came between its halves", async () => {
  basket.grab("cpn_1");
  await replies({ outcome: "claimed", claim: "clm_1", value_minor: 500 }, network.now.last("claim").id);
  basket.grab("cpn_1");
  assert.equal(network.now.count("claim"), 1);
  await pass(1_000);
  basket.grab("cpn_1");
  assert.equal(network.now.count("claim"), 2);
});

test("a grab over a reload keeps its key, and the welcome says what became of it", async () => {
  basket.grab("cpn_1");
  const { id } = network.now.last("claim");
  await reload({ isConnected: false });
  assert.equal(basket.grabs.value.get("cpn_1").state, "unsure");
  network.now.opens();
  network.now.says(welcome({ claims: [{ coupon: "cpn_1", key: id, outcome: "none" }] }), snapshot(3));
  await settled();
  assert.equal(basket.grabs.value.get("cpn_1").answer.outcome, "none");
  basket.grab("cpn_1");
  assert.equal(network.now.last("claim").id, id);
});

test("paying leads to the provider, to the shop, or to what the order has become", async () => {
  http.says.set("POST /v1/orders/ord_1/pay", { url: "https://pay.example.com/1" });
  assert.deepEqual(await basket.pay("ord_1"), { url: "https://pay.example.com/1" });
  http.says.set("POST /v1/orders/ord_1/pay", { url: "javascript:alert(1)" });
  assert.deepEqual(await basket.pay("ord_1"), { error: "internal" });
  http.says.set("POST /v1/orders/ord_1/pay", trouble(409, "conflict"));
  http.says.set("GET /v1/orders/ord_1", { order: "ord_1", sale: "sale_1", sku: "tin", quantity: 1, status: "confirmed", amount_minor: 1900, currency: "CNY", created_at: "2026-01-01T00:00:00Z" });
  assert.deepEqual(await basket.pay("ord_1"), { at: "shop" });
  http.says.get("GET /v1/orders/ord_1").status = "expired";
  assert.equal((await basket.pay("ord_1")).order.status, "expired");
});

test("what a coupon takes off is rounded down, and something is always paid", () => {
  assert.equal(discountOf({ kind: "percent", percent: 33 }, 1999), 659);
  assert.equal(discountOf({ kind: "percent", percent: 99 }, 9 * 10 ** 15 + 1), 8_910_000_000_000_000);
  assert.equal(discountOf({ kind: "amount", value_minor: 5000 }, 1900), 1899);
  assert.equal(bestClaim([claim({ valid_until_ms: 9, threshold_minor: 2000 })], { sale: "s", currency: "CNY", amount: 1900, now: 1 }), null);
  assert.equal(bestClaim([claim({ valid_until_ms: 9, currency: "EUR" })], { sale: "s", currency: "CNY", amount: 1900, now: 1 }), null);
  assert.equal(bestClaim([claim({ valid_until_ms: 1 })], { sale: "s", currency: "CNY", amount: 1900, now: 1 }), null);
});

test("a threshold is judged by price times quantity", () => {
  const usable = [claim({ valid_until_ms: 9, threshold_minor: 3000 })];
  const offer = (quantity) => offerOf({ sale: sale(), item: item(), choice: { quantity }, claims: usable, now: 1 });
  assert.deepEqual([offer(1).amount_minor, offer(2).amount_minor], [1900, 3300]);
});

test("the next step and the phase are of the gateway's time", () => {
  const prices = [{ from: "1970-01-01T00:00:10Z", price_minor: 1 }, { from: "1970-01-01T00:00:20Z", price_minor: 2 }];
  assert.equal(nextStep({ prices }, 9_999).price_minor, 1);
  assert.equal(nextStep({ prices }, 10_000).price_minor, 2);
  assert.equal(nextStep({ prices }, 20_000), null);
  const scheduled = sale({ state: "scheduled", opens_at_ms: 10, closes_at_ms: 20 });
  assert.deepEqual([9, 10, 20].map((now) => phaseOf(scheduled, now)), ["before", "open", "over"]);
  assert.equal(phaseOf(sale({ state: "open", opens_at_ms: 10, closes_at_ms: 20 }), 9), "open");
});
