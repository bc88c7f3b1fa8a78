// Leads to the viewer's orders and coupons, and says how many orders are to be paid.

import { html, Icon } from "../ui/ui.js";
import { mineOpen } from "./sheets.js";
import { t } from "./shop-words.js";

export function MineButton({ basket }) {
  const due = basket.orders.value.filter(({ status }) => status === "confirmed").length;
  return html`<button class="button quiet round mine-button" type="button" title=${t("orders")}
      aria-label=${due ? t("my_orders_n", { n: due }) : t("orders")} onClick=${() => { mineOpen.value = true; }}>
    <${Icon} name="list" />${due > 0 && html`<span class="count-dot number" aria-hidden="true">${due}</span>`}</button>`;
}
