// A viewer's or host's place in a live room of Peakgate: one socket at a time, over as many as it takes.
//
// An ES module without dependencies. It says hello, goes on where it left, comes back with full jitter where the close code
// allows it, matches replies by id, keeps every key of an order or claim until its true answer, brings fresh tokens, and
// knows the gateway's time. It draws nothing. The contract behind it is the gateway's /asyncapi.json.

const COME_BACK = new Set([1001, 1005, 1006, 1011, 1012, 1013]);
const TOKEN_ENDED = 4401, TAKE_SNAPSHOT = 4010;
const BASE_MS = 250, CAP_MS = 10_000;
const STEADY_AFTER_MS = 5_000; // a socket that lived this long ends the row of failures
const SILENT_AFTER_MS = 15_000, DEAD_AFTER_MS = 10_000, DEAD_AFTER_WAKE_MS = 3_000;
const ASK_AGAIN_AFTER_MS = 7_000; // a request is decided within 5 s or not at all
const MAX_PENDING = 32; // keys a hello may name

/** What went wrong, by the gateway's code; `no_answer` and `away` are this client's own. */
export class PeakgateError extends Error {
  constructor(code, message, { retryable = false, param, retry_after_ms } = {}) {
    super(message);
    Object.assign(this, { name: "PeakgateError", code, retryable, param, retry_after_ms });
  }
}

