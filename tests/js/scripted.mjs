// A gateway of scripted frames: what the network does is said by the test, word by word.

export class ScriptedSocket {
  sent = [];
  isOpen = false;

  constructor(url) { this.url = url; }

  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.closedWith = code; }

  opens() { this.isOpen = true; this.onopen(); }
  says(...frames) { for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) }); }
  closes(code) { this.onclose({ code }); }

  last(kind) { return this.sent.filter((frame) => frame.t === kind).at(-1); }
  count(kind) { return this.sent.filter((frame) => frame.t === kind).length; }
}

/** Sockets in the order in which they were opened. */
export function scriptedNetwork() {
  const sockets = [];
  return {
    sockets,
    connect(url) {
      const socket = new ScriptedSocket(url);
      sockets.push(socket);
      return socket;
    },
    get now() { return sockets.at(-1); },
  };
}

export const welcome = (more = {}) => ({ t: "welcome", you: "vw_1", epoch: 7, seq: 3, now_ms: 1_000, recovered: false, ...more });
export const snapshot = (seq, epoch = 7) => ({
  t: "snapshot", room: {}, epoch, seq, viewers: 0, likes: 0, sales: [], coupons: [], pin: null, recent: [], chat: {},
});
export const tick = (seq, ...ev) => ({ t: "tick", seq, now_ms: 2_000, ev });

export class MemoryStorage {
  #items = new Map();
  getItem(name) { return this.#items.get(name) ?? null; }
  setItem(name, value) { this.#items.set(name, value); }
}

/** Lets what was promised run. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
