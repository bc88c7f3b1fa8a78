// The sales of the chosen room as hosts see them. A sale is asked for anew at most once a second when something happened in it,
// and each ten seconds otherwise: a lost answer is made good soon.

import { batch, signal } from "../ui/ui.js";
import { Pace } from "./pace.js";

const SOON_MS = 1_000, EVERY_MS = 10_000, CLOSED_EVERY_MS = 60_000, AT_ONCE = 4;

export class SaleWatch {
  /** As `GET /v1/sales/{sale}` gives them, each with `seen_ms`; in the order of the room. */
  sales = signal([]);
  /** By "sale/sku": what was taken over the last minute, `{units, over_ms}`. */
  pace = signal(new Map());
  #http;
  #now;
  #order = [];
  #kept = new Map(); // by sale: its object
  #asking = new Map(); // by sale: the question that runs
  #again = new Set(); // asked for while a question ran, whose answer may be older
  #soon = new Map(); // by sale: the timer of the next question
  #paces = new Map();
  #timer = null;

  constructor({ http, now }) {
    this.#http = http;
    this.#now = now;
  }

  knows(sale) { return this.#order.includes(sale); }

  follow(sales) {
    this.#order = sales;
    for (const sale of this.#kept.keys()) if (!sales.includes(sale)) this.#kept.delete(sale);
    const fresh = sales.filter((sale) => !this.#kept.has(sale));
    void this.#each(fresh);
    this.#timer ??= setInterval(() => this.#each(this.#order.filter((sale) => this.#isDue(sale))), EVERY_MS);
  }

  forget() {
    clearInterval(this.#timer);
    this.#soon.forEach(clearTimeout);
    this.#timer = null;
    this.#order = [];
    for (const part of [this.#kept, this.#asking, this.#again, this.#soon, this.#paces]) part.clear();
    batch(() => {
      this.sales.value = [];
      this.pace.value = new Map();
    });
  }

  /** At once; a question that runs already is followed by another. */
  refresh(sale) {
    const runs = this.#asking.get(sale);
    if (runs) {
      this.#again.add(sale);
      return runs;
    }
    const asked = this.#ask(sale).finally(() => {
      if (this.#asking.get(sale) !== asked) return;
      this.#asking.delete(sale);
      if (this.#again.delete(sale)) this.refreshSoon(sale);
    });
    this.#asking.set(sale, asked);
    return asked;
  }

  refreshSoon(sale) {
    if (this.#soon.has(sale) || !this.knows(sale)) return;
    const since = Date.now() - (this.#kept.get(sale)?.asked_ms ?? 0);
    this.#soon.set(sale, setTimeout(() => {
      this.#soon.delete(sale);
      void this.refresh(sale);
    }, Math.max(50, SOON_MS - since)));
  }

  /** Orders changed somewhere in the room. */
  refreshOpenSoon() {
    for (const sale of this.#kept.values()) if (sale.state === "open" || sale.state === "paused") this.refreshSoon(sale.sale);
  }

  /** Of a closed one only payments still come. */
  #isDue(sale) {
    const kept = this.#kept.get(sale);
    return kept?.state !== "closed" || Date.now() - kept.asked_ms > CLOSED_EVERY_MS;
  }

  async #each(sales) {
    for (let at = 0; at < sales.length; at += AT_ONCE) {
      await Promise.all(sales.slice(at, at + AT_ONCE).map((sale) => this.refresh(sale)));
    }
  }

  async #ask(sale) {
    const asked_ms = Date.now();
    let found;
    try { found = await this.#http.get(`/v1/sales/${encodeURIComponent(sale)}`); } catch { return null; }
    if (!this.knows(sale)) return null;
    this.#kept.set(sale, { ...found, asked_ms, seen_ms: this.#now() });
    for (const item of found.items) {
      const name = `${sale}/${item.sku}`;
      if (item.left === undefined) continue;
      if (!this.#paces.has(name)) this.#paces.set(name, new Pace());
      this.#paces.get(name).saw(this.#now(), item.stock - item.left);
    }
    batch(() => {
      this.sales.value = this.#order.map((each) => this.#kept.get(each)).filter(Boolean);
      this.pace.value = new Map([...this.#paces].map(([name, pace]) => [name, pace.lately()]));
    });
    return found;
  }
}
