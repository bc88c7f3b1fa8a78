// The client's rules, against a scripted network and a mocked clock.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { PeakgateError, Room, freshKey } from "../../gateway/api/static/peakgate.js";
import { MemoryStorage, scriptedNetwork, settled, snapshot, tick, welcome } from "./scripted.mjs";

let network, storage, fresh;

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  network = scriptedNetwork();
  storage = new MemoryStorage();
  fresh = 0;
});

const pass = async (ms) => { mock.timers.tick(ms); await settled(); };

function enter(options = {}) {
  const room = new Room({
    url: "ws://shop/live", token: "first", connect: network.connect, storage, random: () => 1,
    refreshToken: async () => `fresh-${++fresh}`, ...options,
  });
  room.open();
  network.now.opens();
  return room;
}

function entered(options) {
  const room = enter(options);
  network.now.says(welcome(), snapshot(3));
  return room;
}

test("the first frame is hello with the token and nothing else in it", () => {
  enter();
  assert.deepEqual(network.now.sent, [{ t: "hello", token: "first", pending: [] }]);
});

test("after a cut it names the last tick and shows what was missed once", async () => {
  const room = entered();
  const seen = [];
  room.on("tick", ({ seq }) => seen.push(seq));
  network.now.says(tick(4), tick(5));
  network.now.closes(1006);
  assert.equal(room.state, "waiting");
  await pass(250);
  network.now.opens();
  assert.deepEqual(network.now.last("hello").resume, { epoch: 7, seq: 5 });
  network.now.says(welcome({ recovered: true, seq: 7 }), tick(5), tick(6), tick(7));
  assert.deepEqual(seen, [4, 5, 6, 7]);
});

test("ticks before the snapshot of a welcome that did not recover are not shown", () => {
  const room = enter();
  const seen = [];
  room.on("tick", ({ seq }) => seen.push(seq));
  network.now.says(welcome(), tick(3), snapshot(4), tick(4), tick(5));
  assert.deepEqual(seen, [5]);
});

for (const code of [1001, 1006, 1011, 1012, 1013, 4008, 4010, 4013, 4014, 4029, 4401, 4499]) {
  test(`close code ${code} comes back`, async () => {
    entered();
    network.now.closes(code);
    await pass(250);
    assert.equal(network.sockets.length, 2);
  });
}

for (const code of [1000, 1002, 1003, 1007, 1009, 4500, 4503, 4504, 4507, 4509, 4999]) {
  test(`close code ${code} stays away`, async () => {
    const room = entered();
    const waiting = room.comment("hello");
    network.now.closes(code);
    await assert.rejects(waiting, (error) => error instanceof PeakgateError && error.code === "away");
    await pass(60_000);
    assert.equal(network.sockets.length, 1);
    assert.equal(room.state, "away");
  });
}

test("4010 comes back without a place, so that a snapshot is sent", async () => {
  entered();
  network.now.closes(4010);
  await pass(250);
  network.now.opens();
  assert.equal(network.now.last("hello").resume, undefined);
});

test("an ended token is replaced before the next hello, and without a hook it is the end", async () => {
  entered();
  network.now.closes(4401);
  await pass(250);
  network.now.opens();
  assert.equal(network.now.last("hello").token, "fresh-1");

  const room = entered({ refreshToken: undefined });
  network.now.closes(4401);
  assert.equal(room.state, "away");
});

test("who waits for a fresh token comes back with that one only, however often the page is seen or it cannot be had", async () => {
  let give, tries = 0;
  const room = entered({ refreshToken: () => (++tries === 1 ? Promise.reject(new Error("away")) : new Promise((resolve) => { give = resolve; })) });
  network.now.closes(4401);
  room.wake();
  await pass(250);
  await pass(500);
  room.wake();
  assert.deepEqual([tries, network.sockets.length, room.state], [2, 1, "waiting"]);
  give("fresh");
  await settled();
  network.now.opens();
  assert.equal(network.now.last("hello").token, "fresh");
  network.now.says(welcome());
  network.now.closes(1006);
  room.wake();
  assert.equal(network.sockets.length, 3);
});

