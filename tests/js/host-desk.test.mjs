// The host's desk without its drawing: what the socket brings, what a sale is asked for, and what is typed of one.

import "./bare-imports.mjs";
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { scriptedNetwork, settled, snapshot, welcome } from "./scripted.mjs";

globalThis.document ??= { documentElement: { lang: "en" }, querySelector: () => null };
globalThis.navigator ??= { languages: ["en"] };
const host = "../../gateway/api/static/host";
const { signal } = await import("@preact/signals");
const { openDesk } = await import(`${host}/desk.js`);
const { perMinute } = await import(`${host}/timeline.js`);
const { trendsOf, wayOf } = await import(`${host}/trend.js`);
const { lastsFor, Pace } = await import(`${host}/pace.js`);
const { blankDraft, blankStep, bodyOf, wrongIn } = await import(`${host}/sale-draft.js`);
const { told } = await import(`${host}/told.js`);
const { amountTyped, typedAmount } = await import(`${host}/typed-money.js`);

let network, desk, says, asked, keys;

const call = async (method, path, key) => {
  asked.push(`${method} ${path}`);
  if (key) keys.push(key);
  const answer = says[`${method} ${path}`];
  if (answer instanceof Error) throw answer;
  if (answer === undefined) throw Object.assign(new Error("There is no such thing."), { code: "not_found" });
  return structuredClone(answer);
};
const http = { get: (path) => call("GET", path), post: (path, body, { key }) => call("POST", path, key), put: (path) => call("PUT", path), patch: (path) => call("PATCH", path), del: (path) => call("DELETE", path) };
const item = (facts = {}) => ({ sku: "tin", title: "Tin", price_minor: 1900, limit_per_viewer: 1, stock: 100, left: 90, held: 4, paid: 6, ...facts });
const comment = (no, facts = {}) => ({ k: "comment", comment: `cmt_${no}`, viewer: "vw_1", name: "Vera", text: `${no}`, at_ms: no, ...facts });

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  network = scriptedNetwork();
  globalThis.WebSocket = function (url) { return network.connect(url); };
  asked = [];
  keys = [];
  says = {
    "GET /v1/rooms/room_1": { room: "room_1", title: "Evening tea", state: "live", live_url: "ws://gateway/v1/rooms/room_1/live", started_at: "2023-11-14T22:00:00Z", sales: [{ sale: "sale_1" }] },
    "GET /v1/sales/sale_1": { sale: "sale_1", title: "First flush", state: "open", currency: "CNY", opens_at: "2023-11-14T22:00:00Z", closes_at: "2033-11-14T22:00:00Z", items: [item()] },
  };
  desk = openDesk({ http, session: signal({ token: "token" }) });
});
afterEach(() => {
  desk.close();
  mock.timers.reset();
});

async function inRoom() {
  await desk.choose("room_1");
  await settled();
  const socket = network.now;
  socket.opens();
  socket.says(welcome());
  socket.says(snapshot(0));
  await settled();
  let seq = 0;
  return { socket, tick: async (ev, facts = {}) => { socket.says({ t: "tick", seq: ++seq, now_ms: 1, ev, ...facts }); await settled(); } };
}
const countOf = (start) => asked.filter((each) => each === start).length;

test("comments are bounded, and what was taken back stays, marked", async () => {
  const { tick } = await inRoom();
  for (let at = 0; at < 30; at++) await tick(Array.from({ length: 10 }, (_, no) => comment(at * 10 + no)), { skipped: 1 });
  assert.equal(desk.comments.value.length, 200);
  assert.equal(desk.comments.value.at(-1).comment, "cmt_299");
  assert.equal(desk.skipped.value, 30);
  await tick([{ k: "comment_gone", comment: "cmt_298" }]);
  assert.deepEqual(desk.comments.value.filter((each) => each.gone).map((each) => each.comment), ["cmt_298"]);
  await tick([comment(300, { viewer: "vw_2" }), { k: "comment_gone", viewer: "vw_1" }]);
  assert.deepEqual(desk.comments.value.filter((each) => !each.gone).map((each) => each.comment), ["cmt_300"]);
});

test("a sale is asked for once a second at most, however much happens in it", async () => {
  const { tick } = await inRoom();
  assert.equal(desk.sales.value[0].items[0].held, 4);
  const before = countOf("GET /v1/sales/sale_1");
  for (let no = 0; no < 50; no++) await tick([{ k: "stock", sale: "sale_1", sku: "tin", left: 90 - no }]);
  mock.timers.tick(1_000);
  await settled();
  assert.equal(countOf("GET /v1/sales/sale_1"), before + 1);
  mock.timers.tick(2_000);
  await settled();
  assert.equal(countOf("GET /v1/sales/sale_1"), before + 1);
});

