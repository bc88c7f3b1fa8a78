// This viewer's coupons: what is claimed, what can be used, and the grabs that are on their way.

import { computed, effect, signal, untracked } from "@preact/signals-core";
import { freshKey } from "peakgate";
import { keepIn, keptIn } from "./kept.js";
import { ms } from "./orders.js";

const MOST = 200, SLOW_MS = 1_500, INSIST_MS = 15_000, LOAD_SOON_MS = 150, LOAD_AGAIN_MS = 4_000, LOAD_EVERY_S = 5;
const REST_MS = 700; // after an answer: the second half of a double tap is no second grab

const claimOf = (told) => ({
  claim: told.claim, coupon: told.coupon, title: told.title, kind: told.kind, state: told.state, currency: told.currency,
  threshold_minor: told.threshold_minor, value_minor: told.value_minor, percent: told.percent, valid_until_ms: ms(told.valid_until),
  claimed_at_ms: ms(told.claimed_at), order: told.order,
});

/** `steady` is a clock that only goes on. */
export function openClaims({ show, http, storage, keptAs, steady }) {
  const all = signal([]); // newest first
  const grabs = signal(new Map()); // by coupon: {state: "asking" | "unsure" | "answered", live, key, answer?}
  const unspent = new Map(); // by coupon: the key that no claim holds yet
  const changes = new Map(); // by claim: which change told of it last
  let change = 0, loading = null, soon = null, over = false, seconds = 0;

  /** Those that can be used now. */
  const usable = computed(() => all.value.filter((claim) => claim.state === "confirmed" && claim.kind));

  /** All claims by HTTP. What a frame told meanwhile is newer. */
  async function load() {
    const since = change;
    const { items } = await http.get(`/v1/coupon-claims?limit=${MOST}`);
    const known = new Map(all.peek().map((claim) => [claim.claim, claim]));
    const told = items.map(claimOf);
    for (const claim of told) {
      if ((changes.get(claim.claim) ?? 0) > since) claim.state = known.get(claim.claim)?.state ?? claim.state;
    }
    const ids = new Set(told.map(({ claim }) => claim));
    // What is not in the ledger yet is known by its frame only.
    all.value = [...all.peek().filter((claim) => !ids.has(claim.claim) && !claim.kind), ...told].slice(0, MOST);
  }

  function loadSoon(wait = LOAD_SOON_MS) {
    if (loading || over) { soon = wait; return; }
    loading = setTimeout(async () => {
      let again = null;
      try { await load(); } catch { again = LOAD_AGAIN_MS; }
      loading = null;
      again ??= soon;
      soon = null;
      if (again !== null) loadSoon(again);
    }, wait);
  }

  function take(told) {
    changes.set(told.claim, ++change);
    const known = all.peek().find(({ claim }) => claim === told.claim);
    const claim = { ...known, claim: told.claim, state: told.state, ...(told.coupon ? { coupon: told.coupon } : {}),
      ...(told.value_minor === undefined ? {} : { value_minor: told.value_minor }) };
    all.value = known ? all.peek().map((each) => (each === known ? claim : each)) : [claim, ...all.peek()].slice(0, MOST);
    // A frame says neither the kind nor what it is worth.
    if (!claim.kind && told.state !== "claimed") loadSoon();
  }

  const put = (coupon, grab) => { grabs.value = new Map(grabs.peek()).set(coupon, grab); keep(); };

  function grab(coupon) {
    const last = grabs.peek().get(coupon);
    if (last?.live || (last && steady() - (last.told ?? -Infinity) < REST_MS)) return;
    const key = unspent.get(coupon) ?? freshKey();
    unspent.set(coupon, key);
    const { client } = show;
    if (!client || client.state === "away" || client.state === "closed") {
      return put(coupon, { state: "answered", key, answer: { outcome: "away" } });
    }
    ask(coupon, key, steady());
  }

  async function ask(coupon, key, began) {
    const grab = () => grabs.peek().get(coupon), isMine = () => !over && grab()?.key === key && grab().began === began;
    const doubt = () => { if (isMine() && grab().state === "asking") put(coupon, { ...grab(), state: "unsure" }); };
    put(coupon, { state: show.link.peek() === "open" ? "asking" : "unsure", live: true, key, began });
    const slow = setTimeout(doubt, SLOW_MS);
    try {
      const reply = await show.client.claim(coupon, { key });
      if (!isMine()) return;
      if (reply.outcome === "too_fast") {
        const wait = Math.max(200, reply.retry_after_ms ?? 1_000);
        if (steady() + wait - began < INSIST_MS) return void setTimeout(() => isMine() && ask(coupon, key, began), wait);
      }
      answered(coupon, key, reply, steady());
    } catch (error) {
      if (!isMine()) return;
      if (error.code === "no_answer" || error.code === "away") put(coupon, { state: "unsure", live: false, key });
      else answered(coupon, key, { outcome: "error", code: error.code }, steady());
    } finally { clearTimeout(slow); }
  }

  /** `told`: when the grab that waited for it was answered. */
  function answered(coupon, key, answer, told) {
    if (answer.claim) unspent.delete(coupon);
    put(coupon, { state: "answered", live: false, key, answer, told });
  }

  /** What became of a key of before. */
  function known(told) {
    if (told.coupon === undefined) return;
    const grab = grabs.peek().get(told.coupon), isOurs = grab?.key === told.key && !grab.live;
    if (told.claim) take({ claim: told.claim, coupon: told.coupon, state: told.state, value_minor: told.value_minor });
    if (isOurs) answered(told.coupon, told.key, told.claim ? claimed(told) : { outcome: "none" });
  }

  /** A `claim` frame; with the key and the coupon where it is the answer to a grab of this page. */
  function changed(told) {
    take(told);
    const grab = told.id === undefined ? undefined : grabs.peek().get(told.coupon);
    if (grab && grab.key === told.id && !grab.live) answered(told.coupon, told.id, claimed(told));
  }

  const claimed = ({ claim, value_minor }) => ({ outcome: "claimed", claim, value_minor });

  // What was not used in time has expired, which no frame tells; and a confirmation may have been missed.
  const stopExpiring = effect(() => {
    const now = show.second.value;
    untracked(() => {
      const isOver = (claim) => (claim.state === "confirmed" || claim.state === "claimed") && claim.valid_until_ms <= now;
      if (++seconds % LOAD_EVERY_S === 0 && all.value.some(({ state }) => state === "claimed")) loadSoon();
      if (all.value.some(isOver)) all.value = all.value.map((claim) => (isOver(claim) ? { ...claim, state: "expired" } : claim));
    });
  });

  function keep() {
    const kept = [...unspent].map(([coupon, key]) => ({ coupon, key, doubtful: grabs.peek().get(coupon)?.state !== "answered" }));
    keepIn(storage, keptAs, kept.slice(-20));
  }

  function remember() {
    for (const { coupon, key, doubtful } of keptIn(storage, keptAs)) {
      unspent.set(coupon, key);
      if (doubtful) put(coupon, { state: "unsure", live: false, key });
    }
  }

  return {
    all, usable, grabs, grab, known, changed, take, load, loadSoon, remember,
    close() { over = true; clearTimeout(loading); stopExpiring(); },
  };
}
