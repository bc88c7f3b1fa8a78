// Handing a paid order over for its code, once. A scanner that types and ends with Enter works as well as a hand.

import { html, useRef, useSignal, Icon } from "../ui/ui.js";
import { clockTime, count, dayTime, money } from "../ui/format.js";
import { freshKey } from "peakgate";
import { explain } from "./errors.js";
import { t } from "./talk-words.js";

const open = new Map(); // by code the key of an attempt without a true answer, also when another panel was looked at meanwhile
const LONGEST = 40, MOST_SHOWN = 8;
const DAY_MS = 86_400_000;
const UNKNOWN = new Set(["offline", "outcome_unknown", "unavailable", "overloaded", "internal", "unauthorized"]);

export function Pickup({ desk }) {
  const code = useSignal(""), answer = useSignal(null), isAsking = useSignal(false), done = useSignal([]);
  const input = useRef(null);
  const redeem = async (event) => {
    event?.preventDefault();
    const asked = plain(code.value);
    if (!asked || isAsking.value) return;
    isAsking.value = true;
    if (!open.has(asked)) open.set(asked, freshKey());
    try {
      const order = await desk.http.post(`/v1/pickups/${encodeURIComponent(asked)}/redeem`, undefined, { key: open.get(asked) });
      const title = await titleOf(desk, order);
      answer.value = { look: "good", icon: "check", order, title };
      done.value = [{ order, title, at_ms: desk.now() },
        ...done.value.filter((each) => each.order.order !== order.order)].slice(0, MOST_SHOWN);
      open.delete(asked);
    } catch (error) {
      answer.value = { look: error.code === "already_redeemed" ? "warn" : "bad", icon: "warn", error };
      // An unknown outcome keeps its key: asked again it is answered as the same attempt, not as a second one.
      if (!UNKNOWN.has(error.code)) open.delete(asked);
    } finally {
      isAsking.value = false;
      input.current?.focus();
      input.current?.select();
    }
  };
  return html`<section class="card panel stack" aria-label=${t("pickup")}>
    <h2>${t("pickup")}</h2>
    <form class="stack tight" onSubmit=${redeem}>
      <div class="field"><label for="pickup-code">${t("pickupAsk")}</label>
        <input id="pickup-code" ref=${input} class="input pickup-code" maxlength=${LONGEST}
          placeholder="XXXXX-XXXXX" autocomplete="off" autocapitalize="characters"
          spellcheck=${false} enterkeyhint="go"
            value=${code.value} onInput=${(event) => { code.value = event.target.value; }}
            onFocus=${(event) => event.target.select()} /></div>
      <button type="submit" class="button primary large" disabled=${!plain(code.value)}
        aria-busy=${isAsking.value ? "true" : null}>${t("redeem")}</button>
    </form>
    <div role="status" aria-live="assertive">${answer.value && html`<${Answer} ...${answer.value} />`}</div>
    ${done.value.length > 0 && html`<h3>${t("redeemedHere")}</h3><ul class="said">
      ${done.value.map(({ order, title, at_ms }) => html`<li key=${order.order} class="spread">
      <span class="grow"><time class="soft small number">${clockTime(at_ms)}</time> ${count(order.quantity)} × ${title}</span>
      <span class="soft small">${order.sub}</span></li>`)}</ul>`}
  </section>`;
}

const plain = (text) => text.replace(/\s+/g, "").toUpperCase();

function Answer({ look, icon, order, title, error }) {
  return html`<div class=${`note ${look} pickup-answer`}><${Icon} name=${icon} size=${28} />
    <div>${error ? html`<p class="strong">${refusal(error)}</p>` : html`
      <p class="strong pickup-what">${t("handOver", { n: count(order.quantity), title })}</p>
      <p>${t("pickupOf", { sub: order.sub ?? "" })} · <span class="number">${money(order.amount_minor, order.currency)}</span>
        ${" "}· ${t("status_paid")}</p>
      ${order.pickup?.place && html`<p>${t("pickupPlace", { place: order.pickup.place })}</p>`}
      <p class="small">${order.order}</p>`}</div>
  </div>`;
}

function refusal(error) {
  const { code, redeemed_at, retry_after_ms } = error;
  if (code === "already_redeemed") return redeemed_at ? t("already", { time: whenRedeemed(redeemed_at) }) : t("alreadyOnce");
  if (code === "not_found" || code === "invalid") return t("unknownCode");
  if (code === "conflict") return t("notPaid", { detail: error.message });
  if (code === "rate_limited") return t("tooMany", { s: count(Math.max(1, Math.ceil((retry_after_ms ?? 1000) / 1000))) });
  return UNKNOWN.has(code) && code !== "unauthorized" ? t("pickupUnsure") : explain(error);
}

const whenRedeemed = (at) => (Date.now() - Date.parse(at) < DAY_MS / 2 ? clockTime(at, { seconds: true }) : dayTime(at));

/** What the item is called; its sale may be one of another room, or of none. */
async function titleOf(desk, order) {
  const ofSale = (sale) => sale?.items.find(({ sku }) => sku === order.sku)?.title;
  const known = ofSale(desk.sales.value.find(({ sale }) => sale === order.sale));
  if (known) return known;
  try { return ofSale(await desk.http.get(`/v1/sales/${encodeURIComponent(order.sale)}`)) ?? order.sku; } catch { return order.sku; }
}
