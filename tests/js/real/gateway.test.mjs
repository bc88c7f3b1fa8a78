// The client against a real gateway; tests/e2e/test_browser_client.py starts it and says where it is.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Room } from "../../../gateway/api/static/peakgate.js";

const { PEAKGATE_LIVE_URL: url, PEAKGATE_TOKENS, PEAKGATE_SALE: sale } = process.env;
const tokens = PEAKGATE_TOKENS.split(",");

/** The next value that passes, or a failure after 10 s. */
function heard(room, name, passes = () => true) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${name} within 10 s`)), 10_000);
    const end = room.on(name, (value) => {
      if (!passes(value)) return;
      clearTimeout(late);
      end();
      resolve(value);
    });
  });
}

/** A room whose sockets the test may cut as a network does: without a close frame, whatever is on its way is lost. */
async function enter(token, options = {}) {
  const sockets = [];
  const room = new Room({
    url, token, storage: null,
    connect: (to) => { const socket = new WebSocket(to, "peakgate.v1.json"); sockets.push(socket); return socket; },
    ...options,
  });
  const snapshot = heard(room, "snapshot");
  room.open();
  return { room, snapshot: await snapshot, sockets, cut: () => { const socket = sockets.at(-1); socket.onclose({ code: 1006 }); socket.close(); } };
}

test("a viewer speaks, and reads it in a tick of the room", async () => {
  const { room } = await enter(tokens[0]);
  const shown = heard(room, "event", ({ k, text }) => k === "comment" && text === "你好");
  const { outcome, comment } = await room.comment("你好");
  assert.equal(outcome, "posted");
  assert.equal((await shown).comment, comment);
  room.close();
});

test("an order is reserved, then confirmed", async () => {
  const { room, snapshot } = await enter(tokens[1]);
  assert.equal(snapshot.sales[0].sale, sale);
  const confirmed = heard(room, "order", ({ status }) => status === "confirmed");
  const { outcome, order } = await room.order({ sale, sku: "tin", quantity: 1, expect_amount_minor: 1900 });
  assert.equal(outcome, "reserved");
  assert.equal((await confirmed).order, order);
  room.close();
});

test("a tap cut on its way has one true answer, whichever way it went", async () => {
  const { room, cut, sockets } = await enter(tokens[2]);
  const answers = [];
  for (let tap = 0; tap < 5; tap++) {
    const answer = room.order({ sale, sku: "tin", quantity: 1 });
    cut();
    answers.push(await answer);
  }
  // The limit is two a viewer.
  assert.deepEqual(answers.map(({ outcome }) => outcome), ["reserved", "reserved", "limit_reached", "limit_reached", "limit_reached"]);
  assert.equal(new Set(answers.map(({ order }) => order)).size, 3);
  assert.ok(sockets.length >= 6);
  room.close();
});

test("a viewer who was away goes on where they left", async () => {
  const { room, cut } = await enter(tokens[3]);
  const seqs = [];
  room.on("tick", ({ seq }) => seqs.push(seq));
  const other = await enter(tokens[4]);
  const tick = heard(room, "tick");
  await other.room.comment("before");
  await tick;
  const welcome = heard(room, "welcome");
  cut();
  await other.room.comment("meanwhile");
  assert.equal((await welcome).recovered, true);
  const after = heard(room, "event", ({ text }) => text === "after");
  await other.room.comment("after");
  await after;
  seqs.forEach((seq, at) => assert.equal(seq, seqs[0] + at));
  room.close();
  other.room.close();
});

test("the gateway's time is known to a part of a second", async () => {
  const { room } = await enter(tokens[5]);
  assert.ok(Math.abs(room.now() - Date.now()) < 1_000);
  room.close();
});

test("a token that is none keeps the client away", async () => {
  const room = new Room({ url, token: "none", storage: null });
  const away = heard(room, "state", ({ state }) => state === "away");
  room.open();
  assert.equal((await away).code, 4500);
});
