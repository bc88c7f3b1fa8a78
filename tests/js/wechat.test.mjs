// The mini-program's socket, against a stand-in for `wx` that does what its documentation says.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { forWeChat, wakeOnShow } from "../../gateway/api/static/peakgate-wx.js";
import { Room } from "../../gateway/api/static/peakgate.js";
import { settled, snapshot, welcome } from "./scripted.mjs";

/** Callbacks are registered on the task, data goes in objects, and a cut in the background is an error without a code. */
function weChat() {
  const kept = new Map(), shown = new Set(), tasks = [];
  return {
    tasks,
    connectSocket(options) {
      const task = { options, sent: [], on: {} };
      for (const name of ["Open", "Message", "Close", "Error"]) task[`on${name}`] = (call) => { task.on[name] = call; };
      task.send = ({ data }) => task.sent.push(JSON.parse(data));
      task.close = ({ code }) => { task.closedWith = code; };
      task.says = (frame) => task.on.Message({ data: JSON.stringify(frame) });
      tasks.push(task);
      return task;
    },
    getStorageSync: (name) => kept.get(name) ?? "", // nothing reads as ""
    setStorageSync: (name, value) => kept.set(name, value),
    onAppShow: (call) => shown.add(call),
    offAppShow: (call) => shown.delete(call),
    show: () => shown.forEach((call) => call()),
  };
}

test("a tap that was cut in the background is answered by its key when the app is seen again", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const wx = weChat();
  const room = new Room({ url: "wss://shop/live", token: "t", random: () => 1, ...forWeChat(wx) });
  const unseen = wakeOnShow(wx, room);
  room.open();
  assert.deepEqual(wx.tasks[0].options.protocols, ["peakgate.v1.json"]);
  wx.tasks[0].on.Open();
  wx.tasks[0].says(welcome());
  wx.tasks[0].says(snapshot(3));
  const answer = room.order({ sale: "sale_1", sku: "tin", quantity: 1 }, { key: "tap-1" });
  wx.tasks[0].on.Error({ errMsg: "interrupted" });
  wx.tasks[0].on.Close({ code: 1006 }); // some devices say both
  assert.equal(room.state, "waiting");
  wx.show();
  assert.equal(wx.tasks.length, 2);
  wx.tasks[1].on.Open();
  assert.deepEqual(wx.tasks[1].sent[0].pending, [{ sale: "sale_1", key: "tap-1" }]);
  wx.tasks[1].says(welcome({ orders: [{ sale: "sale_1", key: "tap-1", outcome: "reserved", order: "ord_1", status: "confirmed" }] }));
  assert.equal((await answer).order, "ord_1");
  unseen();
  room.close();
  assert.equal(wx.tasks[1].closedWith, 1000);
  await settled();
  mock.timers.reset();
});

test("neither file asks for what mini-programs lack", async () => {
  const { readFile } = await import("node:fs/promises");
  for (const name of ["peakgate.js", "peakgate-wx.js"]) {
    const text = await readFile(new URL(`../../gateway/api/static/${name}`, import.meta.url), "utf8");
    assert.doesNotMatch(text.replace(/^\/\/.*$/gm, ""), /TextDecoder|TextEncoder|structuredClone|\bwindow\b|\bdocument\b/);
  }
});