test("a sale that is new in the room is found by its event", async () => {
  const { tick } = await inRoom();
  says["GET /v1/rooms/room_1"].sales.push({ sale: "sale_2" });
  says["GET /v1/sales/sale_2"] = { ...says["GET /v1/sales/sale_1"], sale: "sale_2" };
  await tick([{ k: "sale", sale: "sale_2", state: "open" }]);
  await settled();
  assert.deepEqual(desk.sales.value.map((sale) => sale.sale), ["sale_1", "sale_2"]);
});

test("the feed holds each order once, as it is now, and a hundred of them", async () => {
  const { socket } = await inRoom();
  const order = (no, status) => ({ order: `ord_${no}`, status, created_at_ms: no });
  for (let at = 0; at < 4; at++) socket.says({ t: "feed", orders: Array.from({ length: 40 }, (_, no) => order(at * 40 + no, "confirmed")), more: at });
  socket.says({ t: "feed", orders: [order(159, "paid")] });
  assert.equal(desk.feed.value.length, 100);
  assert.deepEqual(desk.feed.value[0], order(159, "paid"));
  assert.equal(desk.feedMissed.value, 6);
});

test("an act that failed is told and asked after; one without an answer is true", async () => {
  await inRoom();
  says["DELETE /v1/rooms/room_1/pin"] = null;
  assert.equal(await desk.act("DELETE", "/v1/rooms/room_1/pin"), true);
  says["POST /v1/sales/sale_1/pause"] = Object.assign(new Error("Over."), { code: "conflict" });
  const before = countOf("GET /v1/sales/sale_1");
  assert.equal(await desk.act("POST", "/v1/sales/sale_1/pause", undefined, { failed: () => "" }), null);
  await settled();
  assert.equal(countOf("GET /v1/sales/sale_1"), before + 1);
});

test("an act that may have been done keeps its key until it is answered", async () => {
  await inRoom();
  const drop = (for_s) => desk.act("POST", "/v1/coupons/cpn_1/drop", { room: "room_1", for_s }, { failed: () => "" });
  const fails = (code, facts) => { says["POST /v1/coupons/cpn_1/drop"] = Object.assign(new Error(code), { code, ...facts }); };
  fails("offline", { isDoubtful: true });
  await drop(60);
  fails("rate_limited", { retryable: true }); // was not looked at
  await drop(60);
  await drop(30); // another act
  says["POST /v1/coupons/cpn_1/drop"] = { coupon: "cpn_1" };
  await drop(60);
  await drop(60);
  const [first, second, other, answered, anew] = keys;
  assert.deepEqual([second, answered], [first, first]);
  assert.equal(new Set([first, other, anew]).size, 3);
});

test("what is pressed again while it runs is sent once", async () => {
  await inRoom();
  says["POST /v1/rooms/room_1/announcements"] = { text: "Tea" };
  const announce = () => desk.act("POST", "/v1/rooms/room_1/announcements", { text: "Tea" });
  assert.deepEqual(await Promise.all([announce(), announce()]), [{ text: "Tea" }, { text: "Tea" }]);
  assert.equal(keys.length, 1);
});

test("the trend is the gateway's, and the worst is marked when both ten minutes are whole", async () => {
  const pair = (last, before) => ({ last, before });
  const figures = { viewers_avg: pair(90, 100), comments: pair(40, 40), orders_placed: pair(20, 30), orders_paid: pair(2, 4), gmv_placed_minor: pair(4000, 0),
    gmv_paid_minor: pair(0, 0), payment_rate: pair(null, 0.5), orders_per_entry: pair(0.3, 0.2) };
  says["GET /v1/rooms/room_1/trend"] = { span_s: 600, last_s: 600, before_s: 600, complete: true, figures };
  await inRoom();
  const trends = trendsOf(desk.trend.value);
  assert.deepEqual([...trends].map(([name, trend]) => [name, wayOf(trend)]), [
    ["viewers_now", "down"], ["comments", "steady"], ["orders_placed", "down"], ["orders_paid", "down"], ["gmv_placed_minor", "up"], ["orders_per_entry", "up"],
  ]);
  // Paid orders fell more, and were too few to tell.
  assert.deepEqual([...trends].filter(([, { isWorst }]) => isWorst).map(([name]) => name), ["orders_placed"]);
  const early = trendsOf({ ...desk.trend.value, before_s: 300, complete: false });
  assert.ok([...early.values()].every(({ isWhole, isWorst, change }) => !isWhole && !isWorst && change === null));
  assert.equal(trendsOf({ ...desk.trend.value, last_s: 300, complete: false }).size, 0);
});

