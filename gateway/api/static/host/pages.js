// A list of the gateway's, read page by page.

import { batch, signal } from "../ui/ui.js";

const MOST_ITEMS = 1_000; // of a list that somebody keeps unfolding; for more there are exports

/** `path()` says what to read, or null for nothing now; `idOf` tells items apart. Nothing is asked before `refresh`. */
export function openPages({ http, path, idOf, limit = 50 }) {
  const items = signal([]), next = signal(null), state = signal("idle"), error = signal(null);
  let asked = 0, from = null;

  async function read(after) {
    const address = path(), mine = ++asked;
    if (address !== from) clear();
    from = address;
    if (!address) return;
    if (state.value !== "read") state.value = "reading";
    const more = after ? `&after=${encodeURIComponent(after)}` : "";
    try {
      const page = await http.get(`${address}${address.includes("?") ? "&" : "?"}limit=${limit}${more}`);
      if (mine === asked && address === from) batch(() => put(page, after));
    } catch (problem) {
      if (mine === asked) batch(() => { error.value = problem; state.value = "failed"; });
    }
  }

  function put(page, after) {
    const had = items.value;
    if (after) {
      const known = new Set(had.map(idOf));
      items.value = [...had, ...page.items.filter((item) => !known.has(idOf(item)))];
      next.value = items.value.length >= MOST_ITEMS ? null : page.next;
    } else {
      // A first page that is read anew keeps what was unfolded behind it, unless so much is new that something lies between.
      const last = page.next === null ? -1 : had.findIndex((item) => idOf(item) === idOf(page.items.at(-1)));
      const behind = last < 0 ? [] : had.slice(last + 1);
      items.value = [...page.items, ...behind].slice(0, MOST_ITEMS);
      if (!behind.length) next.value = page.next;
    }
    error.value = null;
    state.value = "read";
  }

  const clear = () => batch(() => {
    items.value = [];
    next.value = error.value = null;
    state.value = "idle";
  });

  return {
    items, next, state, error,
    refresh: () => read(null),
    more: () => read(next.value),
    change: (id, changes) => { items.value = items.value.map((item) => (idOf(item) === id ? { ...item, ...changes } : item)); },
    remove: (id) => { items.value = items.value.filter((item) => idOf(item) !== id); },
  };
}
