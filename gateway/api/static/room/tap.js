// The buy button of an item and, under it, what became of the tap: at once that it is asked, within a second the true answer.

import { computed, html, useMemo, Button } from "../ui/ui.js";
import { money } from "../ui/format.js";
import { heldUnits, phaseOf, placeOf } from "./offer.js";
import { moment, troubleWords, Countdown } from "./shop-parts.js";
import { t } from "./shop-words.js";
import { SOLD_OUT_FOR_MS, standingOf, UNITS_TOLD_WITHIN_MS } from "./standing.js";

export function TapButton({ show, basket, sale, item }) {
  const place = placeOf(sale.sale, item.sku);
  // Time changes what the button says a few times only; those moments draw it anew, not every second.
  useMemo(() => computed(() => {
    const now = show.second.value, tap = basket.taps.value.get(place);
    const since = tap?.seen && now - tap.seen.at_ms;
    return [phaseOf(sale, now), since > SOLD_OUT_FOR_MS, since > UNITS_TOLD_WITHIN_MS, tap?.answer?.opens_at_ms > now].join();
  }), [sale, place, basket]).value;

  const tap = basket.taps.value.get(place), orders = basket.orders.value, offer = basket.offer(sale, item);
  const order = tap?.answer?.order ? orders.find((each) => each.order === tap.answer.order) : undefined;
  const held = heldUnits(orders, sale.sale, item.sku), now = show.now();
  const standing = standingOf({ sale, item, tap, order, held, offer, now });
  const amount = money(offer.amount_minor, sale.currency);
  return html`<div class="tap">
    <${Button} kind=${`${standing.kind} tap-button`} busy=${standing.busy} disabled=${standing.off}
        does=${() => basket.tap(sale, item, offer)} aria-label=${`${t(standing.label, { amount })}: ${item.title}`}>
      <span class="number">${t(standing.label, { amount })}
        ${standing.label === "before" && html` <${Countdown} show=${show} until=${sale.opens_at_ms} />`}</span>
    <//>
    <p class=${`tap-note ${standing.note?.tone ?? ""}`} role="status" aria-live="polite">
      ${standing.note && wordsOf(standing.note, { sale, now })}</p>
  </div>`;
}

function wordsOf({ key, facts }, { sale, now }) {
  if (key === "tap_confirmed" && !facts.at_ms) return t("tap_confirmed_open");
  return t(key, {
    ...facts,
    time: facts.at_ms === undefined ? undefined : moment(facts.at_ms, now),
    amount: facts.amount_minor === undefined ? undefined : money(facts.amount_minor, sale.currency),
    trouble: facts.code === undefined ? undefined : troubleWords(facts.code),
  });
}
