// Before a show starts or a sale opens: the pre-flight, and only then a button that is live.

import { html, useSignal, Button } from "../ui/ui.js";
import { Preflight, readiness } from "./preflight.js";
import { t as preflight_t } from "./preflight-words.js";
import { t } from "./room-words.js";
import { t as sale_t } from "./sale-words.js";

const ANSWERED_BY_START = ["room"];

export function StartShow({ desk, done }) {
  const isSure = useSignal(false), room = desk.room.value;
  const sales = desk.sales.value.filter((sale) => sale.state !== "closed");
  const isUnread = room.sales.some(({ sale }) => !desk.sales.value.some((each) => each.sale === sale));
  const states = sales.map((sale) => readiness(sale, desk.second.value, ANSWERED_BY_START));
  const missing = isUnread ? "unread" : states.find((state) => state !== "go");
  const start = async () => {
    if (await desk.act("POST", `/v1/rooms/${encodeURIComponent(room.room)}/start`, undefined, { done: t("startDone") })) done();
  };
  return html`<div class="stack">
    ${sales.length > 0 && html`<${Preflight} desk=${desk} sales=${sales} answered=${ANSWERED_BY_START} />`}
    ${!sales.length && !isUnread && html`<p class="note warn">${t("noSale")}</p>
      <label class="tick"><input type="checkbox" checked=${isSure.value} onChange=${(event) => { isSure.value = event.target.checked; }} />
        <span>${t("noSaleSure")}</span></label>`}
    <${GoButton} label=${t("startNow")} missing=${missing} disabled=${!sales.length && !isSure.value} does=${start} />
  </div>`;
}

export function OpenSale({ desk, sale, done }) {
  const state = readiness(sale, desk.second.value);
  const open = async () => {
    if (await desk.act("POST", `/v1/sales/${encodeURIComponent(sale.sale)}/open`, undefined, { done: sale_t("opened") })) done();
  };
  return html`<div class="stack">
    <${Preflight} desk=${desk} sales=${[sale]} />
    <${GoButton} label=${sale_t("openNow")} missing=${state === "go" ? undefined : state} does=${open} />
  </div>`;
}

/** `missing`: what keeps it from being live, by the word of `readiness`. */
function GoButton({ label, missing, disabled = false, does }) {
  return html`<${Button} kind="primary large" disabled=${disabled || missing !== undefined} does=${does}
      aria-describedby="go-why">${label}<//>
    <p id="go-why" class="soft small" role="status">${missing && preflight_t(`why_${missing}`)}</p>`;
}