test("a token that is about to end is replaced on the socket that is there", async () => {
  entered();
  network.now.says({ t: "token_ending", in_ms: 60_000 });
  await settled();
  assert.deepEqual(network.now.last("token"), { t: "token", token: "fresh-1" });
});

test("pauses double with full jitter up to ten seconds, behind what the gateway asked for", async () => {
  const draws = [];
  const room = enter({ random: () => { draws.push(1); return 1; } });
  const pauses = [];
  for (let round = 0; round < 8; round++) {
    const before = network.sockets.length;
    network.now.closes(1006);
    let waited = 0;
    while (network.sockets.length === before) { await pass(50); waited += 50; }
    pauses.push(waited);
    network.now.opens();
  }
  assert.deepEqual(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(draws.length, 8);
  network.now.says({ t: "bye", code: 4029, reason: "full", retry_after_ms: 3_000 });
  network.now.closes(4029);
  await pass(12_950);
  assert.equal(room.state, "waiting");
  await pass(50);
  assert.equal(room.state, "connecting");
});

test("an order's key is named at the next hello, and its answer there is the answer", async () => {
  const room = entered();
  const answer = room.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1" });
  network.now.closes(1006);
  await pass(250);
  network.now.opens();
  assert.deepEqual(network.now.last("hello").pending, [{ sale: "sale_1", key: "tap-1" }]);
  network.now.says(welcome({ orders: [{ sale: "sale_1", key: "tap-1", outcome: "reserved", order: "ord_1", status: "confirmed" }] }));
  const { order, outcome, replayed } = await answer;
  assert.deepEqual({ order, outcome, replayed }, { order: "ord_1", outcome: "reserved", replayed: true });
  assert.equal(network.now.count("order"), 0);
});

test("a key that holds nothing is asked again with the same content, if somebody waits", async () => {
  const room = entered();
  const answer = room.order({ sale: "sale_1", sku: "tin", quantity: 2 }, { key: "tap-1" });
  network.now.closes(1006);
  await pass(250);
  network.now.opens();
  network.now.says(welcome({ orders: [{ sale: "sale_1", key: "tap-1", outcome: "none" }] }));
  assert.deepEqual(network.now.last("order"), { t: "order", id: "tap-1", sale: "sale_1", sku: "tin", quantity: 2 });
  network.now.says({ t: "reply", id: "tap-1", outcome: "sold_out", left: 0 });
  assert.equal((await answer).outcome, "sold_out");
});

test("over a reload a key is named and told of, and never asked again in nobody's name", async () => {
  const before = entered();
  before.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1" }).catch(() => {});
  before.claim("cpn_1", { key: "grab-1" }).catch(() => {});
  network = scriptedNetwork();
  const known = [];
  const room = enter();
  room.on("known", (each) => known.push(each));
  assert.deepEqual(network.now.last("hello").pending, [{ sale: "sale_1", key: "tap-1" }, { coupon: "cpn_1", key: "grab-1" }]);
  network.now.says(welcome({
    orders: [{ sale: "sale_1", key: "tap-1", outcome: "none" }],
    claims: [{ coupon: "cpn_1", key: "grab-1", outcome: "claimed", claim: "clm_1", state: "confirmed" }],
  }));
  assert.deepEqual(known.map(({ key, outcome }) => [key, outcome]), [["tap-1", "none"], ["grab-1", "claimed"]]);
  assert.equal(network.now.count("order") + network.now.count("claim"), 0);
  network.now.closes(1006);
  await pass(250);
  network.now.opens();
  assert.deepEqual(network.now.last("hello").pending, []);
});

test("a reserved order is named until it is confirmed", async () => {
  const room = entered();
  const states = [];
  room.on("order", ({ status }) => states.push(status));
  const answer = room.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1" });
  network.now.says({ t: "reply", id: "tap-1", outcome: "reserved", order: "ord_1", amount_minor: 100 });
  assert.equal((await answer).order, "ord_1");
  network.now.closes(1006);
  await pass(250);
  network.now.opens();
  assert.equal(network.now.last("hello").pending.length, 1);
  network.now.says(welcome({ recovered: true, orders: [] }), { t: "order", order: "ord_1", status: "confirmed", pay_by_ms: 5 });
  network.now.closes(1006);
  await pass(500);
  network.now.opens();
  assert.deepEqual(network.now.last("hello").pending, []);
  assert.deepEqual(states, ["reserved", "confirmed"]);
});

test("an error that passes is asked again under the same key after the pause it names", async () => {
  const room = entered();
  const answer = room.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1" });
  network.now.says({ t: "error", id: "tap-1", code: "overloaded", message: "", retryable: true, retry_after_ms: 400 });
  await pass(600);
  assert.equal(network.now.count("order"), 1);
  await pass(50);
  assert.equal(network.now.count("order"), 2);
  network.now.says({ t: "error", id: "tap-1", code: "not_found", message: "no such sale", retryable: false });
  await assert.rejects(answer, { code: "not_found", retryable: false });
});

test("who waits too long is told so, and the key still tells", async () => {
  const room = entered();
  const answer = room.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1", withinMs: 5_000 });
  const told = assert.rejects(answer, { code: "no_answer" });
  await pass(5_000);
  await told;
  const states = [];
  room.on("order", ({ order, status }) => states.push([order, status]));
  network.now.says({ t: "reply", id: "tap-1", outcome: "reserved", order: "ord_1" });
  assert.deepEqual(states, [["ord_1", "reserved"]]);
});

test("a key on its way with other content is refused here", async () => {
  const room = entered();
  room.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1" }).catch(() => {});
  await assert.rejects(room.order({ sale: "sale_1", sku: "tin", quantity: 2 }, { key: "tap-1" }), { code: "key_reused" });
});

test("a socket that says nothing is asked, and left when it does not answer", async (context) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  const room = entered();
  for (let second = 0; second < 16; second++) { now += 1_000; await pass(1_000); }
  assert.equal(network.now.count("ping"), 1);
  network.now.says({ t: "pong", id: network.now.last("ping").id, now_ms: 60_000 });
  for (let second = 0; second < 28; second++) { now += 1_000; await pass(1_000); }
  assert.equal(network.sockets.length, 2);
  assert.equal(room.state, "connecting");
});

