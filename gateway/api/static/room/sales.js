// The room's sales as they stand: told by the snapshot, kept by events, and their price plans asked for.

import { signal } from "@preact/signals";

const MOST_SALES = 50, PLAN_WITHIN_MS = 2_500;
const ms = (instant) => Date.parse(instant);

/** A sale as HTTP has it, in the words of the socket, with the price plans. */
const saleOf = ({ sale, title, state, currency, opens_at, closes_at, items }) => ({
  sale, title, state, currency, opens_at_ms: ms(opens_at), closes_at_ms: ms(closes_at), items: items.map(itemOf),
});

function itemOf({ sku, title, price_minor, list_price_minor = null, limit_per_viewer, image_url = null, left, low, prices }) {
  const item = { sku, title, price_minor, list_price_minor, limit_per_viewer, image_url };
  if (left !== undefined) item.left = left;
  if (low !== undefined) item.low = low;
  if (prices) item.prices = prices.map((step) => ({ from: step.from, from_ms: ms(step.from), price_minor: step.price_minor }));
  return item;
}

export function openSales({ http, now }) {
  const sales = signal([]);
  const asking = new Map(); // by sale: the timer of its next question

  const changeSale = (id, change) => {
    sales.value = sales.peek().map((sale) => (sale.sale === id ? { ...sale, ...change(sale) } : sale));
  };
  const changeItem = (id, sku, change) => changeSale(id, (sale) => ({
    items: sale.items.map((item) => (item.sku === sku ? { ...item, ...change(item) } : item)),
  }));

  /** The sale by HTTP: the plan of its prices; all of it where the socket has not told of it. */
  async function refresh(id) {
    const fresh = saleOf(await http.get(`/v1/sales/${encodeURIComponent(id)}`));
    const known = sales.peek().find((sale) => sale.sale === id);
    if (!known) {
      sales.value = [fresh, ...sales.peek()].slice(0, MOST_SALES);
      return;
    }
    // Stock and price are the socket's to tell: an answer of HTTP may be older than the last tick.
    const plans = new Map(fresh.items.map((item) => [item.sku, item]));
    changeSale(id, (sale) => {
      const items = sale.items.map((item) => ({ ...item, prices: plans.get(item.sku)?.prices }));
      const had = new Set(items.map((item) => item.sku));
      return { items: [...items, ...fresh.items.filter((item) => !had.has(item.sku))] };
    });
  }

  /** A crowd hears the same event; it does not ask in the same moment. */
  function ask(id, within = PLAN_WITHIN_MS) {
    if (asking.has(id)) return;
    asking.set(id, setTimeout(() => {
      asking.delete(id);
      refresh(id).catch(() => {});
    }, Math.random() * within));
  }

  const isPlanned = (item, price) => {
    const step = item?.prices?.filter(({ from_ms }) => from_ms <= now() + 5_000).at(-1);
    return step?.price_minor === price;
  };

  return {
    sales,
    refresh,
    find(id, sku) {
      const sale = sales.value.find((each) => each.sale === id), item = sale?.items.find((each) => each.sku === sku);
      return item ? { sale, item } : null;
    },
    start(told) {
      const plans = new Map(sales.peek().flatMap((sale) => sale.items.map((item) => [`${sale.sale}/${item.sku}`, item.prices])));
      sales.value = told.map((sale) => ({ ...sale, items: sale.items.map((item) => {
        const prices = plans.get(`${sale.sale}/${item.sku}`);
        return prices ? { ...item, prices } : item;
      }) }));
      for (const sale of told) if (sale.state !== "closed") ask(sale.sale);
    },
    hear(event) {
      const known = sales.peek().find((sale) => sale.sale === event.sale);
      if (!known) return ask(event.sale);
      switch (event.k) {
        case "stock": return changeItem(event.sale, event.sku, () => ({ left: event.left, low: event.low }));
        case "price": {
          // A step of the plan that is known changes nothing of it; another price ends it.
          if (!isPlanned(known.items.find((item) => item.sku === event.sku), event.price_minor)) ask(event.sale);
          return changeItem(event.sale, event.sku, () => ({ price_minor: event.price_minor }));
        }
        case "sale": {
          const { state, opens_at_ms, closes_at_ms, title } = event;
          return changeSale(event.sale, (sale) => ({ state, opens_at_ms, closes_at_ms, title: title ?? sale.title }));
        }
      }
    },
  };
}