test("how many there were in a minute is not made larger by a show that is young", () => {
  const bucket = (s, comments_per_s) => ({ at: new Date(s * 1000).toISOString(), comments_per_s });
  const report = { bucket_s: 5, at: new Date(12_000).toISOString(), timeline: [bucket(0, 0.2), bucket(5, 0.4), bucket(10, 0)] };
  assert.equal(perMinute(report, "comments_per_s"), 3);
  assert.equal(perMinute({ ...report, ended_at: report.at }, "comments_per_s"), 15);
  assert.equal(perMinute(null, "comments_per_s"), null);
});

test("leaving a room forgets it, and what still comes of it is not taken up", async () => {
  const { socket } = await inRoom();
  await desk.choose(null);
  socket.says({ t: "tick", seq: 1, now_ms: 1, ev: [comment(1)] });
  assert.deepEqual([desk.room.value, desk.sales.value, desk.comments.value, desk.client.value], [null, [], [], null]);
});

test("the pace of the last minute says how long the rest lasts, and nothing where it cannot", () => {
  const pace = new Pace();
  pace.saw(0, 0);
  assert.equal(pace.lately(), null);
  for (let at = 5_000; at <= 120_000; at += 5_000) pace.saw(at, at / 1_000);
  assert.deepEqual(pace.lately(), { units: 60, over_ms: 60_000 });
  assert.equal(lastsFor(40, pace.lately()), 40_000);
  for (let at = 125_000; at <= 240_000; at += 5_000) pace.saw(at, 120);
  assert.equal(lastsFor(40, pace.lately()), null);
});

test("money is typed in main units, and goes through no float", () => {
  assert.deepEqual(["168", "16.5", "16,50", "0.29", "90071992547.41"].map((text) => amountTyped(text, "CNY")), [16800, 1650, 1650, 29, 9007199254741]);
  assert.deepEqual(["1680", "16.5"].map((text) => amountTyped(text, "JPY")), [1680, null]);
  assert.deepEqual(["", "1,200", "1.234", "-5", "abc", "1e3"].map((text) => amountTyped(text, "CNY")), [null, null, null, null, null, null]);
  assert.deepEqual([16800, 1650, 5, 0].map((minor) => typedAmount(minor, "CNY")), ["168", "16.50", "0.05", "0"]);
});

test("a draft says what is wrong by the gateway's own names, and becomes a body", () => {
  const draft = blankDraft("CNY");
  assert.deepEqual(Object.keys(wrongIn(draft)).sort(), ["items[0].price_minor", "items[0].sku", "items[0].stock", "items[0].title", "opens_at", "title"]);
  Object.assign(draft, { title: " Flash ", opens: "in", opens_in_s: "60", lasts_min: "5" });
  Object.assign(draft.items[0], { sku: "tin", title: "Tin", price: "168", stock: "10", floor: "100", steps: [{ ...blankStep(), minutes: "2", price: "99" }] });
  assert.deepEqual(wrongIn(draft), { "items[0].prices[0].price_minor": "underFloor" });
  draft.items[0].steps[0].price = "120";
  assert.deepEqual(wrongIn(draft), {});
  assert.deepEqual(bodyOf(draft, { room: "room_1", now: 0 }), {
    title: "Flash", room: "room_1", currency: "CNY", opens_at: "1970-01-01T00:01:00.000Z", closes_at: "1970-01-01T00:06:00.000Z", pay_within_s: 300, stock_display: "exact",
    items: [{ sku: "tin", title: "Tin", price_minor: 16800, stock: 10, limit_per_viewer: 1, floor_minor: 10000, prices: [{ from: "1970-01-01T00:03:00.000Z", price_minor: 12000 }] }],
  });
});

test("the gateway's sentences are told in Chinese, and what is not known stays as it is", () => {
  assert.deepEqual(told("The sale opens in 13 hours and lasts 10 minutes.", "zh"), { text: "场次 13 小时后开售，时长 10 分钟。" });
  assert.deepEqual(told("Something else.", "zh"), { text: "Something else.", lang: "en" });
  assert.deepEqual(told("Expected `int` <= 100.", "en"), { text: "At most 100." });
  assert.deepEqual(told("The sale is paused.", "en"), { text: "The sale is paused." });
});