test("a page that is seen again notices a dead socket within three seconds", async (context) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  const room = entered();
  room.wake();
  for (let second = 0; second < 4; second++) { now += 1_000; await pass(1_000); }
  assert.equal(room.state, "waiting");
  await pass(250);
  assert.equal(network.sockets.length, 2);
});

test("the gateway's time is measured by the answer that took the shortest way", (context) => {
  let now = 10;
  context.mock.method(performance, "now", () => now);
  const room = enter();
  now = 110;
  network.now.says(welcome({ now_ms: 5_000 }), snapshot(3)); // 100 ms there and back: 5,050 now
  assert.equal(room.now(), 5_050);
  now = 1_000;
  room.wake();
  now = 1_020;
  network.now.says({ t: "pong", id: network.now.last("ping").id, now_ms: 6_000 }); // 20 ms: 6,010 now
  assert.equal(room.now(), 6_010);
  room.wake();
  now = 2_020;
  network.now.says({ t: "pong", id: network.now.last("ping").id, now_ms: 9_000 }); // a second: worth less
  assert.equal(room.now(), 7_010);
});

test("unknown frames and broken ones disturb nobody", () => {
  const room = entered();
  const heard = [];
  room.on("figures", (frame) => heard.push(frame));
  network.now.onmessage({ data: "{" });
  network.now.says({ t: "something_new" }, { t: "figures", visits: 3 });
  assert.deepEqual(heard, [{ t: "figures", visits: 3 }]);
});

test("keys are of the contract's letters and never the same", () => {
  const keys = new Set(Array.from({ length: 1_000 }, freshKey));
  assert.equal(keys.size, 1_000);
  for (const key of keys) assert.match(key, /^[A-Za-z0-9\-_.:]{1,64}$/);
});