/** A key nobody has used; also where there is no crypto. */
export function freshKey() {
  const bytes = new Uint8Array(12);
  if (globalThis.crypto?.getRandomValues) crypto.getRandomValues(bytes);
  else bytes.forEach((_, at) => { bytes[at] = Math.random() * 256; });
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const browserSocket = (url) => new WebSocket(url, "peakgate.v1.json");
const steadyMs = () => globalThis.performance?.now?.() ?? Date.now();

export class Room {
  #listeners = new Map();
  #asks = new Map(); // by id: {frame, object, doubtful, resolve, reject, tries, timer, until}
  #options;
  #token;
  #socket = null;
  #greeted = false;
  #place = null; // {epoch, seq} of the last tick seen
  #awaitsSnapshot = true;
  #awaitsToken = false; // the one it has has ended: with that it would be sent away for good
  #failures = 0;
  #openedAt = 0;
  #retryAfterMs = 0;
  #timer = null;
  #watch = null;
  #heardAt = 0;
  #pingedAt = null;
  #deadAfterMs = DEAD_AFTER_MS;
  #helloAt = 0;
  #clock = null; // {offset, rtt, at}
  #state = "closed";

  /** `url` is the room's `live_url`; `refreshToken` makes a fresh token; `storage` keeps keys over a reload (null: not). */
  constructor({ url, token, refreshToken, connect = browserSocket, storage = globalThis.sessionStorage ?? null, random = Math.random }) {
    this.#options = { url, refreshToken, connect, storage, random };
    this.#token = token;
    for (const { frame, object } of this.#stored()) this.#asks.set(frame.id, { frame, object, tries: 0 });
  }

  /** Where it stands: `connecting`, `open`, `waiting` (comes back), `away` (stays away) or `closed`. */
  get state() { return this.#state; }

  /** The gateway's time, in ms; this device's own until the first answer. */
  now() { return (this.#clock ? this.#clock.offset + steadyMs() : Date.now()); }

  /** Calls `listener` for `welcome`, `snapshot`, `tick`, `event` (each of a tick), `order`, `claim`, `known` (what became of a key
   *  of before), `figures`, `feed`, `state`. Returns what ends it. */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  open() {
    if (this.#state === "connecting" || this.#state === "open") return;
    clearTimeout(this.#timer);
    this.#become("connecting");
    this.#connect();
  }

  close() { this.#leave("closed", new PeakgateError("away", "This client left.")); }

  /** A place for one order. Resolves with its true answer (`outcome`, `order`, `amount_minor` …), asked again under its key over
   *  reconnects and errors that pass; rejects after `withinMs`, and then `known` or an `order` may still tell. */
  order(request, { key = freshKey(), withinMs = 30_000 } = {}) { return this.#ask({ t: "order", ...request, id: key }, withinMs); }

  /** A copy of a coupon, in the same way. */
  claim(coupon, { key = freshKey(), withinMs = 30_000 } = {}) { return this.#ask({ t: "claim", coupon, id: key }, withinMs); }

  /** Resolves with `posted` or why nobody sees it. */
  comment(text, { id = freshKey(), withinMs = 30_000 } = {}) { return this.#ask({ t: "comment", text, id }, withinMs); }

  /** Taps since the last call; lost while the socket is away. */
  like(n = 1) { return this.#send({ t: "like", n: Math.min(n, 100) }); }

  /** The product bag was opened. */
  enter(sale) { return this.#send(sale ? { t: "enter", sale } : { t: "enter" }); }

  /** To be called when the page or app is seen again: a socket that died meanwhile is noticed at once. */
  wake() {
    if (this.#state === "waiting" && !this.#awaitsToken) this.open();
    else if (this.#greeted) this.#ping(DEAD_AFTER_WAKE_MS);
  }

  // Asking.

  #ask(frame, withinMs) {
    if (this.#state === "away") return Promise.reject(new PeakgateError("away", "The room is closed to this client."));
    const had = this.#asks.get(frame.id);
    if (had && JSON.stringify(had.frame) !== JSON.stringify(frame)) {
      return Promise.reject(new PeakgateError("key_reused", "This key is on its way with other content."));
    }
    return new Promise((resolve, reject) => {
      const ask = had ?? { frame, tries: 0 };
      this.#tell(ask, new PeakgateError("no_answer", "Asked for again meanwhile."));
      ask.resolve = resolve;
      ask.reject = reject;
      ask.until = setTimeout(() => {
        this.#tell(ask, new PeakgateError("no_answer", "There is no answer yet; the same key still tells."));
        if (frame.t === "comment") this.#drop(ask);
      }, withinMs);
      this.#asks.set(frame.id, ask);
      this.#store();
      this.#put(ask);
    });
  }

  #put(ask) {
    clearTimeout(ask.timer);
    if (!this.#greeted) return; // asked at the next welcome
    this.#send(ask.frame);
    ask.timer = setTimeout(() => ask.resolve && this.#put(ask), ASK_AGAIN_AFTER_MS);
  }

  #putLater(ask, asked = 0) {
    clearTimeout(ask.timer);
    ask.timer = setTimeout(() => this.#put(ask), asked + this.#jitter(ask.tries++));
  }

  /** Tells who waits for it, if anybody does. */
  #tell(ask, answer) {
    clearTimeout(ask.until);
    clearTimeout(ask.timer);
    const { resolve, reject } = ask;
    ask.resolve = ask.reject = undefined;
    if (answer instanceof Error) reject?.(answer);
    else resolve?.(answer);
  }

  #drop(ask) {
    clearTimeout(ask.timer);
    this.#asks.delete(ask.frame.id);
    this.#store();
  }

  // What the gateway says.

  #replied(frame) {
    const ask = this.#asks.get(frame.id);
    if (!ask) return;
    const kind = ask.frame.t, object = kind !== "comment" && frame[kind];
    if (object) {
      ask.object = object; // kept until it is confirmed, so that the next hello asks what became of it
      this.#store();
    } else if (frame.outcome !== "too_fast" || kind === "comment" || !ask.doubtful) {
      // `too_fast` was not looked at: it says nothing about an earlier try.
      this.#drop(ask);
    }
    this.#tell(ask, frame);
    if (object) this.#emit(kind, { ...ask.frame, ...frame, ...(kind === "order" ? { status: "reserved" } : { state: "claimed" }), t: kind });
  }

  #refused(frame) {
    const ask = this.#asks.get(frame.id);
    if (!ask || ask.object) return;
    const error = new PeakgateError(frame.code, frame.message, frame);
    if (frame.code === "outcome_unknown") ask.doubtful = true;
    if (error.retryable && ask.resolve) return this.#putLater(ask, frame.retry_after_ms);
    if (!error.retryable || !ask.doubtful) this.#drop(ask);
    this.#tell(ask, error);
  }

  #changed(frame) {
    for (const ask of this.#asks.values()) {
      if (ask.object && ask.object === frame[frame.t]) { this.#drop(ask); break; }
    }
    this.#emit(frame.t, frame);
  }

  #welcomed(frame) {
    this.#greeted = true;
    this.#openedAt = steadyMs();
    this.#learnTime(frame.now_ms, this.#helloAt);
    this.#awaitsSnapshot = !frame.recovered;
    if (!frame.recovered) this.#place = null;
    this.#become("open");
    this.#emit("welcome", frame);
    for (const known of [...(frame.orders ?? []), ...(frame.claims ?? [])]) {
      const ask = this.#asks.get(known.key);
      if (!ask) continue;
      if (known.outcome === "none") {
        // Nothing is held under it. Asked again if somebody waits, and never in nobody's name.
        if (ask.resolve) continue;
        this.#drop(ask);
      } else {
        ask.object = known.order ?? known.claim;
        this.#tell(ask, { t: "reply", id: known.key, ...known, replayed: true });
        if (!["reserved", "claimed"].includes(known.status ?? known.state)) this.#drop(ask);
      }
      this.#emit("known", known);
    }
    for (const ask of this.#asks.values()) if (ask.resolve) this.#put(ask);
  }

  #ticked(frame) {
    if (this.#awaitsSnapshot || (this.#place && frame.seq <= this.#place.seq)) return;
    if (this.#place) this.#place.seq = frame.seq;
    this.#emit("tick", frame);
    for (const event of frame.ev) this.#emit("event", event);
  }

  #received(text) {
    this.#heardAt = steadyMs();
    this.#pingedAt = null;
    let frame;
    try { frame = JSON.parse(text); } catch { return; }
    switch (frame.t) {
      case "tick": return this.#ticked(frame);
      case "reply": return this.#replied(frame);
      case "error": return this.#refused(frame);
      case "order": case "claim": return this.#changed(frame);
      case "welcome": return this.#welcomed(frame);
      case "snapshot":
        this.#awaitsSnapshot = false;
        this.#place = { epoch: frame.epoch, seq: frame.seq };
        return this.#emit("snapshot", frame);
      case "pong": return this.#learnTime(frame.now_ms, Number(frame.id));
      case "token_ending": return void this.#refresh().then((token) => token && this.#send({ t: "token", token }), () => {});
      case "bye": this.#retryAfterMs = frame.retry_after_ms ?? 0; return;
      default: return this.#emit(frame.t, frame);
    }
  }

  // The socket.

  #connect() {
    const socket = this.#options.connect(this.#options.url);
    this.#socket = socket;
    this.#retryAfterMs = 0;
    const current = () => this.#socket === socket;
    socket.onopen = () => {
      if (!current()) return;
      this.#helloAt = steadyMs();
      this.#heardAt = this.#helloAt;
      socket.send(JSON.stringify({ t: "hello", token: this.#token, resume: this.#place ?? undefined, pending: this.#named() }));
    };
    socket.onmessage = (message) => { if (current()) this.#received(message.data); };
    socket.onclose = (event) => { if (current()) this.#lost(event?.code ?? 1006); };
    socket.onerror = () => {};
    clearInterval(this.#watch);
    this.#watch = setInterval(() => this.#watchOver(), 1_000);
    this.#heardAt = steadyMs();
  }

  #watchOver() {
    const now = steadyMs();
    if (this.#pingedAt !== null ? now - this.#pingedAt > this.#deadAfterMs : !this.#greeted && now - this.#heardAt > DEAD_AFTER_MS * 2) {
      // A network that went away says nothing; nor would its close frame arrive.
      const socket = this.#socket;
      this.#lost(1006);
      socket.close();
    } else if (this.#greeted && this.#pingedAt === null && now - this.#heardAt > SILENT_AFTER_MS) this.#ping(DEAD_AFTER_MS);
  }

  #ping(deadAfterMs) {
    this.#deadAfterMs = deadAfterMs;
    this.#pingedAt = steadyMs();
    this.#send({ t: "ping", id: String(this.#pingedAt) });
  }

  #lost(code) {
    this.#forgetSocket();
    for (const ask of this.#asks.values()) {
      clearTimeout(ask.timer);
      ask.doubtful = true;
    }
    if (code === TAKE_SNAPSHOT) this.#place = null;
    const hasHook = this.#options.refreshToken;
    if (!(COME_BACK.has(code) || (code >= 4000 && code < 4500)) || (code === TOKEN_ENDED && !hasHook)) {
      return this.#leave("away", new PeakgateError("away", `The gateway closed the socket with ${code}.`), code);
    }
    if (this.#openedAt && steadyMs() - this.#openedAt > STEADY_AFTER_MS) this.#failures = 0;
    this.#openedAt = 0;
    this.#awaitsToken = code === TOKEN_ENDED;
    this.#become("waiting", code);
    const wait = this.#retryAfterMs + this.#jitter(this.#failures++);
    this.#timer = setTimeout(async () => {
      if (this.#awaitsToken) {
        try { await this.#refresh(); } catch { return this.#state === "waiting" && this.#lost(code); }
      }
      if (this.#state === "waiting") this.open();
    }, wait);
  }

  #leave(state, error, code) {
    const socket = this.#socket;
    this.#forgetSocket();
    clearTimeout(this.#timer);
    socket?.close(1000);
    this.#become(state, code);
    for (const ask of this.#asks.values()) this.#tell(ask, error);
  }

  #forgetSocket() {
    this.#socket = null;
    this.#greeted = false;
    this.#pingedAt = null;
    clearInterval(this.#watch);
  }

  async #refresh() {
    if (!this.#options.refreshToken) return null;
    this.#token = await this.#options.refreshToken();
    return this.#token;
  }

  #send(frame) {
    if (this.#greeted) this.#socket.send(JSON.stringify(frame));
    return this.#greeted;
  }

  /** Full jitter, so that a crowd that was cut at once does not come back at once. */
  #jitter(failures) { return this.#options.random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(failures, 16)); }

  /** Of several answers the one that took the shortest way says the time best, until it is old. */
  #learnTime(nowMs, askedAt) {
    const at = steadyMs(), rtt = at - askedAt;
    if (!(rtt >= 0)) return;
    if (!this.#clock || rtt <= this.#clock.rtt || at - this.#clock.at > 120_000) {
      this.#clock = { offset: nowMs + rtt / 2 - at, rtt, at };
    }
  }

  // Keys over a reload.

  get #storedAs() { return `peakgate:${this.#options.url}`; }

  #named() {
    const named = [];
    for (const { frame } of this.#asks.values()) {
      if (frame.t === "order") named.push({ sale: frame.sale, key: frame.id });
      else if (frame.t === "claim") named.push({ coupon: frame.coupon, key: frame.id });
    }
    return named.slice(-MAX_PENDING);
  }

  #store() {
    const kept = [];
    for (const { frame, object } of this.#asks.values()) if (frame.t !== "comment") kept.push({ frame, object });
    try { this.#options.storage?.setItem(this.#storedAs, JSON.stringify(kept.slice(-MAX_PENDING))); } catch { /* full or forbidden */ }
  }

  #stored() {
    try { return JSON.parse(this.#options.storage?.getItem(this.#storedAs) ?? "[]"); } catch { return []; }
  }

  #become(state, code) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", { state, code });
  }

  #emit(name, value) {
    for (const listener of this.#listeners.get(name) ?? []) {
      // One listener's fault keeps nothing from the others.
      try { listener(value); } catch (error) { setTimeout(() => { throw error; }); }
    }
  }
}
