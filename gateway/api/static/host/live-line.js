// What the chosen room is told, by its socket: each frame is taken up in one batch, so that a tick is drawn once.

import { Room } from "peakgate";
import { batch, signal } from "../ui/ui.js";

const MOST_COMMENTS = 200, MOST_ORDERS = 100;

export class LiveLine {
  client = signal(null);
  /** "connecting", "open", "waiting", "away" or "closed". */
  link = signal("closed");
  code = signal(null);
  viewers = signal(null);
  likes = signal(0);
  chat = signal({ slow_mode_s: 0, comments: "on" });
  pin = signal(null);
  announcement = signal(null);
  /** Oldest first. */
  comments = signal([]);
  /** Comments that a busy room did not show. */
  skipped = signal(0);
  figures = signal(null);
  /** Newest first, each as it is now. */
  feed = signal([]);
  /** Changes of orders that the feed did not show. */
  feedMissed = signal(0);
  #options;

  /** `onRoom()`, `onSale(sale)` and `onFigures()` are told when there is something new to ask for. */
  constructor(options) { this.#options = options; }

  /** The gateway's ms. */
  now() { return this.client.peek()?.now() ?? Date.now(); }

  join(url) {
    const { token, refreshToken } = this.#options;
    // A host places no orders, so no keys are kept.
    const client = new Room({ url, token: token(), refreshToken, storage: null });
    client.on("state", ({ state, code }) => batch(() => {
      this.link.value = state;
      this.code.value = code ?? null;
    }));
    client.on("snapshot", (snapshot) => batch(() => this.#begin(snapshot)));
    client.on("tick", (tick) => batch(() => this.#take(tick)));
    client.on("figures", ({ t: _, ...figures }) => {
      this.figures.value = figures;
      this.#options.onFigures();
    });
    client.on("feed", (frame) => this.#feedOn(frame));
    this.client.value = client;
    client.open();
  }

  leave() {
    const client = this.client.peek();
    batch(() => {
      this.client.value = null;
      client?.close();
      this.link.value = "closed";
    });
  }

  forget() {
    this.viewers.value = this.pin.value = this.announcement.value = this.figures.value = this.code.value = null;
    this.likes.value = this.skipped.value = this.feedMissed.value = 0;
    this.comments.value = [];
    this.feed.value = [];
    this.chat.value = { slow_mode_s: 0, comments: "on" };
  }

  #begin(snapshot) {
    this.viewers.value = snapshot.viewers;
    this.likes.value = snapshot.likes;
    this.pin.value = snapshot.pin;
    this.chat.value = snapshot.chat;
    // What was read before stays: a host looks for what was said while the socket was away.
    const known = new Set(this.comments.value.map((each) => each.comment));
    this.#add(snapshot.recent.filter((each) => !known.has(each.comment)).map(plain));
    this.#options.onRoom();
  }

  #take(tick) {
    if (tick.viewers !== undefined) this.viewers.value = tick.viewers;
    if (tick.likes !== undefined) this.likes.value = tick.likes;
    if (tick.skipped) this.skipped.value += tick.skipped;
    const said = [];
    for (const event of tick.ev) {
      switch (event.k) {
        case "comment": said.push(plain(event)); break;
        case "comment_gone": this.#takeBack(event, said); break;
        case "pin": this.pin.value = event.pin; break;
        case "chat": this.chat.value = { slow_mode_s: event.slow_mode_s, comments: event.comments }; break;
        case "announce": this.announcement.value = { text: event.text, at_ms: tick.now_ms }; break;
        case "room": this.#options.onRoom(); break;
        case "sale": case "price": case "stock": this.#options.onSale(event.sale); break;
      }
    }
    if (said.length) this.#add(said);
  }

  #add(said) { this.comments.value = [...this.comments.value, ...said].slice(-MOST_COMMENTS); }

  /** Of one comment, or of all that a viewer has said so far. Hosts see what it was, marked. */
  #takeBack({ comment, viewer }, said) {
    const isMeant = (each) => (comment ? each.comment === comment : each.viewer === viewer);
    const marked = (each) => (isMeant(each) ? { ...each, gone: true } : each);
    said.forEach((each, at) => { said[at] = marked(each); });
    this.comments.value = this.comments.value.map(marked);
  }

  #feedOn({ orders, more = 0 }) {
    const latest = new Map(this.feed.value.map((order) => [order.order, order]));
    for (const order of orders) latest.set(order.order, order);
    batch(() => {
      this.feedMissed.value += more;
      this.feed.value = [...latest.values()].sort(newestFirst).slice(0, MOST_ORDERS);
    });
  }
}

/** Of orders of one millisecond the ids say which came later. */
const newestFirst = (one, other) => other.created_at_ms - one.created_at_ms || (one.order < other.order ? 1 : -1);
const plain = ({ k: _, ...comment }) => comment;
